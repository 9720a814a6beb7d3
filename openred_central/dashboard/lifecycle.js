// The life cycle as a diagram: a box for each state, and counts of transitions.

const FLOW_MS = 1500;

class LifeCycle {
  constructor(list) {
    this.list = list;
    this.rows = new Map();
    const names = [...STATES.keys()];
    names.forEach((state, place) => this.rows.set(state, this.row(state, names[place + 1])));
    list.replaceChildren(...[...this.rows.values()].map((row) => row.item));
    this.totals = new Map(); // Transitions since the start of the server, by kind.
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

  /** Show the number of nodes in each state. */
  show(figures) {
    for (const [state, row] of this.rows) {
      say(row.number, whole.format(state === "dead" ? figures.tombstones : figures.by_state[state]));
    }
  }

  /** Forget the totals: the next ones may be of another run of the server. */
  forget() {
    this.totals.clear();
    this.known = false;
  }

  /** Take totals and durations from the statistics; `alone` means that no events arrive. */
  take(stats, alone) {
    if (alone) this.forget();
    stats.lifecycle.transitions.forEach((kind) => this.raise(kind, kind.count));
    this.known = true;
    for (const [state, row] of this.rows) {
      say(row.lasts, `${STATES.get(state).lasts} ${span(stats.lifecycle.dwell_s[state], 1)}`);
    }
    this.count();
  }

  /** Take new transitions. Each kind has its total, so none counts twice, in any order of arrival. */
  flow(summary) {
    const raised = summary.kinds.filter((kind) => this.raise(kind, kind.total));
    if (this.known) raised.forEach((kind) => this.pulse(kind));
    this.count();
  }

  /** Raise the total of a kind to `count`; return whether it grew. Totals only grow while a server runs. */
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
      showCount(row.back, back, "came back");
      if (state === "active") row.back.append(element("i", { "aria-hidden": "true" }));
    }
    showCount(this.rows.get("active").beside, sum((kind) => kind.from === "absent" || kind.from === "dead" && kind.to === "active"), "registered");
    showCount(this.rows.get("coma").beside, sum((kind) => kind.reason === "left"), "left on request");
    showCount(this.rows.get("dead").beside, sum((kind) => kind.reason === "forgotten" && kind.to === "dead"), "erased");
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

/** Show a count with its meaning; nothing for zero. */
function showCount(place, number, what) {
  place.replaceChildren(...(number ? [element("b", {}, short.format(number)), ` ${what}`] : []));
}
