// Lines of the last five minutes, drawn by hand.

import { attr, el, say, svg } from './dom.js';

/** How long samples are kept and shown. */
export const WINDOW_MS = 5 * 60_000;
const WIDTH = 200;
const HEIGHT = 40;
/** Two samples further apart are not joined: nobody knows what was between. */
const GAP_MS = 75_000;

/**
 * A chart of one or two series. `series` are keys of the samples; `top` is the least value of the upper edge; `words(value)` says a value.
 * `update(samples, now)` draws samples `{ t, … }`, oldest first, whose values may be null.
 */
export function chart({ title, series, top, words }) {
  const value = el('span', { class: 'value' });
  const lines = series.map((_, index) => ({
    area: svg('path', { class: `area area-${index}` }),
    line: svg('path', { class: `line line-${index}`, 'vector-effect': 'non-scaling-stroke' }),
  }));
  const drawing = svg(
    'svg',
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' },
    svg('path', { class: 'grid', d: `M0 ${HEIGHT - 0.5}H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}`, 'vector-effect': 'non-scaling-stroke' }),
    ...lines.flatMap(({ area, line }) => [area, line]),
  );
  const root = el('figure', { class: 'chart' }, el('figcaption', {}, el('span', {}, title), value), drawing);
  return {
    root,
    update(samples, now) {
      const known = samples.filter((sample) => now - sample.t <= WINDOW_MS);
      const all = known.flatMap((sample) => series.map((key) => sample[key])).filter((one) => one !== null);
      const high = Math.max(top, ...all);
      series.forEach((key, index) => {
        const [line, area] = paths(known, key, now, high);
        attr(lines[index].line, 'd', line);
        attr(lines[index].area, 'd', area);
      });
      const last = known.at(-1);
      const shown = last ? words(last) : '–';
      say(value, shown);
      attr(drawing, 'aria-label', all.length > 0 ? `${title} in the last five minutes, now ${shown}` : `${title}: not known`);
    },
  };
}

/** A line, and the area below it. */
function paths(samples, key, now, high) {
  const point = (sample) => {
    const x = WIDTH - ((now - sample.t) / WINDOW_MS) * WIDTH;
    const y = HEIGHT - 1 - (sample[key] / high) * (HEIGHT - 3);
    return [x.toFixed(1), y.toFixed(1)];
  };
  let line = '';
  let area = '';
  let before = null;
  let start = null;
  const close = () => {
    if (start !== null && before !== null) area += `L${point(before)[0]} ${HEIGHT}L${start} ${HEIGHT}Z`;
    start = null;
  };
  for (const sample of samples) {
    if (sample[key] === null) continue;
    const [x, y] = point(sample);
    const isJoined = before !== null && sample.t - before.t <= GAP_MS;
    if (!isJoined) close();
    if (start === null) start = x;
    line += `${isJoined ? 'L' : 'M'}${x} ${y}`;
    area += `${isJoined ? 'L' : 'M'}${x} ${y}`;
    before = sample;
  }
  close();
  return [line, area];
}

/** One bar of parts, `[[tone, number], …]`, for how far something is. */
export function bar() {
  const root = svg('svg', { class: 'bar', viewBox: '0 0 100 6', preserveAspectRatio: 'none', role: 'img' });
  return {
    root,
    update(parts, label) {
      const all = parts.reduce((sum, [, number]) => sum + number, 0);
      let x = 0;
      const drawn = parts.filter(([, number]) => number > 0).map(([tone, number]) => {
        const width = (number / all) * 100;
        const rect = svg('rect', { x: x.toFixed(2), y: 0, width: width.toFixed(2), height: 6, 'data-tone': tone });
        x += width;
        return rect;
      });
      root.replaceChildren(...drawn);
      attr(root, 'aria-label', label);
    },
  };
}
