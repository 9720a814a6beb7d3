// The table of the life cycle as a diagram: a box for each state, and how many went which way.

const FLOW_MS = 1500;

class LifeCycle {
  constructor(list) {
    this.list = list;
    this.rows = new Map();
    const names = [...STATES.keys()];
    names.forEach((state, place) => this.rows.set(state, this.row(state, names[place + 1])));
    list.replaceChildren(...[...this.rows.values()].map((row) => row.item));
    this.totals = new Map(); // By kind of transition, how many there were since the server started.
    this.known = false; // Whether the totals are all there.
  }

  row(state, next) {
    const words = STATES.get(state);
    const row = {
      number: element("b", {}, "–"),
      lasts: element("span", { class: "note" }, words.meaning),
      on: element("span", {}),
      beside: element("p", { class: "beside" }),
      back: element("p", { class: "back" }),
    };
    const arrow = drawn(byId("plot"), "svg", { viewBox: "0 0 24 10", "aria-hidden": "true" });
    arrow.append(drawn(arrow, "path", { class: "shaft", d: "M1 5H22" }), drawn(arrow, "path", { d: "M18 1l4 4-4 4" }));
    row.way = next ? element("p", { class: "on" }, row.on, arrow, element("span", { class: "unseen" }, `by silence to ${next}`)) : null;
    const box = element("div", { class: "box", title: words.meaning }, element("span", { class: "name" }, state), row.number, row.lasts);
    row.item = element("li", { "data-of": state }, box, row.beside, row.back, row.way);
    return row;
  }

  /** How many nodes are in which state now. */
  show(figures) {
    for (const [state, row] of this.rows) {
      say(row.number, whole.format(state === "dead" ? figures.tombstones : figures.by_state[state]));
    }
  }

  /** Forget the totals: those that follow may be of another run of the server. */
  forget() {
    this.totals.clear();
    this.known = false;
  }

  /** Take the totals since the server started, and how long states last. `alone`: no events come besides. */
  take(stats, alone) {
    if (alone) this.forget();
    stats.lifecycle.transitions.forEach((kind) => this.raise(kind, kind.count));
    this.known = true;
    for (const [state, row] of this.rows) {
      say(row.lasts, `${STATES.get(state).lasts} ${span(stats.lifecycle.dwell_s[state], 1)}`);
    }
    this.count();
  }

  /** What has just happened. Each kind comes with its total, so nothing counts twice, in whatever order it is told. */
  flow(summary) {
    const raised = summary.kinds.filter((kind) => this.raise(kind, kind.total));
    if (this.known) raised.forEach((kind) => this.pulse(kind));
    this.count();
  }

  /** Raise the total of one kind to `count`; whether that is news. Totals only grow while a server runs. */
  raise({ from, to, reason }, count) {
    const name = [from, to, reason].join(" ");
    if (count <= (this.totals.get(name)?.count ?? 0)) return false;
    this.totals.set(name, { from, to, reason, count });
    return true;
  }

  count() {
    const sum = (test) => [...this.totals.values()].filter(test).reduce((total, kind) => total + kind.count, 0);
    const returned = (kind) => kind.to === "active" && SILENT.includes(kind.from);
    for (const [state, row] of this.rows) {
      const on = sum((kind) => kind.from === state && kind.reason === "deadline");
      if (row.way) say(row.on, short.format(on));
      const back = sum((kind) => returned(kind) && (state === "active" || kind.from === state));
      tell(row.back, back, "came back");
      if (state === "active") row.back.append(element("i", { "aria-hidden": "true" }));
    }
    tell(this.rows.get("active").beside, sum((kind) => kind.from === "absent" || kind.from === "dead" && kind.to === "active"), "registered");
    tell(this.rows.get("coma").beside, sum((kind) => kind.reason === "left"), "left by their own word");
    tell(this.rows.get("dead").beside, sum((kind) => kind.reason === "forgotten" && kind.to === "dead"), "erased by their own word");
  }

  pulse({ from, to, reason }) {
    const row = this.rows.get(from);
    const way = reason === "deadline" ? row?.way : to === "active" && from !== "active" ? row?.back : null;
    if (!way) return;
    clearTimeout(way.ends);
    way.classList.add("flow");
    way.ends = setTimeout(() => way.classList.remove("flow"), FLOW_MS);
  }
}

/** Say how many did what, and nothing where nobody did. */
function tell(place, number, what) {
  place.replaceChildren(...(number ? [element("b", {}, short.format(number)), ` ${what}`] : []));
}
