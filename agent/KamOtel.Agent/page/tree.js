// The processes by parent, and at their side a lane for each shared slot: a line that joins all who hold the same pointer.
import { el, svg, text, attribute, shown, keyed } from './dom.js';
import { count } from './words.js';

/** So many equal workers in a row are one line, until somebody asks. */
const RUN = 16;

/** Where a row's middle is in the drawing, below the line of letters. The style sheet says how high a row is, so nothing is measured. */
const middle = (at) => `calc(2rem + ${at + 0.5} * var(--row))`;

/** What a shared slot is called on this page: A, B, … Z, AA, … */
export const letter = (i) => (i < 26 ? '' : letter(Math.floor(i / 26) - 1)) + String.fromCharCode(65 + (i % 26));

/** The number of a slot's colour. Letters tell slots apart when colours run out, or are not seen. */
export const colour = (i) => i % 6;

/** The tree of one instance. */
export function treeView() {
  const open = new Set();
  let last = null;
  const lanes = svg('g');
  const drawing = svg('svg', { class: 'lanes', 'aria-hidden': 'true', focusable: 'false' }, lanes);
  const rows = el('ul', { class: 'rows' });
  const node = el('div', { class: 'tree' }, drawing, rows);

  function fold(key) {
    if (!open.delete(key)) open.add(key);
    update(last);
  }

  function update(instance) {
    last = instance;
    const shared = instance.slots;
    const tops = arrange(instance);
    keyed(rows, tops, (item) => item.key, () => branch(fold));
    const flat = [];
    (function walk(items) {
      for (const item of items) {
        flat.push(item);
        if (item.members ? open.has(item.key) : true) walk(item.children);
      }
    })(tops);
    drawing.style.width = `${shared.length}rem`;
    attribute(node, { 'data-notes': flat.some((item) => notes(item.one)) ? '' : null });
    keyed(lanes, shared.map((slot, i) => ({ slot, i, flat })), ({ i }) => i, lane);
  }

  function branch() {
    const line = row(fold);
    const below = el('ul', { class: 'rows' });
    const item = el('li', {}, line.node, below);
    return {
      node: item,
      update(data) {
        const unfolded = !data.members || open.has(data.key);
        line.update(data, unfolded);
        if (shown(below, unfolded && data.children.length)) keyed(below, data.children, (child) => child.key, () => branch());
      },
    };
  }

  return { node, update };
}

/** Processes as a tree, in which long runs of equal workers are one item with members. */
function arrange({ processes, slots }) {
  const known = new Set(processes.map((one) => one.pid));
  const children = new Map();
  for (const one of processes) {
    const parent = known.has(one.parent) && one.parent !== one.pid ? one.parent : null;
    children.set(parent, [...(children.get(parent) ?? []), one]);
  }
  const holds = new Map(processes.map((one) => [one.pid, slots.flatMap((slot, i) => (slot.holders.includes(one.pid) ? [i] : []))]));
  const item = (one) => ({ key: `p${one.pid}`, one, holds: holds.get(one.pid), children: level(one.pid) });
  // Equal is who does and holds the same, and has no children of its own.
  const looks = (one) =>
    children.has(one.pid) ? one.pid : [one.role, one.holding, one.inspection, one.settled, one.otherThreadSlots, one.slots.length, holds.get(one.pid)].join();
  function level(pid) {
    const runs = [];
    for (const one of children.get(pid) ?? []) {
      const run = runs.at(-1);
      if (run && looks(run[0]) === looks(one)) run.push(one);
      else runs.push([one]);
    }
    return runs.flatMap((run) =>
      run.length < RUN ? run.map(item) : [{ key: `r${run[0].pid}`, one: run[0], members: run, holds: holds.get(run[0].pid), children: run.map(item) }]);
  }
  return level(null);
}

function row(fold) {
  const what = el('span', { class: 'what' });
  const role = el('span', { class: 'role' });
  const pid = el('span', { class: 'pid' });
  const button = el('button', { type: 'button', class: 'unfold' });
  what.append(role, ' ', pid, button);
  const holds = el('span', { class: 'holds' });
  const chips = el('span', { class: 'chips', 'aria-hidden': 'true' });
  const words = el('span');
  holds.append(chips, words);
  const note = el('span', { class: 'note' });
  const node = el('div', { class: 'row' }, what, holds, note);
  return {
    node,
    update({ key, one, members, holds: slots }, unfolded) {
      const letters = slots.map(letter);
      attribute(node, {
        'data-pid': members ? null : one.pid,
        'data-run': members ? members.length : null,
        'data-holding': one.holding,
        'data-holds': letters.join(' '),
      });
      shown(role, !members);
      shown(pid, !members);
      if (shown(button, members)) {
        button.onclick = () => fold(key);
        attribute(button, { 'aria-expanded': Boolean(unfolded) });
        text(button, `${members.length} ${one.role}s alike, ${one.pid} … ${members.at(-1).pid}`);
      } else {
        text(role, one.role);
        text(pid, one.pid);
      }
      keyed(chips, slots, (i) => i, (i) => chip(i));
      attribute(words, { class: slots.length ? 'unseen' : null });
      text(words, slots.length ? ` holds shared ${slots.length === 1 ? 'slot' : 'slots'} ${letters.join(', ')}` : holding(one));
      text(note, notes(one));
    },
  };
}

const notes = (one) =>
  [!one.settled && 'starting', one.otherThreadSlots > 0 && `${count(one.otherThreadSlots, 'slot')} in other threads`].filter(Boolean).join(', ');

function holding(one) {
  if (one.holding === 'nothing') return 'holds nothing';
  if (one.holding === 'own') return `${count(one.slots.length, 'slot')} of its own`;
  if (one.inspection === null) return '? not read yet';
  return one.inspection === 'inspected' ? '? not known' : `? not read: ${one.inspection.replaceAll('_', ' ')}`;
}

/** A slot's letter in its colour. */
export function chip(i) {
  const node = el('span', { class: 'chip', 'data-slot': letter(i), 'data-colour': colour(i) }, letter(i));
  return { node, update() {} };
}

function lane({ i: index }) {
  const x = `${index + 0.5}rem`;
  const name = svg('text', { x, y: '1.3rem' }, letter(index));
  const line = svg('rect', { x: `${index + 0.42}rem` });
  const dots = svg('g');
  const node = svg('g', { class: 'lane', 'data-slot': letter(index), 'data-holds': letter(index), 'data-colour': colour(index) }, line, dots, name);
  return {
    node,
    update({ flat }) {
      const held = flat.flatMap((item, at) => (item.holds.includes(index) ? [{ key: item.key, at, many: Boolean(item.members) }] : []));
      line.style.height = held.length ? `calc(${middle(held.at(-1).at)} - 1.6rem)` : '0';
      keyed(dots, held, (dot) => dot.key, () => {
        const circle = svg('circle', { cx: x });
        return {
          node: circle,
          update(dot) {
            circle.style.cy = middle(dot.at);
            attribute(circle, { r: dot.many ? 6.5 : 4.5 });
          },
        };
      });
    },
  };
}

/** Lets all that has to do with one slot stand out: under the pointer, with the focus, or when its button was pressed. */
export function highlight(root) {
  let pinned = null;
  let near = null;
  const slotOf = (event) => event.target.closest?.('[data-slot]')?.dataset.slot ?? null;
  function apply() {
    const lit = near ?? pinned;
    attribute(root, { 'data-lit': lit });
    for (const node of root.querySelectorAll('[data-holds]')) node.classList.toggle('on', lit !== null && node.dataset.holds.split(' ').includes(lit));
    for (const button of root.querySelectorAll('button[data-slot]')) attribute(button, { 'aria-pressed': button.dataset.slot === pinned });
  }
  const come = (event) => ((near = slotOf(event)), apply());
  root.addEventListener('pointerover', (event) => event.pointerType !== 'touch' && come(event));
  root.addEventListener('pointerleave', () => ((near = null), apply()));
  root.addEventListener('focusin', (event) => event.target.matches(':focus-visible') && come(event));
  root.addEventListener('focusout', () => ((near = null), apply()));
  root.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-slot]');
    if (!button) return;
    pinned = pinned === button.dataset.slot ? null : button.dataset.slot;
    near = null;
    apply();
  });
  return { update: apply };
}
