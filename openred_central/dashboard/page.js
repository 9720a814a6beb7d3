// Passes data from the feed to the parts of the page, and draws them at most once a frame.

const TABLE_ROWS_MAX = 60;
const DARK_NAMED_MAX = 5;
const FIRST_NODE = '{"node_id": "alice", "address": "192.0.2.1", "port": 7000, "public_key": "alices-key"}';

const STORE = {
  ok: ["OK", "Every change is stored at once."],
  behind: ["Behind", "Changes wait longer than usual for the store."],
  detached: ["Detached", "It takes no changes now."],
};

const points = new Points();
const plot = new Chart(byId("plot"), byId("plot-readout"), LAST_HOUR);
const life = new LifeCycle(byId("life"));
const lately = new Lately();
const explainer = new Explainer();
const years = new Years(byId("years"), byId("years-body"));
const notices = new Map();
let figures = null;
let nodesMax = null;
let due = false;

/** Draw in the next frame. A hidden page draws nothing until it is visible again. */
function renew() {
  if (due || !figures) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    draw();
  });
}

function draw() {
  const { by_state, nodes, latency_ms, mass_silence, holds, dark } = figures;
  say(byId("server-uptime"), `up for ${span(figures.uptime_s, 1)}`);
  say(byId("server-connections"), count(figures.connections, "connection", "connections"));
  say(byId("nodes"), whole.format(nodes));
  const none = figures.tombstones ? "all nodes are gone" : "no node has registered yet";
  const awake = nodes ? `${percent.format(by_state.active / nodes)} active` : none;
  say(byId("nodes-note"), nodesMax ? `${awake}, room for ${whole.format(nodesMax)}` : awake);
  say(byId("heartbeats"), figure(figures.heartbeats_per_s));
  say(byId("requests-note"), pace(figures.requests_per_s, "request", "requests"));
  say(byId("latency"), figure(latency_ms.p50));
  say(byId("latency-note"), latency_ms.p50 === null ? "no requests now" : `99 % within ${figure(latency_ms.p99)} ms`);
  byId("first-step").hidden = nodes > 0 || figures.tombstones > 0;
  lately.show(pace(figures.transitions_per_s, "change", "changes"));
  drawShare(by_state);
  drawStore(figures.store);
  drawSilence(mass_silence);
  drawDark(dark);
  const onset = holds.find(({ kind }) => kind === "onset");
  notice("onset", onset && ["No node at all is heard, so attended time stands still.", `Since ${moment(onset.since)}: ${onset.reason}.`]);
  life.show(figures);
  drawSpark(byId("heartbeats-spark"), points.list.map((point) => point.heartbeats));
  drawSpark(byId("latency-spark"), points.list.map((point) => point.latency));
  plot.points = points.list;
  plot.draw();
  say(byId("plot-summary"), summary());
  // Like the list, the table does not change while a person uses it.
  const rows = byId("plot-rows");
  if (byId("plot-table").open && !(rows.children.length && visited(rows.closest(".scroll")))) drawTable();
}

function summary() {
  const [first, last] = [points.list[0], points.list.at(-1)];
  const told = (point) => LIVE.filter((state) => point.counts[state]).map((state) => `${point.counts[state]} ${state}`).join(", ") || "no nodes";
  return `From ${moment(first.at)}: ${told(first)}. To ${moment(last.at)}: ${told(last)}.`;
}

function drawShare(by_state) {
  const share = byId("share");
  if (!share.children.length) share.append(...LIVE.map((state) => element("i", { "data-of": state })));
  LIVE.forEach((state, place) => {
    const part = share.children[place];
    part.hidden = !by_state[state];
    part.style.flexGrow = by_state[state];
  });
}

function drawStore(state) {
  const [word, meaning] = STORE[state] ?? [state, ""];
  say(byId("store"), word);
  say(byId("store-note"), meaning);
  byId("store-tile").classList.toggle("alarm", state !== "ok");
  notice("store", state === "detached" && ["The store takes no changes.", "Reads and heartbeats work, registrations are stored later, and no state changes by silence meanwhile."]);
}

/** Show the instances of a cluster; nothing if `cluster` is null. */
function drawCluster(cluster) {
  byId("cluster").hidden = !cluster;
  if (!cluster) return;
  say(byId("cluster-note"), `Term ${whole.format(cluster.term)}, led by ${cluster.leader ?? "nobody"}, ${count(cluster.seq, "commit", "commits")}.`);
  byId("instances").replaceChildren(
    ...cluster.instances.map(({ name, role, heard_s, version }) =>
      element("li", {}, element("strong", {}, name), ` ${role.replace("_", " ")}`, version ? `, version ${version}` : "", role === "leader" ? "" : `, heard ${figure(heard_s)} s ago`),
    ),
  );
}

function drawSilence({ held, since, reason, waiting, releasing, transitions_last_hour, transitions_usual_per_h }) {
  say(byId("silence"), held ? "Held" : releasing ? "Releasing" : "None");
  const usual = `${whole.format(transitions_last_hour)} became silent within an hour; usual: ${figure(transitions_usual_per_h)}`;
  say(byId("silence-note"), held || releasing ? `${count(waiting, "node waits", "nodes wait")}` : usual);
  byId("silence-tile").classList.toggle("alarm", held);
  notice("silence", held && ["Very many nodes became silent at once, so transitions are held.", `Since ${moment(since)}: ${reason}.`]);
}

function drawDark(dark) {
  const names = dark.slice(0, DARK_NAMED_MAX).map(({ group, since }) => `${group} since ${moment(since)}`);
  const more = dark.length > names.length ? ", and more" : "";
  notice("dark", names.length && ["Networks or regions fell silent as a whole.", `${names.join(", ")}${more}.`]);
}

/** Show or remove the notice `name`; an unchanged notice is not announced again. */
function notice(name, words) {
  const text = words ? words.join("\n") : "";
  if ((notices.get(name)?.text ?? "") === text) return;
  notices.get(name)?.node.remove();
  notices.delete(name);
  if (!words) return;
  const node = element("p", { class: "notice" }, element("strong", {}, words[0]), ` ${words[1]}`);
  notices.set(name, { text, node });
  byId("notices").append(node);
}

function drawTable() {
  const step = Math.ceil(points.list.length / TABLE_ROWS_MAX);
  const rows = points.list.filter((_, place) => (points.list.length - 1 - place) % step === 0).reverse();
  byId("plot-rows").replaceChildren(
    ...rows.map((point) =>
      element("tr", {}, element("th", { scope: "row" }, moment(point.at)), ...LIVE.map((state) => element("td", {}, whole.format(point.counts[state])))),
    ),
  );
}

function happened(transition) {
  const { at, node_id, from, to } = transition;
  const name = node_id === null ? element("span", { class: "hint" }, "a node that is not shown") : element("a", { class: "name", href: hashOf(node_id) }, node_id);
  lately.add(
    name,
    element("time", { datetime: at }, moment(at)),
    element("span", { class: "what" }, element("span", {}, `${from} →`), badge(to), element("span", {}, cause(transition))),
  );
  if (node_id !== null && node_id === explainer.shown) explainer.renew(node_id);
}

function happenedInAll(told) {
  life.flow(told);
  const unnamed = told.count - told.named;
  if (unnamed) lately.add(element("span", { class: "hint" }, `and ${whole.format(unnamed)} more`), element("time", { datetime: told.at }, moment(told.at)));
}

function link(state, last) {
  const texts = { live: "live", polling: "polling every few seconds", stale: "no figures", waiting: "connecting" };
  byId("link").dataset.state = state;
  say(byId("link-text"), texts[state]);
  notice("stale", state === "stale" && ["The server sends nothing.", figures ? `These figures are from ${moment(last)}. This page keeps trying.` : "This page keeps trying."]);
}

function choose(all) {
  const states = all ? LIVE : SILENT;
  LAST_HOUR.series = seriesOf(states);
  byId("plot-all").setAttribute("aria-pressed", all);
  byId("plot-silent").setAttribute("aria-pressed", !all);
  byId("legend").replaceChildren(...states.map((state) => element("li", {}, badge(state))));
  plot.draw();
}

byId("plot-all").addEventListener("click", () => choose(true));
byId("plot-silent").addEventListener("click", () => choose(false));
byId("plot-table").addEventListener("toggle", renew);
byId("plot-head").append(element("tr", {}, element("th", { scope: "col" }, "time"), ...LIVE.map((state) => element("th", { scope: "col" }, state))));
choose(true);
say(byId("first-step-command"), `curl -s ${new URL("register", location)} -H 'Content-Type: application/json' -d '${FIRST_NODE}'`);

new Feed({
  figures(told) {
    figures = told;
    points.add(told);
    renew();
  },
  stats(told, alone) {
    nodesMax = told.directory.nodes_max;
    say(byId("server-version"), `version ${told.version}`);
    life.take(told, alone);
    drawCluster(told.cluster);
    renew();
  },
  history(told) {
    points.precede(told);
    renew();
  },
  transition: happened,
  transitions: happenedInAll,
  reset: () => life.forget(),
  link,
});
