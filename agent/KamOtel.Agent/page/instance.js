// One server: the answer first, then what to do, then the proof.
import { el, text, attribute, shown, keyed, icon, terms } from './dom.js';
import { badge, ago, bytes, clock, count, fault, number } from './words.js';
import { treeView, highlight } from './tree.js';
import { slotsView, holdingsView } from './slots.js';
import { timelineView } from './timeline.js';

/** The view of one instance. */
export function instanceView() {
  const heading = el('h1', { tabIndex: -1 });
  const gone = el('div', { class: 'empty' }, el('h2', {}, 'This server is not known any more'), el('p', {},
    'It ended some time ago, or KamOtel was restarted since: only the last ended servers are kept. Its metrics and spans are where they were exported to.'));
  const waiting = el('p', { class: 'quiet' }, 'Asking for this server …');
  const head = headline(heading);
  const tree = treeView();
  const slots = slotsView();
  const holdings = holdingsView();
  const timeline = timelineView();
  const advice = section('What to do', adviceView());
  const faults = section('Faults', faultsView());
  const coverage = section('What was seen, and what was not', coverageView());
  const about = section('The server', factsView());
  const ties = el('div', { class: 'ties' },
    el('section', {}, el('h2', {}, 'Processes'), el('p', { class: 'lead' }, 'A line joins the processes that hold the same pointer.'), tree.node, holdings.node),
    el('section', {}, el('h2', {}, 'Shared slots'), slots.node));
  const lit = highlight(ties);
  const body = el('div', { class: 'body' },
    head.node, advice.node, faults.node, ties,
    el('section', {}, el('h2', {}, 'The story'), timeline.node),
    el('div', { class: 'pair' }, coverage.node, about.node));
  const node = el('div', { class: 'view one' }, el('nav', { 'aria-label': 'Back' }, el('a', { class: 'back', href: '#/' }, 'All servers')), waiting, gone, body);

  function show(which) {
    shown(waiting, which === waiting);
    shown(gone, which === gone);
    shown(body, which === body);
  }

  return {
    node,
    heading,
    wait: () => show(waiting),
    gone: () => show(gone),
    update(instance) {
      show(body);
      head.update(instance);
      advice.update(instance);
      faults.update(instance);
      tree.update(instance);
      shown(ties.querySelector('.lead'), instance.slots.length);
      slots.update(instance);
      holdings.update(instance);
      lit.update();
      timeline.update(instance);
      coverage.update(instance);
      about.update(instance);
    },
  };
}

/** A section that is there only when its view has something to say. */
function section(title, view) {
  const node = el('section', { class: view.name ?? '' }, el('h2', {}, title), view.node);
  return { node, update: (instance) => shown(node, view.update(instance) !== false) };
}

function headline(heading) {
  const verdict = badge('large');
  const reason = el('p', { class: 'reason' });
  const end = el('p', { class: 'ended' });
  const endIcon = icon('ended');
  const endedAgo = ago('Ended ');
  const how = el('span');
  end.append(endIcon.node, el('span', {}, endedAgo.node, how));
  const open = el('p', { class: 'quiet' }, 'No inspection has decided this: it is concluded from what was seen.');
  const meta = el('ul', { class: 'meta' });
  const started = ago('started ');
  const read = ago('processes read ');
  const words = { versions: el('li'), processes: el('li'), root: el('li') };
  meta.append(words.versions, words.processes, words.root, el('li', {}, started.node), el('li', {}, read.node));
  const node = el('header', { class: 'headline' }, verdict.node, heading, reason, end, open, meta);
  return {
    node,
    update({ summary, faults, timeline }) {
      attribute(node, { 'data-verdict': summary.verdict, 'data-ended': summary.ended ? '' : null });
      verdict.update(summary.verdict);
      text(heading, summary.target);
      text(reason, summary.reason);
      if (shown(end, summary.ended)) {
        endedAgo.update(summary.ended);
        const crash = faults.find((one) => one.kind === 'crash');
        const last = timeline.findLast((entry) => entry.kind === 'ended');
        const why = crash ? fault(crash) : last?.text;
        text(how, why ? `: ${why}` : '');
      }
      shown(open, !summary.concluded && summary.verdict !== 'unknown');
      text(words.versions, [summary.kamailio ? `Kamailio ${summary.kamailio}` : summary.program, summary.openssl && `OpenSSL ${summary.openssl}`].filter(Boolean).join(', '));
      text(words.processes, `${count(summary.processes, 'process', 'processes')}, ${count(summary.workers, 'worker')}`);
      shown(words.processes, !summary.ended);
      text(words.root, `root ${summary.rootPid}`);
      shown(started.node.parentNode, summary.started);
      started.update(summary.started);
      shown(read.node.parentNode, summary.inspected && !summary.ended);
      read.update(summary.inspected);
    },
  };
}

function adviceView() {
  const node = el('ol', { class: 'advice' });
  return {
    node,
    name: 'todo',
    update({ advice }) {
      keyed(node, advice, (one) => one.id, () => {
        const words = el('span');
        const link = el('a', { rel: 'noreferrer' });
        const item = el('li', {}, words, ' ', link);
        return {
          node: item,
          update(one) {
            text(words, one.text);
            // Only what is an address becomes a link. The agent serves the guides of docs/ itself.
            const source = one.source ?? '';
            const guide = /^docs\/[\w./#-]+$/.test(source);
            if (shown(link, guide || /^https?:\/\//.test(source))) {
              attribute(link, { href: guide ? `/${source}` : source });
              text(link, source.replace(/^https?:\/\/(github\.com\/)?/, ''));
            }
          },
        };
      });
      return advice.length > 0;
    },
  };
}

function faultsView() {
  const node = el('ul', { class: 'faultlist' });
  return {
    node,
    update({ faults }) {
      keyed(node, faults, (f) => [f.kind, f.signal, f.complaint, f.role, f.module, f.address].join(), () => {
        const words = el('strong');
        const last = el('span', { class: 'quiet' });
        const when = ago(', ');
        const item = el('li', {}, words, ' ', el('span', { class: 'quiet' }, last, when.node));
        return {
          node: item,
          update(f) {
            text(words, `${f.count === 1 ? '' : `${number(f.count)} times: `}${fault(f)}${place(f.address)}`);
            text(last, `last process ${f.lastPid}`);
            when.update(f.lastAt ?? null);
          },
        };
      });
      return faults.length > 0;
    },
  };
}

const place = (address) => ({
  shared_slot: ', at what a shared slot points to',
  beside_shared_slot: ', beside what a shared slot points to',
  shared_memory: ', in the memory of the shared slots',
})[address] ?? '';

function coverageView() {
  const read = el('p');
  const since = el('p');
  const gaps = el('ul', { class: 'gaps' });
  const node = el('div', {}, read, since, gaps);
  return {
    node,
    update({ coverage }) {
      text(read, `${count(coverage.inspected, 'process was', 'processes were')} read${coverage.failed ? `, and ${coverage.failed} could not be` : coverage.inspected ? ', none failed' : ''}.`);
      text(since, coverage.sinceExec ? 'Watched from its exec on.' : 'Not watched from its exec on: what happened before is not known.');
      keyed(gaps, coverage.gaps, (gap) => gap.gap, () => {
        const name = el('strong');
        const meaning = el('span');
        const item = el('li', {}, name, ' ', meaning);
        return {
          node: item,
          update(gap) {
            text(name, gap.gap.replaceAll('_', ' '));
            text(meaning, [gap.meaning, gap.detail].filter(Boolean).join(' '));
          },
        };
      });
    },
  };
}

function factsView() {
  const node = el('dl', { class: 'facts' });
  return {
    node,
    update({ summary, modules, tlsThreadsMode, tlsBackEnd, sharedMemory }) {
      terms(node, [
        ['Program', summary.program],
        ['Kamailio', summary.kamailio],
        ['OpenSSL', summary.openssl],
        ['tls_threads_mode', tlsThreadsMode ?? 'not known, or not in this version'],
        ['TLS by', tlsBackEnd],
        ['Started', summary.started && clock(summary.started)],
        ['Ready', summary.ready && clock(summary.ready)],
        ['Shared memory', memory(sharedMemory)],
        ['Modules', modules.length ? `${modules.length}: ${modules.join(' ')}` : null],
      ]);
    },
  };
}

const memory = ({ size, used, maxUsed, manager }) => [
  size === null ? 'size not known' : used === null ? bytes(size) : `${bytes(used)} of ${bytes(size)}, ${Math.round((used / size) * 100)} %`,
  maxUsed !== null && `at most ${bytes(maxUsed)} so far`,
  manager && `manager ${manager}`,
].filter(Boolean).join(', ');
