// Nodes: a card each with what the board does now and did in the last five minutes.

import { WINDOW_MS, bar, chart } from './chart.js';
import { bytes, count, el, list, percent, pill, say, sayIf, show, span } from './dom.js';

/** Cards beyond these are shown on demand: nobody reads a thousand at once. */
const SHOWN = 24;
/** A counter that went back, or a sample that is older than this, gives no rate. */
const RATE_WITHIN_S = 75;

const histories = new Map();
let shown = SHOWN;

/** How a status looks. */
export function toneOf(status) {
  switch (status) {
    case 'ready': return 'ok';
    case 'offline': case 'conflict': case 'engine unavailable': return 'bad';
    case 'pending': case 'cloned': return 'warn';
    default: return 'none';
  }
}

/** Keeps what nodes said of their load, five minutes of it. */
export function remember(view) {
  const ids = new Set(view.nodes.nodes.map((node) => node.id));
  for (const id of histories.keys()) if (!ids.has(id)) histories.delete(id);
  for (const node of view.nodes.nodes) {
    const kept = histories.get(node.id) ?? { samples: [], last: null, said: '' };
    histories.set(node.id, kept);
    const said = JSON.stringify(node.load);
    if (node.load === null || said === kept.said) continue;
    kept.said = said;
    kept.samples.push(sample(node.load, kept.last, view.at_ms));
    kept.last = node.load;
    while (view.at_ms - kept.samples[0].t > WINDOW_MS) kept.samples.shift();
  }
}

function sample(load, last, t) {
  const seconds = last ? load.up_s - last.up_s : 0;
  const rate = (key) => {
    const [now, before] = [load.board?.[key], last?.board?.[key]];
    const isKnown = now !== undefined && before !== undefined && now >= before;
    return isKnown && seconds > 0 && seconds <= RATE_WITHIN_S ? (now - before) / seconds : null;
  };
  const memory = load.mem_total ? load.mem_used / load.mem_total : null;
  return { t, cpu: load.cpu, memory, temp: load.temp_c, rx: rate('net_in'), tx: rate('net_out'), load };
}

/** Draws nodes and whoever waits in the lobby. */
export function draw(view, { environment, severalEnvironments, find }) {
  const isMeant = (one) => environment === '' || one.environment === environment;
  const wanted = find.trim().toLowerCase();
  const isFound = (node) =>
    wanted === '' || node.name.includes(wanted) || node.environment.includes(wanted) ||
    Object.entries(node.labels).some(([key, value]) => `${key}=${value}`.toLowerCase().includes(wanted));
  const nodes = view.nodes.nodes.filter((node) => isMeant(node) && isFound(node));
  // What is not well comes first.
  const sorted = [...nodes.filter((node) => node.status !== 'ready'), ...nodes.filter((node) => node.status === 'ready')];
  const part = (id) => document.getElementById(id);
  const waiting = view.nodes.lobby.filter((member) => member.status === 'pending' && isMeant(member));
  list(part('lobby'), waiting, (member) => member.id, memberLine);
  const items = sorted.slice(0, shown).map((node) => ({ node, now: view.at_ms, severalEnvironments }));
  list(part('nodes'), items, ({ node }) => node.id, card);
  const more = part('more-nodes');
  show(more, sorted.length > shown);
  say(more, `Show ${count(Math.min(SHOWN, sorted.length - shown), 'more node')} of ${sorted.length}`);
}

/** Shows more of them. */
export function showMore() {
  shown += SHOWN;
}

function memberLine() {
  const text = el('p', { class: 'notice' });
  return {
    root: text,
    update: (member) => say(text, `${member.name} waits to be let in: pith node approve ${member.id}`),
  };
}

function rateWords(sample) {
  const one = (value) => (value === null ? '–' : `${bytes(value)}/s`);
  return sample.rx === null && sample.tx === null ? '–' : `↓ ${one(sample.rx)}  ↑ ${one(sample.tx)}`;
}

function card({ node }) {
  const status = pill();
  const [environment, board, facts, why, services] = [el('span', { class: 'tag' }), el('p', { class: 'soft' }), el('p', { class: 'soft' }), el('p', { class: 'why' }), el('p', { class: 'soft' })];
  const disk = bar();
  const diskWords = el('span', { class: 'value' });
  const charts = [
    chart({ title: 'CPU', series: ['cpu'], top: 1, words: (s) => percent(s.cpu) }),
    chart({ title: 'Memory', series: ['memory'], top: 1, words: (s) => `${percent(s.memory)} of ${bytes(s.load.mem_total)}` }),
    chart({ title: 'Temperature', series: ['temp'], top: 90, words: (s) => (s.temp === null ? '–' : `${Math.round(s.temp)} °C`) }),
    chart({ title: 'Network', series: ['rx', 'tx'], top: 10_000, words: rateWords }),
  ];
  const diskLine = el('div', { class: 'disk' }, el('span', {}, 'Disk'), disk.root, diskWords);
  const root = el(
    'article',
    { class: 'panel card', 'data-node': node.name },
    el('div', { class: 'card-head' }, el('h3', {}, node.name), environment, status.root),
    board, why, el('div', { class: 'charts' }, ...charts.map((one) => one.root)), diskLine, services, facts,
  );
  return {
    root,
    update({ node: now, now: at, severalEnvironments }) {
      const { load, capacity } = now;
      status.update(now.status, toneOf(now.status));
      sayIf(environment, severalEnvironments ? now.environment : '');
      const cores = count(capacity.cores, 'core');
      say(board, [capacity.architecture, cores, capacity.memory_bytes > 0 ? bytes(capacity.memory_bytes) : '', load?.board?.kernel].filter(Boolean).join(' · '));
      sayIf(why, whyOf(now, at));
      const samples = histories.get(now.id)?.samples ?? [];
      charts.forEach((one) => one.update(samples, at));
      // What a board does not say has no chart.
      show(charts[2].root, samples.some((one) => one.temp !== null));
      show(charts[3].root, samples.some((one) => one.rx !== null || one.tx !== null));
      show(diskLine, Boolean(load?.disk_total));
      if (load?.disk_total) {
        const share = load.disk_used / load.disk_total;
        const words = `${percent(share)} of ${bytes(load.disk_total)}`;
        disk.update([[share > 0.9 ? 'bad' : share > 0.75 ? 'warn' : 'info', share], ['none', 1 - share]], `Disk: ${words}`);
        say(diskWords, words);
      }
      say(services, now.services.length > 0 ? `Runs ${now.services.join(', ')}` : 'Runs nothing');
      const up = load ? `up ${span(load.up_s * 1000)}` : 'no load yet';
      const agent = now.agent_target ? `agent ${now.agent_version}, being updated` : `agent ${now.agent_version}`;
      say(facts, [up, agent, load?.board?.throttled ? 'slowed down for heat or voltage' : ''].filter(Boolean).join(' · '));
    },
  };
}

function whyOf(node, at) {
  const said = node.alarms.map((alarm) => `${alarm.reason}: ${alarm.message}`);
  if (node.conflict) said.push(node.conflict);
  if (node.cloned) said.push('two boards take turns under its identity');
  if (node.status === 'offline') said.push(`last heard ${span(at - node.heard_ms)} ago`);
  for (const [service, held] of Object.entries(node.held ?? {})) said.push(`${service} is held by ${held.by}`);
  return said.join('; ');
}
