// The last hour: the number of nodes in each state.

const WINDOW_MS = 3600_000;
const POINTS_WANTED = 360;
const SPAN_MS_MIN = 20_000;
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

/** The form of the plot of the last hour; its `series` are those of the states that are shown. */
const LAST_HOUR = {
  kind: "areas",
  series: [],
  at: (point) => point.at,
  ends: (points) => [Math.min(points[0].at, points.at(-1).at - SPAN_MS_MIN), points.at(-1).at],
  ticks: timesOfDay,
  told: (point, chosen) => `${chosen ? new Date(point.at).toLocaleTimeString("en-GB") : "Now"}: ${countsTold(LAST_HOUR.series, point)}`,
};

/** Return series of states, of points with `counts` by state. */
function seriesOf(states) {
  return states.map((state) => ({ of: state, value: (point) => point.counts[state] }));
}

function countsTold(series, point) {
  const told = series.filter(({ value }) => value(point)).map(({ of, value }) => `${whole.format(value(point))} ${of}`);
  return told.join(", ") || "none";
}

function timesOfDay(_points, first, last, most) {
  const span_s = (last - first) / 1000;
  const step_s = TIME_STEPS_S.find((one) => span_s / one <= most) ?? TIME_STEPS_S.at(-1);
  const style = { hour: "2-digit", minute: "2-digit", second: step_s < 60 ? "2-digit" : undefined };
  const ticks = [];
  for (let at = Math.ceil(first / step_s / 1000) * step_s * 1000; at <= last; at += step_s * 1000) {
    ticks.push([at, new Date(at).toLocaleTimeString("en-GB", style)]);
  }
  return ticks;
}
