// The page: one view of the fleet comes in, everything below is drawn from it.

import * as nodes from './nodes.js';
import * as rollouts from './rollouts.js';
import * as services from './services.js';
import { bytes, clock, count, el, list, percent, say, sayIf, show, svg } from './dom.js';
import { follow } from './stream.js';

const EVENTS_SHOWN = 12;
const MAY_STEER = ['deployer', 'operator', 'security'];

const part = (id) => document.getElementById(id);
let view = null;
let caller = null;
let link = 'connecting';
let allEvents = false;

const options = () => ({
  environment: part('environment').value,
  severalEnvironments: view.fleet.environments.length > 1,
  find: part('find').value,
  maySteer: () => caller !== null && MAY_STEER.includes(caller.role),
});

function draw() {
  if (view === null) return;
  const now = options();
  document.title = `Pith · ${view.fleet.fleet.slice(0, 8)}`;
  say(part('fleet'), `fleet ${view.fleet.fleet.slice(0, 8)} · coordinator ${view.fleet.coordinator_version}`);
  drawEnvironments();
  for (const id of ['glance', 'services-section', 'nodes-section', 'events-section']) show(part(id), true);
  drawGlance(now);
  rollouts.draw(view, now);
  services.draw(view, now);
  nodes.draw(view, now);
  drawEvents(now);
}

function drawEnvironments() {
  const known = view.fleet.environments;
  show(part('environments'), known.length > 1);
  const items = [['', 'all'], ...known.map((name) => [name, name])];
  list(part('environment'), items, ([value]) => value, ([value, name]) => ({ root: el('option', { value }, name), update() {} }));
}

function drawGlance({ environment }) {
  const isMeant = (one) => environment === '' || one.environment === environment;
  const all = view.nodes.nodes.filter(isMeant);
  const ready = all.filter((node) => node.status === 'ready').length;
  const known = view.services.services.filter(isMeant);
  const well = known.filter((one) => one.settled && one.ready >= one.desired).length;
  const sum = (of) => known.reduce((total, one) => total + of(one), 0);
  const open = view.rollouts.filter((one) => one.active && isMeant(one));
  const waiting = open.filter((one) => one.state === 'awaiting_promotion' || one.state === 'paused').length;
  const loads = all.map((node) => node.load).filter((load) => load !== null && load.cpu !== null);
  const mean = loads.length > 0 ? loads.reduce((total, load) => total + load.cpu, 0) / loads.length : null;
  const memory = (key) => all.reduce((total, node) => total + (node.load?.[key] ?? 0), 0);
  const tiles = [
    { title: 'Nodes ready', value: `${ready} of ${all.length}`, tone: ready < all.length ? 'bad' : 'ok', more: cells(all) },
    { title: 'Services settled', value: `${well} of ${known.length}`, tone: well < known.length ? 'warn' : 'ok' },
    { title: 'Instances ready', value: `${sum((one) => one.ready)} of ${sum((one) => one.desired)}`, tone: sum((one) => one.ready) < sum((one) => one.desired) ? 'bad' : 'ok' },
    { title: 'Rollouts under way', value: String(open.length), tone: waiting > 0 ? 'warn' : 'none', words: waiting > 0 ? `${waiting} for you to decide` : '' },
    { title: 'CPU, mean', value: percent(mean), tone: 'none' },
    { title: 'Memory in use', value: bytes(memory('mem_used')), tone: 'none', words: `of ${bytes(memory('mem_total'))}` },
  ];
  list(part('glance'), tiles, ({ title }) => title, ({ title }) => {
    const [value, words, more] = [el('p', { class: 'number' }), el('p', { class: 'soft' }), el('div', { class: 'cells' })];
    const root = el('div', { class: 'panel tile' }, el('h2', { class: 'soft' }, title), value, words, more);
    return {
      root,
      update(tile) {
        say(value, tile.value);
        root.dataset.tone = tile.tone;
        sayIf(words, tile.words);
        if (tile.more && more.dataset.shown !== tile.more.key) {
          more.dataset.shown = tile.more.key;
          more.replaceChildren(tile.more.make());
        }
      },
    };
  });
}

/** A square for each node. */
function cells(all) {
  const tones = all.map((node) => nodes.toneOf(node.status));
  const columns = Math.max(12, Math.ceil(Math.sqrt(tones.length * 6)));
  const lines = Math.max(1, Math.ceil(tones.length / columns));
  return {
    key: tones.join(),
    make: () =>
      svg(
        'svg',
        { viewBox: `0 0 ${columns * 10} ${lines * 10}`, 'aria-hidden': 'true', class: 'squares' },
        ...tones.map((tone, index) => svg('rect', {
          x: (index % columns) * 10, y: Math.floor(index / columns) * 10, width: 8, height: 8, rx: 1.5, 'data-tone': tone,
        })),
      ),
  };
}

function drawEvents({ environment }) {
  const isMeant = (one) => environment === '' || one.environment === null || one.environment === environment;
  const known = view.events.filter(isMeant).toReversed();
  const shown = allEvents ? known : known.slice(0, EVENTS_SHOWN);
  list(part('events'), shown, ({ id }) => id, (event) => {
    const of = [event.service, event.node].filter(Boolean).join(' on ');
    const time = el('time', { datetime: new Date(event.at_ms).toISOString(), class: 'soft' }, clock(event.at_ms));
    return { root: el('li', {}, time, el('span', { class: 'name' }, of), el('span', {}, event.message)), update() {} };
  });
  show(part('more-events'), known.length > EVENTS_SHOWN);
  say(part('more-events'), allEvents ? 'Show fewer' : `Show all ${count(known.length, 'event')}`);
}

function drawLink(state, message) {
  link = state;
  document.body.dataset.link = state;
  const [words, tone] = {
    connecting: ['connecting', 'info'],
    live: ['live', 'ok'],
    lost: ['not connected', 'bad'],
    ended: ['ended', 'bad'],
  }[state];
  say(part('link'), words);
  part('link').dataset.tone = tone;
  if (state === 'live') sayIf(part('notice'), '');
  if (message) sayIf(part('notice'), view === null ? message : `${message}. What is shown is from ${clock(view.at_ms)}.`);
}

const told = {
  caller(value) {
    caller = value;
    say(part('caller'), `${value.who}, ${value.role}`);
    draw();
  },
  view(value) {
    view = value;
    nodes.remember(value);
    draw();
  },
};

part('environment').addEventListener('change', draw);
part('find').addEventListener('input', draw);
part('more-nodes').addEventListener('click', () => {
  nodes.showMore();
  draw();
});
part('more-events').addEventListener('click', () => {
  allEvents = !allEvents;
  draw();
});
// What is unfolded is drawn at once, not with the next news.
part('services').addEventListener('toggle', draw, true);
// A view that is not current steers nothing.
document.addEventListener('click', (event) => {
  if (link !== 'live' && event.target.closest?.('.steers')) event.stopImmediatePropagation();
}, true);

follow({
  event: (name, value) => told[name]?.(value),
  link: drawLink,
});
