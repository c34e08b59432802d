// Elements that are made once and then kept: an update changes what is different and leaves focus, selection, scrolling and
// open folds alone. All text goes through textContent, so nothing that a server says is ever markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element. Properties that the element has are set as such, all others as attributes. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class') node.className = value;
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  attribute(node, attributes);
  node.append(...children);
  return node;
}

/** One of the symbols of index.html. Words stand beside it, so it is hidden from screen readers. */
export function icon(name) {
  const use = svg('use', { href: `#${name}` });
  const node = svg('svg', { class: 'icon', 'aria-hidden': 'true', focusable: 'false' }, use);
  return { node, update: (now) => attribute(use, { href: `#${now}` }) };
}

/** Sets attributes that differ; null removes one. */
export function attribute(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  }
}

/** Sets text if it differs: a selection inside lives on. */
export function text(node, value) {
  const wanted = visible(value);
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

/** Shows an element only when there is something to show. */
export function shown(node, when) {
  if (node.hidden === Boolean(when)) node.hidden = !when;
  return Boolean(when);
}

/** Text of a stranger: controls, and characters that turn or hide others, are spelled out. */
export function visible(value) {
  return String(value ?? '').replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

const kept = new WeakMap();

/**
 * Makes the children of a parent those of the items, in their order. What `create` returns is kept by key:
 * { node, update(item) }.
 */
export function keyed(parent, items, keyOf, create) {
  const before = kept.get(parent) ?? new Map();
  const after = new Map();
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  let last = null;
  for (const item of items) {
    const key = keyOf(item);
    const part = before.get(key) ?? create(item);
    before.delete(key);
    after.set(key, part);
    part.update(item);
    const place = last ? last.nextSibling : parent.firstChild;
    if (part.node !== place) parent.insertBefore(part.node, place);
    last = part.node;
  }
  for (const part of before.values()) part.node.remove();
  kept.set(parent, after);
  // A node that moves loses the focus.
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  return after;
}

/** A list of texts, each an item. */
export function texts(parent, values, classOf = () => null) {
  keyed(parent, values.map((value, i) => ({ value, i })), ({ i }) => i, () => {
    const node = el('li');
    return { node, update: ({ value }) => attribute(text(node, value), { class: classOf(value) }) };
  });
}

/** Terms and what they are: [term, text]; null leaves one out. */
export function terms(parent, pairs) {
  keyed(parent, pairs.filter(([, value]) => value !== null), ([term]) => term, ([term]) => {
    const value = el('dd');
    return { node: el('div', {}, el('dt', {}, term), value), update: ([, now]) => text(value, now) };
  });
}
