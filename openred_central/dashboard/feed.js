// Data from the server: live events, and polled statistics while no events arrive.

const QUIET_S = 6; // Figures arrive each second; after this silence the page polls.
const POLL_S = 5;
const STALE_S = 15;
const STATS_S = 30; // Totals are fetched this often, also while events arrive.
const REOPEN_S = 30; // A refused stream is opened again after this time.

class Feed {
  /** `on` has a function for each kind of data: figures, stats, history, transition, transitions, reset, link. */
  constructor(on) {
    this.on = on;
    this.began = Date.now();
    this.heard = { live: 0, polled: 0 };
    this.lost = false; // Whether the stream has ended and no figures arrived since.
    this.answered = null; // Whether the last poll succeeded, of those made for lack of figures.
    this.asked = 0;
    this.asking = false;
    this.before = null;
    this.ids = new Set();
    this.open();
    setInterval(() => this.watch(), 1000);
  }

  open() {
    const source = new EventSource("events?recent=50&history=true");
    const listen = (name, take) =>
      source.addEventListener(name, (event) => {
        this.heard.live = Date.now();
        this.lost = false;
        this.answered = null;
        take(JSON.parse(event.data), event.lastEventId);
      });
    source.addEventListener("open", () => this.ask());
    listen("figures", (document) => {
      this.on.figures(document);
      this.report();
    });
    listen("history", (document) => this.on.history(document));
    listen("transition", (document, id) => this.once(id, () => this.on.transition(document)));
    listen("transitions", (document, id) => this.once(id, () => this.on.transitions(document)));
    listen("reset", () => {
      this.ids.clear();
      this.on.reset();
    });
    source.addEventListener("error", () => {
      this.lost = true;
      // A browser reconnects by itself, unless it was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.open(), REOPEN_S * 1000);
      this.ask();
    });
  }

  /** Take an event once: a new stream repeats events of the previous one. */
  once(id, take) {
    if (this.ids.has(id)) return;
    this.ids.add(id);
    if (this.ids.size > 400) this.ids.delete(this.ids.values().next().value);
    take();
  }

  /** Poll if no events arrive, and report the state of the connection. */
  watch() {
    const wait_s = this.quiet ? POLL_S : STATS_S;
    if (Date.now() - this.asked >= wait_s * 1000) this.ask();
    this.report();
  }

  /** Whether no live figures arrive. */
  get quiet() {
    return this.lost || Date.now() - Math.max(this.heard.live, this.began) >= QUIET_S * 1000;
  }

  async ask() {
    if (this.asking) return;
    this.asking = true;
    this.asked = Date.now();
    let answered = false;
    try {
      const response = await fetch("stats", { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      if (!response.ok) return;
      const stats = await response.json();
      answered = true;
      this.heard.polled = Date.now();
      this.on.stats(stats, this.quiet);
      if (this.quiet) this.on.figures(figuresOf(stats, this.before));
      this.before = stats;
    } catch {
      // The server is not reachable; `report` shows that.
    } finally {
      this.asking = false;
      if (this.quiet) this.answered = answered;
      this.report();
    }
  }

  report() {
    const last = Math.max(this.heard.live, this.heard.polled);
    const stale = this.answered === false || Date.now() - Math.max(last, this.began) > STALE_S * 1000;
    const live = !this.quiet && this.heard.live > 0;
    this.on.link(live ? "live" : stale ? "stale" : this.answered ? "polling" : "waiting", last);
  }
}

/** Return statistics in the form of live figures; rates are since `before`, missing values null. */
function figuresOf(stats, before) {
  const { directory, empathy, performance } = stats;
  const passed_s = before ? performance.uptime_s - before.performance.uptime_s : 0;
  const rate = (read) => (passed_s > 0 ? (read(stats) - read(before)) / passed_s : null);
  return {
    time: stats.time,
    uptime_s: performance.uptime_s,
    attended_s: empathy.attended_s,
    nodes: directory.nodes,
    by_state: directory.by_state,
    tombstones: directory.tombstones,
    requests_per_s: rate((one) => one.performance.requests),
    heartbeats_per_s: null,
    transitions_per_s: rate((one) => one.lifecycle.transitions.reduce((sum, kind) => sum + kind.count, 0)),
    latency_ms: { p50: null, p99: null },
    connections: performance.connections.open,
    store: performance.store.state,
    mass_silence: empathy.mass_silence,
    holds: empathy.holds,
    dark: empathy.dark,
  };
}
