// Puts the parts together: which view, what the title says, what is told to those who do not see it.
import { el, shown, visible } from './dom.js';
import { setClock, VERDICTS } from './words.js';
import { follow } from './state.js';
import * as agentParts from './agent.js';
import { fleetView, standing } from './fleet.js';
import { instanceView } from './instance.js';

const main = document.getElementById('main');
const say = document.getElementById('say');
const connection = agentParts.connection();
const facts = agentParts.facts();
const fleet = fleetView();
const instance = instanceView();
const loading = el('p', { class: 'quiet', role: 'status' }, 'Asking the agent …');
main.append(loading, fleet.node, instance.node);
shown(fleet.node, false);
shown(instance.node, false);

let known = null; // the fleet as last heard
let one = null; // the id of the instance that is shown
let title = null; // its target
let state = 'connecting';
let stale = '';
let scrolled = 0;

const agent = follow({
  fleet(next) {
    setClock(next.time, next.agent.recording !== null);
    agentParts.notices(next.agent);
    facts.update(next.agent);
    fleet.update(next);
    tell(next);
    known = next;
    arrive();
    name();
  },
  instance(next) {
    if (next.summary.id !== one) return;
    title = next.summary.target;
    instance.update(next);
    name();
  },
  gone({ id }) {
    if (id !== one) return;
    instance.gone();
    announce('This server is not known any more.');
  },
  connection(next) {
    if (next.state === 'lost') announce('Connection lost.');
    else if (next.state === 'full') announce('Too many pages are open. This page asks every 5 seconds.');
    else if (state === 'lost') announce('Connected again.');
    state = next.state;
    stale = state === 'lost' ? 'Connection lost · ' : '';
    connection.update(next);
    name();
  },
});

function route(event) {
  const wanted = /^#\/instance\/(.+)$/.exec(location.hash)?.[1];
  const left = one;
  if (location.hash && !location.hash.startsWith('#/')) return; // the skip link
  if (one === null && event) scrolled = scrollY;
  one = wanted ? decoded(wanted) : null;
  title = null;
  if (one !== null) instance.wait();
  agent.show(one);
  arrive();
  name();
  if (!event) return;
  // Back is where one was; forward begins at the top.
  if (one === null) {
    scrollTo(0, scrolled);
    (fleet.link(left) ?? fleet.heading).focus({ preventScroll: true });
  } else {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function decoded(id) {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

function arrive() {
  shown(loading, !known && one === null);
  shown(fleet.node, known && one === null);
  shown(instance.node, one !== null);
}

/** The worst verdict is seen in a row of tabs, too. */
function name() {
  document.title = `${stale}${subject()} · KamOtel`;
}

function subject() {
  if (!known) return 'connecting';
  const { agent: it, instances } = known;
  const shownOne = one !== null && instances.find((other) => other.id === one);
  if (shownOne) return visible(`${standing(shownOne)}: ${shownOne.target}`);
  if (one !== null) return visible(title ?? 'a server');
  if (it.notReady !== null) return 'not ready';
  const living = instances.filter((other) => !other.ended);
  const worst = VERDICTS.find((verdict) => living.some((other) => other.verdict === verdict));
  if (!worst) return instances.length ? 'all servers ended' : 'no server';
  return `${living.filter((other) => other.verdict === worst).length} ${worst} of ${living.length}`;
}

/** Tells what changed for the worse or the better, and nothing else. */
function tell(next) {
  if (!known) return;
  const before = new Map(known.instances.map((other) => [other.id, other]));
  const news = next.instances.flatMap((now) => {
    const then = before.get(now.id);
    if (!then) return [`New server ${now.target}: ${standing(now)}.`];
    return standing(then) === standing(now) ? [] : [`${now.target}: ${standing(now)}, was ${standing(then)}.`];
  });
  if (news.length) announce([...news.slice(0, 3), news.length > 3 ? `And ${news.length - 3} more changes.` : ''].join(' '));
}

function announce(sentence) {
  say.textContent = visible(sentence);
}

history.scrollRestoration = 'manual';
addEventListener('hashchange', route);
route();
