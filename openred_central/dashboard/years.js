// Over time: what the directory counted each day, and what it learned, of `/analytics`. Fetched when the section is opened.

const GROUPS_MAX = 90; // So many groups of days are drawn.
const RANGES_DAYS = { "90 days": 90, "1 year": 365, "All": 3650 };
const DAY_MS = 86400_000;
const AGES_MONTHS = [0, 1, 2, 3, 6, 12, 24, 36, 60, 120];
const COHORTS_MAX = 24;
const BACK_WITHIN = ["1d", "7d", "30d", "180d"];
const GRADES = [0.03, 0.13, 0.3, 0.5, 0.68, 0.83, 0.94, 0.99].map((middle) => percent.format(middle)); // As the directory tells chances.
const CAME = ["registered", "revived"];
const WENT = ["died", "left", "forgotten"];

/** A chart with its title, a sentence, its words for the chosen point, a legend, and its numbers as a table. */
class Figure {
  constructor(id, title, form, columns, beside = null) {
    this.columns = columns;
    this.sentence = element("p", { class: "hint", id: `${id}-sentence` });
    const readout = element("p", { class: "readout", role: "status" });
    const svg = drawn(byId("plot"), "svg", { class: "plot", role: "img", "aria-labelledby": `${id}-title ${id}-sentence` });
    this.head = element("thead", {}, element("tr", {}, ...columns.map(([name]) => element("th", { scope: "col" }, name))));
    this.rows = element("tbody");
    this.node = element(
      "div",
      { class: "figure-of" },
      element("header", {}, element("h3", { id: `${id}-title` }, title), beside),
      this.sentence,
      svg,
      readout,
      element("ul", { class: "legend", "aria-hidden": true }, ...form.series.filter(({ name }) => name).map(({ of, name }) => element("li", {}, element("span", { class: "badge", "data-of": of }, name)))),
      tableOf(title, this.head, this.rows),
    );
    this.chart = new Chart(svg, readout, form);
  }

  show(points, sentence) {
    say(this.sentence, sentence);
    this.chart.points = points;
    this.chart.choose(null);
    this.rows.replaceChildren(...[...points].reverse().map((point) => row(this.columns.map(([, read]) => read(point)))));
  }
}

function tableOf(title, head, rows) {
  const scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` }, element("table", {}, head, rows));
  return element("details", {}, element("summary", {}, "Show as a table"), scroll);
}

function row([first, ...others]) {
  return element("tr", {}, element("th", { scope: "row" }, first), ...others.map((text) => element("td", {}, text)));
}

const day = (date) => new Date(date).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const month = (date) => new Date(date).toLocaleDateString("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });
const dayOf = (point) => (point.from === point.date ? day(point.date) : `${day(point.from)} to ${day(point.date)}`);
const share = (number) => (number === null || number === undefined ? "–" : percent.format(number));

/** Label every so many of the points, counted from the last. */
function daysOf(points, first, last, most) {
  const text = last - first > 400 * DAY_MS ? month : (date) => new Date(date).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  return some(points, most).map((point) => [point.at, text(point.date)]);
}

/** Return at most so many points, evenly far from each other, with the last one. */
function some(points, most) {
  const step = Math.ceil(points.length / most);
  return points.filter((_, place) => (points.length - 1 - place) % step === 0);
}

const lateness = (late_s) => (late_s < 86400 ? `${late_s / 3600} h` : `${late_s / 86400} d`);

const BY_STATE = { kind: "areas", series: LIVE.map((state) => ({ of: state, name: state, value: (point) => point.counts[state] })), at: (point) => point.at, ticks: daysOf, told: (point) => `${day(point.date)}: ${countsTold(BY_STATE.series, point)}` };
const CAME_AND_WENT = {
  kind: "bars",
  series: [...CAME, ...WENT].map((kind) => ({ of: kind, name: kind, value: (point) => (WENT.includes(kind) ? -point[kind] : point[kind]) })),
  at: (point) => point.at,
  ticks: daysOf,
  told: (point) => `${dayOf(point)}: ${[...CAME, ...WENT].map((kind) => `${whole.format(point[kind])} ${kind}`).join(", ")}`,
};
const RETURNED = {
  kind: "lines",
  series: [
    { of: "expected", name: "expected", value: (point) => point.expected },
    { of: "happened", name: "came back", value: (point) => point.happened },
  ],
  at: (point) => point.at,
  ticks: daysOf,
  told: (point) => `${dayOf(point)}: ${figure(point.expected)} expected, ${figure(point.happened)} came back`,
};
const AVAILABLE = {
  kind: "bars",
  series: [{ of: "active", value: (point) => point.nodes }],
  at: (point) => point.place,
  ticks: (points, first, last, most) => some(points, most).map((point) => [point.place, GRADES[point.place]]),
  told: (point) => `${count(point.nodes, "node is", "nodes are")} up with a chance of about ${GRADES[point.place]}`,
};
const BACK = {
  kind: "lines",
  share: true,
  series: BACK_WITHIN.map((within) => ({ of: `within-${within}`, name: `within ${within.replace("d", within === "1d" ? " day" : " days")}`, value: (point) => point[within] })),
  at: (point) => point.place,
  ticks: (points, first, last, most) => some(points, most).map((point) => [point.place, lateness(point.late_s)]),
  told: (point) => `Late for ${span(point.late_s, 1)}: ${BACK_WITHIN.map((within) => `${share(point[within])} within ${within}`).join(", ")}`,
};
const RELIABLE = {
  kind: "lines",
  share: true,
  series: [
    { of: "expected", name: "as it should be", value: (point) => point.expected },
    { of: "happened", name: "as it was", value: (point) => point.happened },
  ],
  at: (point) => point.expected,
  ends: () => [0, 1],
  ticks: () => [0, 0.25, 0.5, 0.75, 1].map((at) => [at, percent.format(at)]),
  told: (point) => `Of ${count(point.dues, "due", "dues")} expected to be met by ${share(point.expected)}, ${share(point.happened)} were`,
};

class Years {
  constructor(section, body) {
    this.body = body;
    this.days = 90;
    this.made = null;
    section.addEventListener("toggle", () => section.open && this.fetch());
  }

  /** Ask for all tables, and show them; what cannot be had is said. */
  async fetch() {
    try {
      const asked = ["analytics", "analytics?table=cohorts", "analytics?table=returns", "analytics?table=calibration"].map((path) => this.get(path).then((answer) => answer.json()));
      const from = new Date(Date.now() - (this.days - 1) * DAY_MS).toISOString().slice(0, 10);
      const days = this.get(`analytics?table=days&from=${from}&format=csv`).then((answer) => answer.text());
      const [summary, cohorts, returns, calibration] = await Promise.all(asked);
      this.show(readCsv(await days), summary, cohorts.rows, returns.rows, calibration.rows);
    } catch {
      this.made = null;
      this.body.replaceChildren(element("p", {}, "The directory did not tell its days. Close this section and open it again to ask once more."));
    }
  }

  async get(path) {
    const answer = await fetch(path, { cache: "no-cache", signal: AbortSignal.timeout(20_000) });
    if (!answer.ok) throw new Error(path);
    return answer;
  }

  show(days, summary, cohorts, returns, calibration) {
    if (!days.length || !summary.last) {
      this.made = null;
      return this.body.replaceChildren(element("p", {}, "Nothing was counted yet. The first count comes within the first hour."));
    }
    const { last } = summary;
    this.made ??= this.make();
    const made = this.made;
    const groups = grouped(days, GROUPS_MAX);
    made.states.show(groups.map(statesOf), statesTold(days));
    made.moves.show(groups.map((group) => summed(group, [...CAME, ...WENT])), movesTold(days));
    made.returned.show(groups.map(returnsOf).filter((point) => point.happened !== null), returnsTold(days));
    made.available.show((last.availability ?? []).map((nodes, place) => ({ nodes, place })), availableTold(last));
    made.back.node.hidden = !returns.length;
    this.curves(returns);
    made.reliable.show(calibration.filter((bin) => bin.pace_s === null), reliableTold(last));
    retained(made.retained, cohorts);
    offered(made.offered, last.services);
    for (const one of [made.returned, made.available, made.reliable]) one.node.hidden = !one.chart.points.length;
    return null;
  }

  /** Make all figures, empty. */
  make() {
    const made = {
      states: new Figure("states", "Nodes by state", BY_STATE, [["day", (point) => day(point.date)], ...LIVE.map((state) => [state, (point) => whole.format(point.counts[state])])]),
      moves: new Figure("moves", "Came and went", CAME_AND_WENT, [["days", dayOf], ...[...CAME, ...WENT].map((kind) => [kind, (point) => whole.format(point[kind])])]),
      returned: new Figure("returned", "Late nodes that came back", RETURNED, [["days", dayOf], ["expected", (point) => figure(point.expected)], ["came back", (point) => figure(point.happened)]]),
      available: new Figure("available", "Chance that a node is up", AVAILABLE, [["chance", (point) => GRADES[point.place]], ["nodes", (point) => whole.format(point.nodes)]]),
      back: this.returnsFigure(),
      reliable: new Figure("reliable", "How far expectations hold", RELIABLE, [["expected", (point) => share(point.expected)], ["happened", (point) => share(point.happened)], ["dues", (point) => whole.format(point.dues)]]),
      retained: plainFigure("retained", "How many stay", "Of the nodes that registered in a month, how many are still registered after so many months."),
      offered: plainFigure("offered", "Services", "How many nodes that can be found offer a service, as last counted."),
    };
    const ranges = Object.entries(RANGES_DAYS).map(([name, days]) => {
      const button = element("button", { type: "button", "aria-pressed": String(days === this.days) }, name);
      button.addEventListener("click", () => {
        this.days = days;
        for (const one of ranges) one.setAttribute("aria-pressed", one === button);
        this.fetch();
      });
      return button;
    });
    const choice = element("div", { class: "choice", role: "group", "aria-label": "How many days to show" }, ...ranges);
    this.body.replaceChildren(choice, element("div", { class: "figures" }, ...Object.values(made).map((one) => one.node)));
    return made;
  }

  returnsFigure() {
    this.select = element("select");
    const label = element("label", {}, "Nodes: ", this.select);
    const columns = [["late for", (point) => span(point.late_s, 1)], ...BACK_WITHIN.map((within) => [within, (point) => share(point[within])]), ["returns counted", (point) => whole.format(point.events)]];
    const made = new Figure("back", "Chance that a late node returns", BACK, columns, label);
    this.select.addEventListener("change", () => this.curves(this.returns));
    return made;
  }

  /** Show the chances of the group of nodes that is chosen. */
  curves(returns) {
    this.returns = returns;
    const { select } = this;
    const names = [...new Set(returns.map((one) => one.cohort))];
    const chosen = names.includes(select.value) ? select.value : names[0];
    select.replaceChildren(...names.map((name) => element("option", { value: name, selected: name === chosen }, name)));
    const points = returns.filter((one) => one.cohort === chosen).map((one, place) => ({ ...one, place }));
    const dayLate = points.find((point) => point.late_s === 86400);
    this.made.back.show(points, dayLate ? `A node that is late for a day returns within a week in ${share(dayLate["7d"])} of cases.` : "");
  }
}

/** Read a table without quoted cells (RFC 4180) into objects of texts. */
function readCsv(text) {
  const [head, ...lines] = text.trimEnd().split("\r\n").map((line) => line.split(","));
  return lines.map((cells) => Object.fromEntries(head.map((name, place) => [name, cells[place]])));
}

/** Return groups of equally many days, the newest of them whole. */
function grouped(days, most) {
  const size = Math.ceil(days.length / most);
  const groups = [];
  for (let end = days.length; end > 0; end -= size) groups.unshift(days.slice(Math.max(0, end - size), end));
  return groups;
}

const spanOf = (group) => ({ from: group[0].date, date: group.at(-1).date, at: Date.parse(group.at(-1).date) });
const sum = (group, name) => group.reduce((total, one) => total + Number(one[name]), 0);
const statesOf = (group) => ({ ...spanOf(group), counts: Object.fromEntries(LIVE.map((state) => [state, Number(group.at(-1)[`by_state.${state}`])])) });
const summed = (group, names) => ({ ...spanOf(group), ...Object.fromEntries(names.map((name) => [name, sum(group, name)])) });

/** Return expected and true returns of a group; null where forecasts were off. */
function returnsOf(group) {
  const known = group.filter((one) => one["returns.happened"] !== "");
  const told = (name) => (known.length ? sum(known, `returns.${name}`) : null);
  return { ...spanOf(group), expected: told("expected"), happened: told("happened") };
}

function statesTold(days) {
  const [first, last] = [days[0], days.at(-1)];
  return `From ${count(Number(first.nodes), "node", "nodes")} on ${day(first.date)} to ${whole.format(last.nodes)} on ${day(last.date)}.`;
}

function movesTold(days) {
  const [came, went] = [CAME, WENT].map((names) => names.reduce((total, name) => total + sum(days, name), 0));
  return `In ${count(days.length, "day", "days")}, ${whole.format(came)} came or came back, and ${whole.format(went)} went.`;
}

function returnsTold(days) {
  const { expected, happened } = returnsOf(days);
  return happened === null ? "" : `${figure(Math.round(expected))} were expected, ${whole.format(happened)} came back.`;
}

function availableTold(last) {
  if (!last.availability) return "";
  const told = last.availability.reduce((total, nodes) => total + nodes, 0);
  return `${count(told, "node is", "nodes are")} expected now; ${whole.format(last.late)} more are late.`;
}

function reliableTold(last) {
  return last.brier === null ? "" : `Mean squared error of recent expectations: ${figure(last.brier)}; 0 is perfect.`;
}

/** Make a figure that is a table itself. */
function plainFigure(id, title, sentence) {
  const [head, rows] = [element("thead"), element("tbody")];
  const scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": `${id}-title` }, element("table", {}, head, rows));
  const node = element("div", { class: "figure-of" }, element("header", {}, element("h3", { id: `${id}-title` }, title)), element("p", { class: "hint" }, sentence), scroll);
  return { node, head, rows };
}

/** Show which share of each month's nodes stayed, by colour and number. */
function retained({ node, head, rows }, cohorts) {
  node.hidden = !cohorts.length;
  const ages = AGES_MONTHS.filter((age) => cohorts.some(({ here }) => age < here.length));
  head.replaceChildren(element("tr", {}, ...["registered in", "nodes", ...ages.map((age) => `${age} mo`)].map((name) => element("th", { scope: "col" }, name))));
  rows.replaceChildren(
    ...cohorts.slice(-COHORTS_MAX).reverse().map(({ registered_month, registered, here }) => {
      const line = row([month(registered_month), whole.format(registered), ...ages.map((age) => (here[age] === undefined ? "" : share(here[age] === null ? null : here[age] / registered)))]);
      ages.forEach((age, place) => line.children[place + 2].style.setProperty("--share", (here[age] ?? 0) / registered));
      return line;
    }),
  );
}

function offered({ node, head, rows }, services) {
  node.hidden = !services.length;
  const most = services[0]?.[1];
  head.replaceChildren(element("tr", {}, ...["service", "nodes"].map((name) => element("th", { scope: "col" }, name))));
  rows.replaceChildren(
    ...services.map(([name, nodes]) => {
      const line = row([name, whole.format(nodes)]);
      line.style.setProperty("--share", nodes / most);
      return line;
    }),
  );
}
