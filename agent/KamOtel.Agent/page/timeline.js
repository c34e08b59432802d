// The story: one list that is read as text, with a bar or a tick at the side that shows when. There is no second drawing that
// could tell something else.
import { el, text, attribute, shown, keyed } from './dom.js';
import { count, ms } from './words.js';

/** So many of a kind in a row are folded into one line. */
const RUN = 5;

const KINDS = {
  exec: ['exec', 'exec'], found: ['found', 'found'], modules: ['initialisation', 'initialisations'], module: ['module', 'modules'],
  call: ['OpenSSL call', 'OpenSSL calls'], fork: ['fork', 'forks'], ready: ['ready', 'ready'], verdict: ['verdict', 'verdicts'],
  confirmed: ['confirmed', 'confirmations'], gap: ['gap', 'gaps'], crash: ['crash', 'crashes'], complaint: ['complaint', 'complaints'],
  exit: ['exit', 'exits'], ended: ['end', 'end'],
};
const kindWord = (kind, n) => (KINDS[kind] ?? [kind, kind])[n === 1 ? 0 : 1];

// What belongs to the start and so sets the scale: a crash days later would press all of it into one pixel.
const START = new Set(['exec', 'modules', 'module', 'call', 'fork', 'ready']);

/** The story of an instance. */
export function timelineView() {
  const axis = el('div', { class: 'axis', 'aria-hidden': 'true' });
  const rows = el('ol', { class: 'story' });
  const left = el('p', { class: 'quiet' });
  const node = el('div', { class: 'timeline' }, axis, rows, left);
  let folds = new Map();

  function update({ timeline, timelineLeftOut }) {
    const end = startOf(timeline);
    const step = nice(end / 4);
    const scale = Math.ceil(end / step) * step;
    const marks = Array.from({ length: Math.round(scale / step) + 1 }, (_, i) => i * step);
    keyed(axis, marks, (mark) => mark, () => {
      const mark = el('span');
      return {
        node: mark,
        update(at) {
          mark.style.left = `${(at / scale) * 100}%`;
          text(mark, at >= 1000 ? `${+(at / 1000).toFixed(2)} s` : `${+at.toFixed(1)} ms`);
        },
      };
    });
    node.style.setProperty('--step', `${(step / scale) * 100}%`);

    const all = runs(named(timeline));
    folds = foldsOf(all, folds);
    keyed(rows, all, (run) => (run.length > 1 ? folds.get(run[0].key) : run[0].key), (run) => (run.length > 1 ? folded() : line()));
    for (const part of rows.querySelectorAll('.track')) place(part, scale);
    if (shown(left, timelineLeftOut > 0)) text(left, `${count(timelineLeftOut, 'more event was', 'more events were')} left out here; kamotel run --follow tells all.`);
  }

  return { node, update };
}

/** An entry is known by what it tells. Of those that tell the same, by its number among them. */
function named(timeline) {
  const seen = new Map();
  return timeline.map((entry) => {
    const what = [entry.kind, entry.atMs, entry.pid, entry.module, entry.text].join();
    seen.set(what, (seen.get(what) ?? 0) + 1);
    return { entry, key: `${what},${seen.get(what)}` };
  });
}

/** The fold of each entry. It grows at one end and loses entries at the other, and stays the same as long as one entry stays. */
function foldsOf(all, before) {
  const taken = new Set();
  const after = new Map();
  for (const run of all.filter((one) => one.length > 1)) {
    const fold = run.map(({ key }) => before.get(key)).find((one) => one && !taken.has(one)) ?? `fold of ${run[0].key}`;
    taken.add(fold);
    for (const { key } of run) after.set(key, fold);
  }
  return after;
}

/** How long the start took; with what came of it at once, as the verdict. */
function startOf(timeline) {
  const latest = (entries) => Math.max(1, ...entries.filter((one) => one.atMs !== null).map((one) => one.atMs + (one.durationMs ?? 0)));
  const start = latest(timeline.filter((one) => START.has(one.kind)));
  return latest(timeline.filter((one) => one.atMs <= 2 * start));
}

/** Neighbours of the same kind and weight belong together when they are many. */
function runs(entries) {
  const result = [];
  for (const one of entries) {
    const run = result.at(-1);
    if (run && run[0].entry.kind === one.entry.kind && run[0].entry.severity === one.entry.severity) run.push(one);
    else result.push([one]);
  }
  return result.flatMap((run) => (run.length < RUN ? run.map((one) => [one]) : [run]));
}

function line() {
  const part = entryParts();
  const node = el('li', { class: 'entry' }, ...part.nodes);
  return {
    node,
    update([{ entry }]) {
      attribute(node, { 'data-kind': entry.kind, 'data-severity': entry.severity });
      part.update(entry);
    },
  };
}

function folded() {
  const at = el('span', { class: 'at' });
  const words = el('span', { class: 'text' });
  const bar = track();
  const inner = el('ol', { class: 'story' });
  const node = el('li', {}, el('details', {}, el('summary', { class: 'entry' }, at, words, bar.node), inner));
  return {
    node,
    update(run) {
      const first = run[0].entry;
      const final = run.at(-1).entry;
      attribute(node.firstChild.firstChild, { 'data-kind': first.kind, 'data-severity': first.severity });
      text(at, ms(first.atMs));
      const modules = [...new Set(run.map(({ entry }) => entry.module).filter(Boolean))];
      const some = modules.length > 4 ? `${modules.slice(0, 3).join(', ')} and ${modules.length - 3} more` : modules.join(', ');
      text(words, `${run.length} ${kindWord(first.kind, run.length)}${some ? ` of ${some}` : ''}${final.atMs === null ? '' : `, until ${ms(final.atMs + (final.durationMs ?? 0))}`}`);
      bar.update({ atMs: first.atMs, durationMs: first.atMs === null || final.atMs === null ? null : final.atMs + (final.durationMs ?? 0) - first.atMs });
      keyed(inner, run.map((one) => [one]), ([one]) => one.key, line);
    },
  };
}

function entryParts() {
  const at = el('span', { class: 'at' });
  const words = el('span', { class: 'text' });
  const length = el('span', { class: 'quiet' });
  const sentence = el('span');
  words.append(sentence, length);
  const bar = track();
  return {
    nodes: [at, words, bar.node],
    update(entry) {
      text(at, entry.atMs === null ? '–' : ms(entry.atMs));
      text(sentence, entry.text);
      text(length, entry.durationMs === null ? '' : ` ${ms(entry.durationMs)}`);
      bar.update(entry);
    },
  };
}

function track() {
  const bar = el('span', { class: 'bar' });
  const node = el('span', { class: 'track', 'aria-hidden': 'true' }, bar);
  return {
    node,
    update(entry) {
      node.entry = entry;
    },
  };
}

function place(node, scale) {
  const { atMs, durationMs } = node.entry;
  const bar = node.firstChild;
  const outside = atMs === null || atMs > scale;
  bar.hidden = outside;
  node.classList.toggle('later', atMs !== null && outside);
  if (outside) return;
  bar.classList.toggle('tick', durationMs === null);
  bar.style.left = `${Math.min(100, (atMs / scale) * 100)}%`;
  bar.style.width = durationMs === null ? '' : `${(Math.min(durationMs, scale - atMs) / scale) * 100}%`;
}

/** 1, 2 or 5 times a power of ten, not below. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((n) => n * power >= value) * power;
}
