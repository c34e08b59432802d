// The shared slots one by one: what it is, who set it and how, who holds it; and what each process holds at all.
import { el, text, shown, keyed, texts, terms } from './dom.js';
import { count, ms } from './words.js';
import { letter, colour } from './tree.js';

/** The list of an instance's shared slots. */
export function slotsView() {
  const list = el('ol', { class: 'slots' });
  const none = el('p', { class: 'quiet' });
  const node = el('div', {}, none, list);
  return {
    node,
    update({ slots, summary }) {
      keyed(list, slots.map((slot, i) => ({ slot, i })), ({ slot, i }) => `${i} ${slot.key} ${slot.value}`, card);
      if (shown(none, slots.length === 0))
        text(none, summary.verdict === 'unknown' ? 'Not known: see what was not seen, below.' : 'No pointer is held by more than one process.');
    },
  };
}

function card({ i }) {
  const button = el('button', { type: 'button', class: 'pick', 'data-slot': letter(i), 'aria-pressed': false },
    el('span', { class: 'chip', 'data-colour': colour(i) }, letter(i)));
  const name = el('span', { class: 'name' });
  const holders = el('span', { class: 'quiet' });
  button.append(name, holders);

  const path = el('ol', { class: 'path', 'aria-label': 'from who asked to libcrypto' });
  const who = el('p', { class: 'who' });
  const call = el('p', { class: 'quiet' });
  const frames = el('ol', { class: 'frames' });
  const framesHead = el('summary');
  const stack = el('details', {}, framesHead, frames);
  const details = el('dl');
  const more = el('details', {}, el('summary', {}, 'Address, holders, uses'), details);
  const node = el('li', { class: 'slot', 'data-holds': letter(i), 'data-colour': colour(i) },
    el('h3', {}, button), who, path, call, stack, more);
  return {
    node,
    update({ slot }) {
      text(name, slot.name ?? `key ${slot.key}`);
      text(holders, count(slot.holders.length, 'holder'));
      text(who, slot.author === null ? `Who set it is not known${slot.whyUnknown ? `: ${slot.whyUnknown}` : '.'}`
        : slot.askedBy && slot.askedBy !== slot.author ? `Set by ${slot.author}, asked by ${slot.askedBy}` : `Set by ${slot.author}`);
      if (shown(path, slot.path.length)) texts(path, slot.path, (step) => (step === slot.author ? 'author' : null));
      if (shown(call, slot.pid !== null))
        text(call, `${slot.atMs === null ? '' : `${ms(slot.atMs)} after exec, `}by process ${slot.pid}${slot.tid === slot.pid ? ', in its main thread' : `, in thread ${slot.tid}`}`);
      if (shown(stack, slot.frames.length)) {
        text(framesHead, `Stack, ${count(slot.frames.length, 'frame')}`);
        texts(frames, slot.frames);
      }
      terms(details, [
        ['Key', slot.key],
        ['Points to', slot.value],
        ['In', slot.mapping],
        ['Holders', slot.holders.join(', ')],
        ['Uses seen', slot.uses.length ? slot.uses.map(({ pid, count: n }) => `${pid}: ${n}`).join(', ') : 'none'],
      ]);
    },
  };
}

/** Every slot of every process, made only when somebody opens it: with 80 workers these are hundreds of lines. */
export function holdingsView() {
  let last = null;
  const rows = el('tbody');
  const head = el('summary');
  const table = el('div', { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': 'What each process holds' },
    el('table', { class: 'plain' },
      el('thead', {}, el('tr', {}, ...['Process', 'Key', 'Slot', 'Value', 'How'].map((name) => el('th', { scope: 'col' }, name)))), rows));
  const node = el('details', { ontoggle: render }, head, table);
  function render() {
    if (!last) return;
    const all = last.processes.flatMap((one) => one.slots.map((slot) => ({ one, slot })));
    shown(node, all.length);
    text(head, `What each process holds: ${count(all.length, 'slot')}`);
    keyed(rows, node.open ? all : [], ({ one, slot }) => `${one.pid} ${slot.key}`, () => {
      const cells = [el('th', { scope: 'row' }), el('td'), el('td'), el('td'), el('td')];
      return {
        node: el('tr', {}, ...cells),
        update({ one, slot }) {
          const how = slot.shared !== null ? `shared: ${letter(slot.shared)}` : slot.inherited ? 'inherited' : 'own';
          [one.pid, slot.key, slot.name ?? '', slot.value, how].forEach((value, i) => text(cells[i], value));
        },
      };
    });
  }
  return {
    node,
    update(instance) {
      last = instance;
      render();
    },
  };
}
