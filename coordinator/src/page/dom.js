// Elements and words. What nodes and people wrote is text here, and never read as markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with attributes and children; strings are text. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'on') {
      for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    } else {
      attr(made, key, value);
    }
  }
  made.append(...children);
  return made;
}

/** The same of a drawing. */
export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) attr(made, key, value);
  made.append(...children);
  return made;
}

/** Sets an attribute where it is another; true is an empty one, false and null none. */
export function attr(element, key, value) {
  if (value === false || value === null || value === undefined) {
    element.removeAttribute(key);
    return;
  }
  const wanted = value === true ? '' : String(value);
  if (element.getAttribute(key) !== wanted) element.setAttribute(key, wanted);
}

/** Sets the text of an element where it is another. */
export function say(element, value) {
  const wanted = value === null || value === undefined ? '' : String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** The same, and the element is there only where there is something to say. */
export function sayIf(element, value) {
  say(element, value);
  show(element, Boolean(value));
}

/** Shows an element or does not. */
export function show(element, isShown) {
  if (element.hidden === isShown) element.hidden = !isShown;
}

const parts = new WeakMap();

/**
 * One part of `parent` per item, in the order of the items: made once by `make(item)`, which gives `{ root, update(item) }`, and changed
 * in place afterwards, so that focus, selection and what was unfolded stay.
 */
export function list(parent, items, keyOf, make) {
  const known = parts.get(parent) ?? new Map();
  parts.set(parent, known);
  const keys = new Set(items.map(keyOf));
  for (const [key, part] of known) {
    if (!keys.has(key)) {
      part.root.remove();
      known.delete(key);
    }
  }
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let part = known.get(key);
    if (!part) {
      part = make(item);
      known.set(key, part);
    }
    part.update(item);
    if (part.root === place) {
      place = place.nextSibling;
    } else {
      parent.insertBefore(part.root, place);
    }
  }
}

/** A small labelled state, told by its words as well as by its colour. */
export function pill() {
  const root = el('span', { class: 'pill' });
  return {
    root,
    update(words, tone) {
      say(root, words);
      attr(root, 'data-tone', tone);
    },
  };
}

/** `12.3 MiB` */
export function bytes(count) {
  if (count === null || count === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `42 %` of a share from 0 to 1. */
export function percent(share, digits = 0) {
  return share === null || share === undefined ? '–' : `${(share * 100).toFixed(digits)} %`;
}

/** `12 s`, `4 min`, `3 h`, `2 d`, as `pith` says it. */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** `12:04:31` of this browser's zone. */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour12: false });
}

/** `1 node`, `2 nodes`. */
export function count(number, word) {
  return `${number} ${word}${number === 1 ? '' : 's'}`;
}

/** Words of a code: `awaiting_promotion` is `awaiting promotion`. */
export function words(code) {
  return String(code ?? '').replaceAll('_', ' ');
}
