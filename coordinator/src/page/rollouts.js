// Rollouts: where each node stands, what is waited for, and the buttons that steer.

import { confirm, post, rolloutPath } from './asking.js';
import { bar } from './chart.js';
import { attr, count, el, list, pill, say, sayIf, show, span, words } from './dom.js';
import { askUndo, comparison, namer, toneOf, traffic } from './services.js';

/** Nodes that are shown one by one; of more, those that move or failed come first. */
const NODES_SHOWN = 40;
const announced = new Map();

/** How the state of a node in a rollout looks. */
function nodeTone(state) {
  switch (state) {
    case 'updated': return 'ok';
    case 'trying': case 'standing': case 'updating': return 'info';
    case 'offline': case 'held_locally': case 'reverting': return 'warn';
    case 'rolled_back': case 'failed': case 'conflict': return 'bad';
    default: return 'none';
  }
}

/** What may be done to a rollout, as the coordinator says: `[verb, words, body, is grave, what it does]`. */
export function steps(rollout) {
  const { steers, trial } = rollout;
  const can = (verb) => steers.some((one) => one.verb === verb);
  const isTried = trial !== undefined && !trial.promoted;
  const found = [];
  if (can('promote')) {
    const what = isTried && trial.weights.length === 0 ? 'Every node switches to the new set.' : 'It goes on with its next step.';
    found.push(['promote', 'Promote', { verb: 'promote', full: false }, false, what]);
  }
  if (can('promote') && isTried && trial.step + 1 < trial.weights.length) {
    const what = 'It goes past all steps of the canary: every node gets the new release.';
    found.push(['promote-full', 'Promote to all', { verb: 'promote', full: true }, false, what]);
  }
  if (can('pause')) found.push(['pause', 'Pause', { verb: 'pause' }, false, 'What is up stays up, and nothing more is replaced.']);
  if (can('resume')) found.push(['resume', 'Resume', { verb: 'resume' }, false, 'What was held goes on.']);
  if (can('abort')) found.push(['abort', 'Abort', { verb: 'abort' }, true, 'It ends, and every node goes back to the release before.']);
  return found;
}

/** Draws rollouts, and says aloud what became of them. */
export function draw(view, options) {
  const { environment } = options;
  const isMeant = (one) => environment === '' || one.environment === environment;
  const rollouts = view.rollouts.filter(isMeant);
  rollouts.sort((one, other) => Number(other.active) - Number(one.active) || other.started_ms - one.started_ms);
  show(document.getElementById('rollouts-section'), rollouts.length > 0);
  const items = rollouts.map((rollout) => ({ rollout, view, options }));
  list(document.getElementById('rollouts'), items, ({ rollout }) => keyOf(rollout), card);
  for (const rollout of rollouts) announce(rollout);
}

const keyOf = (rollout) => `${rollout.environment}/${rollout.service}/${rollout.revision}`;

function announce(rollout) {
  const key = keyOf(rollout);
  const before = announced.get(key);
  announced.set(key, rollout.state);
  if (before === rollout.state || (before === undefined && !rollout.active)) return;
  const why = rollout.reason ? `: ${words(rollout.reason)}` : '';
  say(document.getElementById('announcer'), `${rollout.service}, revision ${rollout.revision}: ${words(rollout.state)}${why}`);
}

function card({ rollout: first, options }) {
  const state = pill();
  const progress = bar();
  const compare = comparison();
  const [facts, message, trial, nodes, rest, failures] = [el('p', { class: 'soft' }), el('p', { class: 'message' }), el('ol', { class: 'steps', 'aria-label': 'Steps of the trial' }), el('ul', { class: 'track' }), el('p', { class: 'soft' }), el('ul', { class: 'failures' })];
  const buttons = el('div', { class: 'buttons' });
  const title = first.from_revision === null
    ? `${first.service}: revision ${first.revision}, the first`
    : `${first.service}: revision ${first.from_revision} → ${first.revision}`;
  const beside = el('div', { class: 'beside' }, el('div', { class: 'stack' }, nodes, rest, failures), compare.root);
  const root = el(
    'article',
    { class: 'panel rollout', 'data-rollout': first.service, 'data-revision': first.revision },
    el('div', { class: 'card-head' }, el('h3', {}, title), state.root),
    facts, message, trial, progress.root, beside, buttons,
  );
  return {
    root,
    update({ rollout, view }) {
      attr(root, 'data-state', rollout.state);
      attr(root, 'data-tone', toneOf(rollout.state));
      state.update(words(rollout.state), toneOf(rollout.state));
      const took = span((rollout.ended_ms ?? view.at_ms) - rollout.started_ms);
      const time = rollout.active ? `for ${took}` : `took ${took}`;
      say(facts, [rollout.environment, rollout.image, `by ${rollout.by}`, time, rollout.cause].filter(Boolean).join(' · '));
      const why = rollout.reason && !rollout.message.includes(rollout.reason) ? `${words(rollout.reason)}: ` : '';
      sayIf(message, rollout.message ? why + rollout.message : '');
      drawTrial(trial, rollout);
      drawNodes(rollout, progress, nodes, rest);
      // What went well is a line once it is over.
      const isOpen = rollout.active || rollout.state !== 'succeeded';
      show(beside, isOpen);
      attr(progress.root, 'hidden', !isOpen);
      const evidence = rollout.failures.map((one, index) => ({ one, index }));
      list(failures, evidence, ({ index }) => index, failure);
      const releases = rollout.trial ? traffic(view, rollout.environment, rollout.service) : [];
      const order = (one) => (one.release === rollout.from_release ? 0 : one.release === rollout.release ? 1 : 2);
      releases.sort((one, other) => order(one) - order(other));
      show(compare.root, releases.length > 0);
      compare.update(releases, namer(rollout));
      drawButtons(buttons, rollout, options);
    },
  };
}

function drawTrial(place, { trial, active }) {
  show(place, Boolean(trial) && active);
  if (!trial) return;
  const names = trial.weights.length > 0 ? trial.weights.map((weight) => `${weight} %`) : ['green beside blue'];
  const current = trial.promoted ? names.length : trial.step;
  const items = [...names, 'all nodes'].map((name, index) => ({ name, index, current }));
  list(place, items, ({ index }) => index, () => {
    const root = el('li');
    return {
      root,
      update({ name, index, current: here }) {
        say(root, name);
        attr(root, 'data-step', index < here ? 'behind' : index === here ? 'here' : 'ahead');
        attr(root, 'aria-current', index === here ? 'step' : null);
      },
    };
  });
}

function drawNodes(rollout, progress, place, rest) {
  const by = new Map();
  for (const node of rollout.nodes) by.set(node.state, (by.get(node.state) ?? 0) + 1);
  const parts = [...by].map(([state, number]) => [nodeTone(state), number]);
  const order = ['ok', 'info', 'warn', 'bad', 'none'];
  parts.sort(([one], [other]) => order.indexOf(one) - order.indexOf(other));
  progress.update(parts, [...by].map(([state, number]) => `${number} ${words(state)}`).join(', '));
  const isQuiet = (node) => node.state === 'waiting' || node.state === 'updated';
  const all = rollout.nodes;
  const loud = all.length <= NODES_SHOWN ? all : all.filter((node) => !isQuiet(node)).slice(0, NODES_SHOWN);
  list(place, loud, (node) => node.name, nodeLine);
  const counted = all.length > loud.length ? [...by].map(([state, number]) => `${number} ${words(state)}`) : [];
  const unplaced = rollout.unplaced > 0 ? [`${count(rollout.unplaced, 'instance')} found no node`] : [];
  sayIf(rest, [...counted, ...unplaced].join(' · '));
}

function nodeLine({ name }) {
  const state = pill();
  const [numbers, message] = [el('span', { class: 'soft' }), el('span', { class: 'soft waits' })];
  const root = el('li', { 'data-node': name }, el('span', { class: 'name' }, name), state.root, numbers, message);
  return {
    root,
    update(node) {
      attr(root, 'data-state', node.state);
      state.update(words(node.state), nodeTone(node.state));
      say(numbers, `${node.updated} new, ${node.ready} of ${node.desired} ready`);
      const why = node.reason && !node.message ? words(node.reason) : node.message;
      sayIf(message, why);
    },
  };
}

function failure() {
  const [head, message, more] = [el('p', { class: 'name' }), el('p'), el('pre', { tabindex: '0' })];
  return {
    root: el('li', {}, head, message, more),
    update({ one }) {
      say(head, `${one.node}: ${words(one.reason)}`);
      say(message, one.message);
      const found = one.evidence ? Object.entries(one.evidence).filter(([, value]) => value !== null && value !== '') : [];
      const text = ([key, value]) => `${words(key)}: ${typeof value === 'string' ? value : JSON.stringify(value)}`;
      sayIf(more, found.map(text).join('\n'));
    },
  };
}

function drawButtons(place, rollout, options) {
  const found = options.maySteer() ? steps(rollout) : [];
  const items = found.map((step) => ({ step, rollout }));
  if (options.maySteer() && rollout.state === 'succeeded' && rollout.from_revision !== null) {
    items.push({ step: ['undo', 'Undo'], rollout });
  }
  show(place, items.length > 0);
  list(place, items, ({ step }) => step[0], ({ step: [verb, title] }) => {
    let act = () => {};
    const root = el('button', { type: 'button', class: 'steers', 'data-verb': verb, on: { click: () => act() } }, title);
    return {
      root,
      update({ step, rollout: now }) {
        root.classList.toggle('primary', verb === 'promote' || verb === 'resume');
        root.classList.toggle('grave', verb === 'abort');
        act = () => ask(step, now);
      },
    };
  });
}

function ask([verb, title, body, isGrave, what], rollout) {
  const service = { environment: rollout.environment, name: rollout.service };
  if (verb === 'undo') {
    askUndo(service, null, rollout.revision);
    return;
  }
  confirm({
    title: `${title}: ${rollout.service}, revision ${rollout.revision}`,
    text: what,
    yes: title,
    isGrave,
    // What was seen when the question was asked: another who was faster, or the next step, is not steered unseen.
    act: () => post(rolloutPath(service.environment, service.name, 'steer'), { ...body, if_revision: rollout.revision, if_passed: rollout.passed }),
  });
}
