// The last hour: the number of nodes in each state.

const WINDOW_MS = 3600_000;
const POINTS_WANTED = 360;
const SPAN_MS_MIN = 20_000;
const MARGIN = { left: 52, right: 10, top: 8, bottom: 24 };
const TIME_STEPS_S = [10, 30, 60, 120, 300, 600, 900];

/** Points in time, thinned out as they become many. Each has `at` (ms), `counts` by state, and rates. */
class Points {
  constructor() {
    this.list = [];
  }

  /** Add a point; it replaces the last one if the point before that is near enough. */
  add(figures) {
    const point = {
      at: Date.parse(figures.time),
      counts: figures.by_state,
      heartbeats: figures.heartbeats_per_s,
      latency: figures.latency_ms.p50,
    };
    const list = this.list;
    if (list.length && point.at <= list.at(-1).at) return;
    const step_ms = list.length ? (point.at - list[0].at) / POINTS_WANTED : 0;
    if (list.length > 1 && point.at - list.at(-2).at < step_ms) list.pop();
    list.push(point);
    while (point.at - list[0].at > WINDOW_MS) list.shift();
  }

  /** Put the history of the server before the points of this page. */
  precede(history) {
    const told = history.time.map((time, place) => ({
      at: Date.parse(time),
      counts: Object.fromEntries(LIVE.map((state) => [state, history.by_state[state][place]])),
      heartbeats: history.heartbeats_per_s[place],
      latency: history.latency_ms.p50[place],
    }));
    if (!told.length) return;
    const [first, last] = [told[0].at, told.at(-1).at];
    const earlier = this.list.filter((point) => point.at < first);
    const later = this.list.filter((point) => point.at > last);
    this.list = [...earlier, ...told, ...later];
  }
}

class Plot {
  constructor(svg, readout) {
    this.svg = svg;
    this.readout = readout;
    this.states = LIVE;
    this.points = [];
    this.pointed = null;
    const point = (event) => {
      this.pointed = event.clientX - svg.getBoundingClientRect().left;
      this.draw();
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", () => {
      this.pointed = null;
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  draw() {
    const { svg, points, states } = this;
    const [width, height] = [svg.clientWidth, svg.clientHeight];
    if (!width || !points.length) return;
    const last = points.at(-1).at;
    const first = Math.min(points[0].at, last - SPAN_MS_MIN);
    const sums = points.map((point) => states.reduce((sum, state) => sum + point.counts[state], 0));
    const [top, step] = scale(Math.max(...sums));
    const x = (at) => MARGIN.left + ((at - first) / (last - first)) * (width - MARGIN.left - MARGIN.right);
    const y = (number) => height - MARGIN.bottom - (number / top) * (height - MARGIN.top - MARGIN.bottom);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(
      ...this.lines(step, top, y, width, "grid"),
      ...this.areas(x, y),
      ...this.lines(step, top, y, width, "over"),
      ...this.numbers(step, top, y),
      ...this.times(first, last, x, height),
      ...this.cross(x, height),
    );
  }

  areas(x, y) {
    const below = this.points.map(() => 0);
    return this.states.map((state) => {
      const upper = [];
      const lower = [];
      this.points.forEach((point, place) => {
        const at = x(point.at).toFixed(1);
        lower.push(`${at},${y(below[place]).toFixed(1)}`);
        below[place] += point.counts[state];
        upper.push(`${at},${y(below[place]).toFixed(1)}`);
      });
      const empty = upper.every((one, place) => one === lower[place]);
      const d = empty ? "" : `M${upper.join("L")}L${lower.reverse().join("L")}Z`;
      return drawn(this.svg, "path", { class: "area", "data-of": state, d });
    });
  }

  lines(step, top, y, width, name) {
    return marks(step, top).map((number) => {
      const at = Math.round(y(number)) + 0.5;
      return drawn(this.svg, "line", { class: name, x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at });
    });
  }

  numbers(step, top, y) {
    const at = { x: MARGIN.left - 8, "text-anchor": "end" };
    return marks(step, top).map((number) => drawn(this.svg, "text", { ...at, y: y(number) + 4 }, short.format(number)));
  }

  times(first, last, x, height) {
    const labels = Math.max(2, Math.floor((x(last) - x(first)) / 100));
    const span_s = (last - first) / 1000;
    const step_s = TIME_STEPS_S.find((one) => span_s / one <= labels) ?? TIME_STEPS_S.at(-1);
    const style = { hour: "2-digit", minute: "2-digit", second: step_s < 60 ? "2-digit" : undefined };
    const texts = [];
    for (let at = Math.ceil(first / step_s / 1000) * step_s * 1000; at <= last; at += step_s * 1000) {
      const text = new Date(at).toLocaleTimeString("en-GB", style);
      const place = Math.min(x(at), x(last) - 18);
      texts.push(drawn(this.svg, "text", { x: place, y: height - 6, "text-anchor": "middle" }, text));
    }
    return texts;
  }

  /** Draw the line under the pointer; its values stand above the plot. */
  cross(x, height) {
    const near = (point) => Math.abs(x(point.at) - this.pointed);
    const found =
      this.pointed === null ? this.points.at(-1) : this.points.reduce((best, one) => (near(one) < near(best) ? one : best));
    const told = this.states.filter((state) => found.counts[state]).map((state) => `${whole.format(found.counts[state])} ${state}`);
    const when = this.pointed === null ? "Now" : new Date(found.at).toLocaleTimeString("en-GB");
    say(this.readout, `${when}: ${told.join(", ") || "none"}`);
    if (this.pointed === null) return [];
    const at = x(found.at);
    return [drawn(this.svg, "line", { class: "cross", x1: at, x2: at, y1: MARGIN.top, y2: height - MARGIN.bottom })];
  }
}

/** Return the top of a scale from 0 that holds `most`, and its step: 1, 2 or 5 times a power of ten. */
function scale(most) {
  const rough = Math.max(1, most / 4);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= rough);
  return [Math.max(step, Math.ceil(most / step) * step), step];
}

function marks(step, top) {
  return Array.from({ length: Math.round(top / step) + 1 }, (_, place) => place * step);
}

/** Draw a small curve without axes; some numbers may be missing. */
function drawSpark(svg, numbers) {
  const known = numbers.map((number) => number ?? 0);
  const most = Math.max(...known);
  if (known.length < 5 || !most) return svg.replaceChildren();
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  const line = known.map((number, place) => `${((place / (known.length - 1)) * 100).toFixed(2)},${(28 - (number / most) * 24).toFixed(2)}`).join("L");
  return svg.replaceChildren(
    drawn(svg, "path", { class: "ground", d: `M0,30L${line}L100,30Z` }),
    drawn(svg, "path", { d: `M${line}` }),
  );
}
