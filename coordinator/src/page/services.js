// Services: what runs of each, its releases side by side, its history.

import { confirm, get, post, rolloutPath } from './asking.js';
import { bar } from './chart.js';
import { clock, count, el, list, percent, pill, say, sayIf, show, span, words } from './dom.js';

/** Requests a second are those of about this long. */
const RATE_OVER_MS = 30_000;

/** Requests by environment, service and release, and in it by node: `[{ t, requests }]`, oldest first. */
const counts = new Map();

/** How the state of a rollout looks. */
export function toneOf(state) {
  switch (state) {
    case 'succeeded': return 'ok';
    case 'pending': case 'in_progress': return 'info';
    case 'paused': case 'awaiting_promotion': case 'aborted': return 'warn';
    case 'rolling_back': case 'rolled_back': case 'failed': return 'bad';
    default: return 'none';
  }
}

/** What nodes counted of a service, by release: `{ release, requests, errors, latency, restarts, memory, rate, isRising }`. */
export function traffic(view, environment, service) {
  const found = new Map();
  for (const node of view.nodes.nodes) {
    if (node.environment !== environment) continue;
    for (const one of node.load?.traffic ?? []) {
      if (one.service !== service) continue;
      const sum = found.get(one.release) ?? { release: one.release, requests: 0, errors: 0, latency: new Map(), restarts: 0, memory: null, rate: null };
      found.set(one.release, sum);
      sum.requests += one.requests;
      sum.errors += one.errors;
      sum.restarts += one.restarts;
      for (const [bound, answered] of one.latency_ms) sum.latency.set(bound, (sum.latency.get(bound) ?? 0) + answered);
      if (one.memory_percent !== null) sum.memory = Math.max(sum.memory ?? 0, one.memory_percent);
      const rate = rateOf(`${environment}/${service}/${one.release}`, node.id, view.at_ms, one.requests);
      if (rate !== null) sum.rate = (sum.rate ?? 0) + rate;
    }
  }
  return [...found.values()];
}

/** Requests a second of one node; null: not known yet. A node that is heard of for the first time has counted before, and a proxy that starts counts anew. */
function rateOf(release, node, now, requests) {
  const nodes = counts.get(release) ?? new Map();
  counts.set(release, nodes);
  const kept = nodes.get(node) ?? [];
  nodes.set(node, kept);
  const last = kept.at(-1);
  if (last && last.requests > requests) kept.length = 0;
  if (kept.length === 0 || now > last.t) kept.push({ t: now, requests });
  while (kept.length > 2 && now - kept[0].t > RATE_OVER_MS) kept.shift();
  const seconds = (kept.at(-1).t - kept[0].t) / 1000;
  return seconds > 0 ? (kept.at(-1).requests - kept[0].requests) / seconds : null;
}

/** The bound within which this share of the requests was answered, in milliseconds. */
export function quantile(latency, share) {
  const sorted = [...latency].sort(([one], [other]) => one - other);
  const all = sorted.reduce((sum, [, answered]) => sum + answered, 0);
  let seen = 0;
  for (const [bound, answered] of sorted) {
    seen += answered;
    if (seen >= all * share && all > 0) return bound;
  }
  return null;
}

/** Releases side by side; `nameOf(release)` names a column. */
export function comparison() {
  const head = el('tr');
  const body = el('tbody');
  const table = el('table', { class: 'compare' }, el('caption', { class: 'unseen' }, 'Traffic by release'), el('thead', {}, head), body);
  const ms = (value) => (value === null ? '–' : value > 60_000 ? 'over a minute' : `≤ ${value} ms`);
  const rows = [
    ['Requests', (one) => one.requests.toLocaleString()],
    ['Per second', (one) => (one.rate === null ? '–' : one.rate.toFixed(one.rate < 10 ? 1 : 0))],
    ['Errors', (one) => (one.requests === 0 ? '–' : `${percent(one.errors / one.requests, 2)} (${one.errors.toLocaleString()})`)],
    ['Half answered within', (one) => ms(quantile(one.latency, 0.5))],
    ['99 % within', (one) => ms(quantile(one.latency, 0.99))],
    ['Restarts', (one) => one.restarts],
    ['Memory of its limit', (one) => (one.memory === null ? '–' : `${one.memory} %`)],
  ];
  return {
    root: el('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': 'Releases side by side' }, table),
    update(releases, nameOf) {
      const cells = (values, name) => values.map((value) => el(name, name === 'th' ? { scope: 'col' } : {}, String(value)));
      const wanted = JSON.stringify([releases.map((one) => [nameOf(one.release), ...rows.map(([, of]) => of(one))])]);
      if (table.dataset.shown === wanted) return;
      table.dataset.shown = wanted;
      head.replaceChildren(el('td'), ...cells(releases.map((one) => nameOf(one.release)), 'th'));
      body.replaceChildren(...rows.map(([title, of]) => el('tr', {}, el('th', { scope: 'row' }, title), ...cells(releases.map(of), 'td'))));
    },
  };
}

/** Names a release by the rollout that brings or replaces it. */
export function namer(rollout) {
  return (release) => {
    if (rollout && release === rollout.release) return `Revision ${rollout.revision}, new`;
    if (rollout && release === rollout.from_release) return `Revision ${rollout.from_revision}, stands`;
    return `Release ${release.slice(0, 8)}`;
  };
}

/** Draws services. */
export function draw(view, options) {
  const { environment } = options;
  const services = view.services.services.filter((one) => environment === '' || one.environment === environment);
  show(document.getElementById('no-services'), services.length === 0);
  show(document.getElementById('services'), services.length > 0);
  const items = services.map((service) => ({ service, view, options }));
  list(document.getElementById('services'), items, ({ service }) => `${service.environment}/${service.name}`, row);
}

function row({ service, options }) {
  const state = pill();
  const ready = bar();
  const [environment, image, revision, numbers, why] = [el('span', { class: 'tag' }), el('span', { class: 'soft image' }), el('span', { class: 'soft' }), el('span', { class: 'value' }), el('p', { class: 'why' })];
  const nodes = el('ul', { class: 'on-nodes' });
  const compare = comparison();
  const past = el('div', { class: 'past', 'aria-live': 'polite' });
  const button = el('button', { type: 'button', on: { click: () => showHistory(past, service, options) } }, 'History');
  const root = el(
    'details',
    { class: 'service', 'data-service': service.name },
    el(
      'summary', {},
      el('span', { class: 'name' }, service.name), environment, image, revision,
      el('span', { class: 'ready' }, ready.root, numbers), state.root,
    ),
    el('div', { class: 'inside' }, why, nodes, compare.root, el('div', { class: 'buttons' }, button), past),
  );
  return {
    root,
    update({ service: now, view, options: { severalEnvironments } }) {
      sayIf(environment, severalEnvironments ? now.environment : '');
      say(image, now.image);
      say(revision, `revision ${now.revision}`);
      const missing = Math.max(0, now.desired - now.ready);
      ready.update([['ok', now.ready], ['bad', missing], ['none', now.desired === 0 ? 1 : 0]], `${now.ready} of ${now.desired} ready`);
      say(numbers, `${now.ready} / ${now.desired}`);
      const isOdd = missing > 0 && now.rollout === 'succeeded';
      state.update(isOdd ? `${missing} missing` : words(now.rollout), isOdd ? 'bad' : toneOf(now.rollout));
      sayIf(why, now.why);
      if (!root.open) return;
      list(nodes, now.nodes, (on) => on.node, onNode);
      const rollout = view.rollouts.find((one) => one.environment === now.environment && one.service === now.name);
      // What is tried is compared where it is decided.
      const releases = rollout?.trial ? [] : traffic(view, now.environment, now.name);
      show(compare.root, releases.length > 0);
      compare.update(releases, namer(rollout));
    },
  };
}

function onNode({ node }) {
  const state = pill();
  const [numbers, restarts] = [el('span', { class: 'soft' }), el('span', { class: 'soft' })];
  return {
    root: el('li', {}, el('span', { class: 'name' }, node), state.root, numbers, restarts),
    update(on) {
      const phase = on.online ? words(on.phase ?? 'no report yet') : 'offline';
      const tone = !on.online || on.phase === 'failed' ? 'bad' : on.phase === 'running' ? 'ok' : 'info';
      state.update(on.held ? 'held locally' : phase, on.held ? 'warn' : tone);
      say(numbers, `${on.ready} of ${on.desired} ready`);
      const sum = on.instances.reduce((all, one) => all + one.restarts, 0);
      say(restarts, [sum > 0 ? count(sum, 'restart') : '', on.settled ? '' : on.message].filter(Boolean).join(' · '));
    },
  };
}

async function showHistory(place, service, options) {
  place.replaceChildren(el('p', { class: 'soft' }, 'Asking…'));
  try {
    const history = await get(rolloutPath(service.environment, service.name, 'history'));
    const newest = history.revisions.at(-1)?.revision ?? 0;
    const rows = history.revisions.toReversed().map((one) => revisionLine(one, { service, history, newest, options }));
    place.replaceChildren(el('ol', { class: 'history' }, ...rows));
  } catch (error) {
    place.replaceChildren(el('p', { class: 'problem' }, error.message));
  }
}

function revisionLine(one, { service, history, newest, options }) {
  const state = pill();
  state.update(words(one.state), toneOf(one.state));
  const before = history.revisions.filter((other) => other.revision < one.revision).at(-1);
  const changes = el('div', { class: 'changes' });
  const buttons = el('span', { class: 'buttons' });
  if (before) {
    const diff = () => showDifference(changes, service, before.revision, one.revision);
    buttons.append(el('button', { type: 'button', on: { click: diff } }, `What changed since ${before.revision}`));
  }
  const stood = ['succeeded', 'superseded'].includes(one.state) && one.revision !== history.current && !one.retired;
  if (stood && options.maySteer()) {
    const back = () => askUndo(service, one.revision, newest);
    buttons.append(el('button', { type: 'button', class: 'steers', on: { click: back } }, `Go back to ${one.revision}`));
  }
  const took = one.ended_ms ? ` in ${span(one.ended_ms - one.started_ms)}` : '';
  const when = `${new Date(one.started_ms).toLocaleDateString()} ${clock(one.started_ms)}${took} by ${one.by}`;
  const line = el('p', {}, el('span', { class: 'name' }, `Revision ${one.revision}`), state.root, el('span', { class: 'soft image' }, one.image));
  const facts = el('p', { class: 'soft' }, [words(one.kind), when, one.cause, one.message].filter(Boolean).join(' · '));
  return el('li', {}, line, facts, buttons, changes);
}

async function showDifference(place, service, from, to) {
  try {
    const path = rolloutPath(service.environment, service.name, `diff?from=${from}&to=${to}`);
    const { changes } = await get(path);
    const shown = (value) => (value === null || value === undefined ? 'nothing' : typeof value === 'string' ? value : JSON.stringify(value));
    const lines = changes.flatMap((one) => [
      el('dt', {}, one.path),
      el('dd', {}, el('del', {}, shown(one.before)), ' → ', el('ins', {}, shown(one.after))),
    ]);
    place.replaceChildren(lines.length > 0 ? el('dl', {}, ...lines) : el('p', { class: 'soft' }, 'Nothing that is written differs.'));
  } catch (error) {
    place.replaceChildren(el('p', { class: 'problem' }, error.message));
  }
}

/** Asks, then goes back: to `revision`, or without one to the release before. Done only while `newest` is the newest. */
export function askUndo(service, revision, newest) {
  const where = revision === null ? 'the release before' : `the release of revision ${revision}`;
  confirm({
    title: `Go back: ${service.name}`,
    text: `Every node of ${service.environment} goes back to ${where} at once.`,
    yes: 'Go back',
    isGrave: true,
    withCause: true,
    act: (cause) => post(rolloutPath(service.environment, service.name, 'undo'), { to_revision: revision, cause, if_revision: newest }),
  });
}

