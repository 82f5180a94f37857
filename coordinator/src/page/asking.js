// Requests, and the question before each that changes something.

import { say, sayIf, show } from './dom.js';

const STORED = 'pith-page-token';

/** The token of this tab: from the address it was opened with, which then loses it, else kept by the tab. */
const token = (() => {
  const address = new URL(location.href);
  const given = address.searchParams.get('token');
  if (given !== null) {
    sessionStorage.setItem(STORED, given);
    address.searchParams.delete('token');
    history.replaceState(null, '', address.pathname + address.search + address.hash);
  }
  return given ?? sessionStorage.getItem(STORED) ?? '';
})();

/** What every request brings. */
export function headers() {
  return { 'x-pith-page': token };
}

/** An answer that says no, as an error with `code` and `status`. */
export async function refusal(answer) {
  const text = await answer.text();
  let problem = { code: String(answer.status), message: text.trim() };
  try {
    problem = JSON.parse(text);
  } catch {
    // A sentence.
  }
  return Object.assign(new Error(problem.message), { code: problem.code, status: answer.status });
}

/** Whether asking again would help nobody: this tab may not ask. */
export function isRefused(error) {
  return error.status === 403 || ['role', 'no_role', 'not_an_operator', 'no_certificate'].includes(error.code);
}

/** What is at a path. */
export async function get(path) {
  const answer = await fetch(path, { headers: headers(), cache: 'no-store' });
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

/** Asks for a change. */
export async function post(path, body) {
  const all = { ...headers(), 'content-type': 'application/json' };
  const answer = await fetch(path, { method: 'POST', headers: all, body: JSON.stringify(body) });
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

/** Where a service's rollouts are asked for. */
export function rolloutPath(environment, service, what) {
  return `/v1/rollouts/${encodeURIComponent(environment)}/${encodeURIComponent(service)}/${what}`;
}

const part = (id) => document.getElementById(id);
let wanted = null;

/**
 * Asks before something is changed: `title`, `text`, the word on the button, `withCause` for a reason, and `act(cause)`, which is done
 * once it is confirmed. What is refused is said there, and nothing is closed.
 */
export function confirm({ title, text, yes, isGrave = false, withCause = false, act }) {
  wanted = act;
  say(part('confirm-title'), title);
  say(part('confirm-text'), text);
  say(part('confirm-yes'), yes);
  part('confirm-yes').className = isGrave ? 'grave' : 'primary';
  part('confirm-yes').disabled = false;
  part('confirm-cause').value = '';
  show(part('confirm-cause-label'), withCause);
  sayIf(part('confirm-problem'), '');
  part('confirm').showModal();
  part(withCause ? 'confirm-cause' : 'confirm-no').focus();
}

part('confirm-no').addEventListener('click', () => part('confirm').close());
part('confirm-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  if (!wanted || part('confirm-yes').disabled) return;
  part('confirm-yes').disabled = true;
  try {
    await wanted(part('confirm-cause').value.trim() || null);
    wanted = null;
    part('confirm').close();
  } catch (error) {
    sayIf(part('confirm-problem'), error.message);
    part('confirm-yes').disabled = false;
  }
});
