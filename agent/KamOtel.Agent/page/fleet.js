// All servers, worst first, and what to do when there is none.
import { el, icon, text, attribute, shown, keyed } from './dom.js';
import { VERDICTS, badge, ago, count, number } from './words.js';

/** With so few servers a filter is only in the way. */
const MANY = 8;

/** What a server counts as: its verdict while it lives. */
export const standing = (summary) => (summary.ended ? 'ended' : summary.verdict);

/** The view of the fleet. */
export function fleetView() {
  let fleet = null;
  const only = new Set();

  const heading = el('h1', { tabIndex: -1 }, 'Servers');
  const counts = el('ul', { class: 'counts', 'aria-label': 'Servers by verdict' });
  const words = el('input', { type: 'search', id: 'words', autocomplete: 'off', spellcheck: false, oninput: render });
  words.placeholder = 'name, author, version, reason';
  const filter = el('div', { class: 'filter', role: 'search' }, el('label', { htmlFor: 'words' }, 'Filter'), words);
  const found = el('p', { class: 'found', role: 'status' });
  const nothing = empty();
  const rows = el('tbody', { role: 'rowgroup' });
  const table = el('table', { class: 'fleet', role: 'table', 'aria-label': 'Servers, worst first' },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' },
      ...['Verdict', 'Server', 'Shared', 'Author', 'Versions', 'Started'].map((name) => el('th', { role: 'columnheader', scope: 'col' }, name)))),
    rows);
  const head = el('div', { class: 'head' }, heading, counts, filter);
  const node = el('div', { class: 'view' }, head, found, nothing.node, table);

  function toggle(verdict) {
    if (!only.delete(verdict)) only.add(verdict);
    render();
  }

  function clear() {
    only.clear();
    words.value = '';
    render();
  }

  const clearButton = el('button', { type: 'button', class: 'plain', onclick: () => { clear(); words.focus(); } }, 'Show all');
  const foundText = el('span');
  found.append(foundText, ' ', clearButton);

  function render() {
    if (!fleet) return;
    const { agent, instances } = fleet;
    const tally = new Map();
    for (const one of instances) tally.set(standing(one), (tally.get(standing(one)) ?? 0) + 1);
    keyed(counts, [...VERDICTS, 'ended'].filter((verdict) => tally.get(verdict) || only.has(verdict)), (verdict) => verdict, (verdict) => {
      const shape = badge();
      const figure = el('b');
      const button = el('button', { type: 'button', onclick: () => toggle(verdict) }, figure, ' ', shape.node);
      shape.update(verdict);
      return {
        node: el('li', {}, button),
        update() {
          text(figure, number(tally.get(verdict) ?? 0));
          attribute(button, { 'aria-pressed': only.has(verdict) });
        },
      };
    });

    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filtered = only.size > 0 || wanted.length > 0;
    const matches = (one) => (only.size === 0 || only.has(standing(one))) && (wanted.length === 0 || has(one, wanted));
    keyed(rows, instances, (one) => one.id, row);
    let left = 0;
    instances.forEach((one, i) => (left += shown(rows.children[i], matches(one)) ? 1 : 0));

    shown(counts, instances.length > 1 || filtered);
    shown(filter, instances.length >= MANY || filtered);
    if (shown(found, filtered)) text(foundText, `${left} of ${count(instances.length, 'server')} shown.`);
    shown(table, left > 0);
    if (shown(nothing.node, instances.length === 0)) nothing.update(agent);
  }

  return {
    node,
    heading,
    update(next) {
      fleet = next;
      render();
    },
    /** The link of a server, to come back to. */
    link: (id) => rows.querySelector(`a[href="#/instance/${CSS.escape(encodeURIComponent(id))}"]`),
  };
}

function has(one, wanted) {
  const all = [one.target, one.program, one.reason, one.verdict, one.ended ? 'ended' : '', one.kamailio && `kamailio ${one.kamailio}`,
    one.openssl && `openssl ${one.openssl}`, one.rootPid, ...one.authors].join('\n').toLowerCase();
  return wanted.every((word) => all.includes(word));
}

function row() {
  const shape = badge();
  const end = el('span', { class: 'end' });
  const endIcon = icon('ended');
  const endText = el('span');
  end.append(endIcon.node, endText);
  const name = el('a', { class: 'name' });
  const why = el('p', { class: 'why' });
  const faults = el('p', { class: 'faults' });
  const blind = el('p', { class: 'blind' });
  const shared = el('td', { role: 'cell', class: 'shared' });
  const authors = el('td', { role: 'cell', class: 'authors' });
  const kamailio = el('span');
  const openssl = el('span');
  const since = ago();
  const node = el('tr', { role: 'row' },
    el('td', { role: 'cell', class: 'verdict' }, shape.node, end),
    el('th', { role: 'rowheader', scope: 'row', class: 'server' }, name, why, faults, blind),
    shared, authors,
    el('td', { role: 'cell', class: 'versions' }, kamailio, openssl),
    el('td', { role: 'cell', class: 'since' }, since.node));
  const endedAgo = ago('ended ');
  endText.append(endedAgo.node);
  return {
    node,
    update(one) {
      attribute(node, { 'data-verdict': one.verdict, 'data-ended': one.ended ? '' : null });
      shape.update(one.verdict);
      if (shown(end, one.ended)) endedAgo.update(one.ended);
      attribute(name, { href: `#/instance/${encodeURIComponent(one.id)}` });
      text(name, one.target);
      text(why, one.reason);
      const faultsText = [one.crashes && count(one.crashes, 'crash', 'crashes'), one.complaints && count(one.complaints, 'complaint')].filter(Boolean);
      if (shown(faults, faultsText.length)) text(faults, `${faultsText.join(', ')}.`);
      const missed = [one.failedInspections && `${count(one.failedInspections, 'process', 'processes')} could not be read`, one.gaps.length && `${count(one.gaps.length, 'gap')} in what was seen`].filter(Boolean);
      if (shown(blind, missed.length)) text(blind, `${missed.join(', ')}.`);
      text(shared, one.sharedSlots ? `${count(one.sharedSlots, 'slot')} by ${count(one.holders, 'process', 'processes')}` : one.verdict === 'unknown' ? 'not known' : 'none');
      text(authors, one.authors.length ? one.authors.join(', ') : one.sharedSlots ? 'not known' : '');
      text(kamailio, one.kamailio ? `Kamailio ${one.kamailio}` : one.program);
      text(openssl, one.openssl ? `OpenSSL ${one.openssl}` : '');
      since.update(one.started);
    },
  };
}

/** Nothing to show, and what to do about it. */
function empty() {
  const head = el('h2');
  const names = el('code');
  const help = el('div', {},
    el('p', {}, 'KamOtel watches programs named ', names, ', and sees none of them.'),
    el('ul', {},
      el('li', {}, 'Start one: it appears here by itself, without reloading.'),
      el('li', {}, 'It runs under another name? ', el('code', {}, 'kamotel run --watch NAME'), ', with the name that ', el('code', {}, 'ps -eo comm'), ' shows.'),
      el('li', {}, 'It runs and is not seen? ', el('code', {}, 'kamotel doctor'), ' tells what this machine lacks, and what to change.')));
  return {
    node: el('div', { class: 'empty' }, head, help),
    update(agent) {
      text(head, agent.notReady !== null ? 'No server is seen, for KamOtel is not ready' : agent.recording !== null ? 'The recording has no server' : 'No server is running');
      if (shown(help, agent.recording === null)) text(names, agent.watch.join(', '));
    },
  };
}
