// The agent itself: what it is, and what keeps it from seeing. A verdict is worth no more than that.
import { el, text, attribute, shown, keyed } from './dom.js';
import { ago, count, clock, number } from './words.js';

const byId = (id) => document.getElementById(id);

/** The line at the top that tells whether what is shown is true now. */
export function connection() {
  const node = byId('connection');
  const notice = note('lost');
  notice.node.classList.add('banner');
  byId('notices').before(notice.node);
  shown(notice.node, false);
  const words = { connecting: 'connecting', live: 'live', lost: 'connection lost', full: 'every 5 s' };
  return {
    update({ state, since, why }) {
      attribute(node, { 'data-state': state });
      text(node.lastElementChild, words[state]);
      attribute(document.body, { 'data-stale': state === 'lost' ? '' : null });
      if (!shown(notice.node, state === 'lost' || state === 'full')) return;
      const stopped = state === 'lost';
      notice.update({
        kind: stopped ? 'error' : 'warning',
        head: stopped ? `Connection lost since ${clock(new Date(since).toISOString())}.` : 'Too many pages are open.',
        body: stopped
          ? `${why} What you see is how it was then; this page tries again every few seconds. Does kamotel still run, and the ssh tunnel?`
          : `${why ? `${why} ` : ''}Until one of them is closed, this page asks every 5 s instead.`,
      });
    },
  };
}

/** Whatever makes the agent see less than it should. */
export function notices(agent) {
  const all = [];
  const add = (key, kind, head, body) => all.push({ key, kind, head, body });
  if (agent.recording !== null)
    add('recording', 'info', `A recording: ${agent.recording}.`, 'This is what was observed then, not the state of this host.');
  if (agent.notReady !== null)
    add('notReady', 'error', 'KamOtel is not ready:', `${agent.notReady}. What is not shown here may be so all the same; kamotel doctor tells what to change.`);
  if (agent.attachFailures > 0)
    add('attach', 'warning', `${count(agent.attachFailures, 'probe')} could not be attached.`, 'Calls there are not seen; kamotel doctor tells why.');
  if (agent.eventsLost > 0)
    add('lost', 'warning', `${count(agent.eventsLost, 'event was', 'events were')} lost.`, 'Verdicts come from reading the processes and hold; who did it and when may be missing. Raise --ring-bytes.');
  if (agent.unreadComplaints > 0)
    add('complaints', 'warning', `${count(agent.unreadComplaints, 'complaint')} could not be read.`, 'A server’s memory manager complained, and of what is not known.');
  if (agent.telemetryDropped > 0)
    add('dropped', 'warning', `${count(agent.telemetryDropped, 'span or log', 'spans and logs')} could not be exported.`, 'This page and /metrics have it all the same.');
  keyed(byId('notices'), all, (notice) => notice.key, (notice) => note(notice.kind));
}

/** A line at the foot: who speaks. */
export function facts() {
  const since = ago('running for ', '');
  const parts = { version: el('span'), watch: el('span'), probes: el('span'), events: el('span') };
  byId('agent').append(
    parts.version, since.node, parts.watch, parts.probes, parts.events,
    el('span', {}, el('a', { href: '/docs/' }, 'guides')),
    el('span', {}, el('a', { href: '/metrics' }, 'metrics')));
  return {
    update(agent) {
      // What is true of this host and this agent is not so of a recording.
      const here = agent.recording === null;
      text(byId('host'), here ? agent.host : '');
      text(parts.version, `KamOtel ${agent.version}`);
      since.update(agent.started);
      text(parts.watch, here ? `watches programs named ${agent.watch.join(', ')}` : '');
      text(parts.probes, `${count(agent.probedLibraries, 'library', 'libraries')} probed`);
      text(parts.events, `${number(agent.eventsReceived)} events, ${number(agent.eventsLost)} lost`);
    },
  };
}

function note(kind) {
  const head = el('strong');
  const body = el('span');
  const node = el('div', { class: 'notice' }, el('p', {}, head, ' ', body));
  attribute(node, { 'data-kind': kind });
  return {
    node,
    update(notice) {
      attribute(node, { 'data-kind': notice.kind ?? kind });
      text(head, notice.head);
      text(body, notice.body);
    },
  };
}
