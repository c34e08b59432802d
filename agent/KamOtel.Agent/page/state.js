// The connection: server-sent events, and whether what the page shows is still true.

/** The agent sends something every 5 s; three times nothing is no coincidence. */
const SILENCE = 15_000;
const RETRY = 2_000;
const POLL = 5_000;

/**
 * Follows the agent.
 * @param on { fleet, instance, gone, connection }; connection gets { state: 'connecting' | 'live' | 'lost' | 'full', since, why }
 */
export function follow(on) {
  let source = null;
  let instance = null;
  let state = { state: 'connecting', since: Date.now(), why: '' };
  let heard = Date.now();
  let opened = 0;
  let retry = 0;

  function become(name, why = '') {
    if (state.state === name && state.why === why) return;
    // What is stale is so since the agent was last heard.
    state = { state: name, since: name === 'lost' ? heard : Date.now(), why };
    on.connection(state);
  }

  function open() {
    clearTimeout(retry);
    source?.close();
    opened = Date.now();
    const mine = (source = new EventSource(instance ? `/api/events?instance=${encodeURIComponent(instance)}` : '/api/events'));
    const listen = (name, act) =>
      mine.addEventListener(name, (event) => {
        if (mine !== source) return;
        heard = Date.now();
        become('live');
        act?.(JSON.parse(event.data));
      });
    listen('fleet', on.fleet);
    listen('instance', on.instance);
    listen('gone', on.gone);
    listen('beat');
    mine.onerror = () => {
      if (mine !== source) return;
      if (mine.readyState !== EventSource.CLOSED) return lost('The agent does not answer.');
      // The agent answered, and not with events. EventSource keeps the reason to itself, and gives up.
      mine.close();
      ask();
    };
  }

  function lost(why) {
    become('lost', why);
  }

  /** Asks why there is no stream, and meanwhile for the state itself. */
  async function ask() {
    clearTimeout(retry);
    const asked = source;
    let wait = RETRY;
    try {
      const give = new AbortController();
      const answer = await fetch('/api/events', { signal: give.signal });
      const why = answer.status === 503 ? (await answer.text()).trim() : '';
      give.abort();
      if (asked !== source) return;
      if (answer.ok) wait = 0;
      else if (answer.status === 503) {
        await poll();
        become('full', why);
        wait = POLL;
      } else lost(`The agent answered ${answer.status}.`);
    } catch {
      lost('The agent does not answer.');
    }
    if (asked === source) retry = setTimeout(open, wait);
  }

  async function poll() {
    const fleet = await fetch('/api/fleet');
    on.fleet(await fleet.json());
    if (instance) {
      const one = await fetch(`/api/instances/${encodeURIComponent(instance)}`);
      if (one.ok) on.instance(await one.json());
      else if (one.status === 404) on.gone({ id: instance });
    }
    heard = Date.now();
  }

  // A connection that died without a word, as when a phone slept or a tunnel hangs, is not mended by waiting.
  function check() {
    if (state.state === 'full' || Date.now() - Math.max(heard, opened) < SILENCE) return;
    lost('The agent sends nothing.');
    open();
  }
  setInterval(check, 1000);
  document.addEventListener('visibilitychange', check);
  // A page that goes into the browser's back/forward cache should not hold one of the few streams.
  addEventListener('pagehide', () => source?.close());
  addEventListener('pageshow', (event) => event.persisted && open());

  return {
    /** Follows one instance as well, or none. */
    show(id) {
      if (source && id === instance) return;
      instance = id;
      open();
    },
  };
}
