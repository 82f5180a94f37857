// The coordinator's events: read by fetch, since an EventSource brings no header; asked for again where they break off.

import { headers, isRefused, refusal } from './asking.js';

/** The coordinator says something at least every ten seconds. */
const SILENCE_MS = 25_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;

/** One event after another from what comes in pieces (WHATWG HTML, 9.2.6): calls `told(name, data)`. */
export function reader(told) {
  let rest = '';
  let name = '';
  let data = [];
  return (piece) => {
    rest += piece;
    const lines = rest.split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) told(name || 'message', data.join('\n'));
        name = '';
        data = [];
      } else if (line.startsWith('event: ')) {
        name = line.slice('event: '.length);
      } else if (line.startsWith('data: ')) {
        data.push(line.slice('data: '.length));
      }
    }
  };
}

/** How long to wait before the next attempt: doubled each time, and spread so that many pages do not come at once. */
export function pause(attempt, random = Math.random()) {
  const whole = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
  return Math.round(whole * (0.75 + random / 4));
}

/**
 * Follows the fleet for ever. `on.event(name, value)` for each event; `on.link(state, message)` with `connecting`, `live`, `lost` (it
 * tries again) or `ended` (it does not).
 */
export async function follow(on) {
  for (let attempt = 0; ; attempt += 1) {
    const stopped = { message: null };
    let problem = 'the stream has ended';
    try {
      await once((name, value) => {
        if (name === 'end' && value.code === 'role') {
          stopped.message = value.message;
        } else {
          attempt = 0;
          on.link('live', null);
          on.event(name, value);
        }
      });
    } catch (error) {
      problem = error.message;
      if (isRefused(error)) stopped.message = error.message;
    }
    if (stopped.message) {
      on.link('ended', stopped.message);
      return;
    }
    const wait = pause(attempt);
    on.link('lost', `${problem}; trying again in ${Math.ceil(wait / 1000)} s`);
    await new Promise((done) => setTimeout(done, wait));
    on.link('connecting', null);
  }
}

async function once(told) {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), SILENCE_MS);
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), SILENCE_MS);
  };
  try {
    const answer = await fetch('/v1/live', { headers: headers(), signal: abort.signal, cache: 'no-store' });
    if (!answer.ok) throw await refusal(answer);
    const text = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const read = reader((name, data) => told(name, JSON.parse(data)));
    for (;;) {
      const { value, done } = await text.read();
      if (done) return;
      heard();
      read(value);
    }
  } catch (error) {
    if (abort.signal.aborted) throw new Error('nothing was heard for a while');
    if (error instanceof TypeError) throw new Error('`pith page` does not answer');
    throw error;
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}
