// How things read: verdicts, times, numbers.
import { el, icon, text, attribute } from './dom.js';

/** Worst first. */
export const VERDICTS = ['corrupted', 'hazard', 'exposed', 'unknown', 'safe'];

/** A verdict as word, shape and colour. */
export function badge(size = '') {
  const shape = icon('unknown');
  const word = el('span');
  const node = el('span', { class: `badge ${size}` }, shape.node, word);
  return {
    node,
    update(verdict) {
      // A verdict that this page does not know yet is not safe either.
      const known = VERDICTS.includes(verdict) || verdict === 'ended' ? verdict : 'unknown';
      attribute(node, { 'data-verdict': known });
      shape.update(known);
      text(word, verdict);
    },
  };
}

/** 1 slot, 2 slots. */
export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

const figures = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
export const number = (n) => figures.format(n);

/** Milliseconds after exec. */
export function ms(value) {
  if (value === null) return '';
  if (value < 10_000) return `${value.toFixed(value < 100 ? 1 : 0)} ms`;
  if (value < 600_000) return `${(value / 1000).toFixed(1)} s`;
  return duration(value);
}

export function bytes(n) {
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (n < 1024 || unit === 'GiB') return `${n < 10 && unit !== 'B' ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1024;
  }
}

/** The largest unit alone: at 3 a.m. nobody adds seconds to days. */
export function duration(milliseconds) {
  const s = Math.max(0, Math.round(milliseconds / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

// The agent's clock counts, not the phone's. A recording's has stopped: "ago" would tell nothing of it.
let skew = 0;
let stopped = false;
export function setClock(iso, recording) {
  skew = Date.parse(iso) - Date.now();
  stopped = recording;
}
const now = () => Date.now() + skew;

/** The time of day, with the date unless it is today. */
export function clock(iso) {
  const at = new Date(iso);
  const time = at.toLocaleTimeString('en-GB');
  return !stopped && at.toDateString() === new Date(now()).toDateString() ? time : `${at.toLocaleDateString('en-CA')} ${time}`;
}

const relative = new Set();

/** "3 min ago", which grows old by itself. */
export function ago(before = '', after = ' ago') {
  const node = el('time');
  relative.add(new WeakRef(node));
  return {
    node,
    update(iso) {
      node.ago = () => (!iso ? '' : before + (stopped ? clock(iso) : duration(now() - Date.parse(iso)) + after));
      text(node, node.ago());
      attribute(node, { datetime: iso, title: iso ? clock(iso) : null });
    },
  };
}

setInterval(() => {
  for (const reference of relative) {
    const node = reference.deref();
    if (!node) relative.delete(reference);
    else if (node.ago) text(node, node.ago());
  }
}, 1000);

/** How a group of faults reads. */
export function fault(f) {
  const damage = {
    already_freed: 'memory freed twice',
    overwritten: 'memory that was overwritten',
    bad_pointer: 'a pointer that is none of its own',
    bad_fragment: 'a damaged fragment',
    out_of_shared_memory: 'too little shared memory',
  };
  return f.kind === 'crash'
    ? `${f.role} died of ${f.signal}${f.module ? ` in ${f.module}` : ''}`
    : `${f.role} complained of ${damage[f.complaint] ?? f.complaint}${f.module ? `, called from ${f.module}` : ''}${f.caller ? ` (${f.caller})` : ''}`;
}
