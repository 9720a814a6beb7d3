// One node: the reason for its state, what is expected of it, its deadlines, and what its owner can do.

const NODE_ID = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$/;
const RENEW_MS = 15_000;

class Explainer {
  constructor() {
    this.form = byId("ask-form");
    this.input = byId("node-id");
    this.answer = byId("answer");
    this.said = byId("ask-said");
    this.shown = "";
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const node = this.input.value.trim();
      if (location.hash === hashOf(node)) this.explain(node);
      else location.hash = hashOf(node);
    });
    addEventListener("hashchange", () => this.follow());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.shown) this.close();
      const writes = event.target instanceof HTMLInputElement;
      if (event.key !== "/" || writes || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.input.focus();
    });
    setInterval(() => this.renew(this.shown), RENEW_MS);
    this.follow();
  }

  /** Explain the node that the address of this page names. */
  follow() {
    const node = new URLSearchParams(location.hash.slice(1)).get("node");
    if (node === null) return;
    this.input.value = node;
    this.explain(node);
  }

  async explain(node) {
    this.shown = node;
    if (!node) return this.close();
    if (!NODE_ID.test(node)) {
      return this.refuse(node, "This is no valid node_id.", "A node_id has 1 to 128 of A-Z a-z 0-9 _ . : - and begins with a letter or digit.");
    }
    return this.renew(node, true);
  }

  /** Fetch the node again; report failures only if a person waits (`asked`). */
  async renew(node, asked = false) {
    if (!node || !NODE_ID.test(node)) return;
    let response, told;
    try {
      response = await fetch(`nodes/${encodeURIComponent(node)}`, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      told = await response.json();
    } catch {
      if (asked && this.shown === node) this.refuse(node, "The server does not answer.", "Try again in a moment.");
      return;
    }
    if (this.shown !== node) return;
    if (response.ok) this.show(told, asked);
    // Without a waiting person, the last answer stays, unless the node is gone.
    else if (asked || response.status === 404 || response.status === 410) this.refuse(node, told.message, told.suggestion);
  }

  refuse(node, message, suggestion) {
    this.fill(node, null, [element("p", { class: "why" }, message), element("p", { class: "do" }, suggestion ?? "")]);
    say(this.said, `${node}: ${message}`);
  }

  show(told, asked) {
    const { explain } = told;
    this.fill(told.node_id, told.state, [
      element("p", { class: "why" }, `${explain.why} ${outlook(told)}`),
      // A directory that keeps no habits expects nothing.
      told.forecast && element("p", { class: "expected" }, told.forecast.words),
      element("p", { class: "do" }, `What its owner can do: ${explain.what_to_do}`),
      element("div", { class: "more" }, ahead(explain), behind(explain), facts(told)),
    ]);
    say(this.said, `${told.node_id} is ${told.state}. ${explain.why}`);
    if (asked) this.answer.focus({ preventScroll: true });
  }

  fill(node, state, content) {
    const close = element("button", { type: "button", class: "close", "aria-label": `Close the explanation of ${node}` }, "Close");
    close.addEventListener("click", () => this.close());
    const stops = () => [...this.answer.querySelectorAll("button, summary")];
    const focused = stops().indexOf(document.activeElement);
    const opened = this.answer.querySelector("details")?.open;
    const first = element("div", { class: "first" }, element("h3", { id: "answer-title" }, node), state && badge(state), close);
    this.answer.replaceChildren(first, ...content.filter(Boolean));
    this.answer.hidden = false;
    const details = this.answer.querySelector("details");
    if (details) details.open = Boolean(opened);
    if (focused >= 0) (stops()[focused] ?? close).focus();
  }

  close() {
    this.shown = "";
    this.answer.hidden = true;
    this.answer.replaceChildren();
    say(this.said, "");
    history.replaceState(null, "", location.pathname + location.search);
    this.input.focus();
  }
}

function hashOf(node) {
  return `#node=${encodeURIComponent(node)}`;
}

/** Explain the next deadline in a sentence. */
function outlook({ state, explain }) {
  const [next] = explain.deadlines;
  if (!next) return "";
  const when = moment(next.at);
  if (state === "active") return `It may stay silent until ${when} before it is checked.`;
  if (state === "pending_1st") return `It is in grace until ${when}.`;
  if (state === "coma") return `It is removed at ${when}.`;
  return `If it stays silent, it enters ${next.state} at ${when}.`;
}

function ahead({ deadlines }) {
  const items = deadlines.map(({ state, at, in_s }) =>
    element("li", { "data-of": state }, badge(state), element("span", {}, moment(at)), element("span", { class: "note" }, `in ${span(in_s)}`)),
  );
  return element("section", {}, element("h4", {}, "Ahead, if it stays silent"), items.length ? element("ol", {}, ...items) : "Nothing: it is held.");
}

function behind({ history }) {
  const items = history.toReversed().map((one) =>
    element("li", { class: "past", "data-of": STATES.has(one.to) ? one.to : "absent" }, badge(one.to), element("span", {}, moment(one.at)), element("span", { class: "note" }, cause(one))),
  );
  return element("section", {}, element("h4", {}, "So far, newest first"), element("ol", {}, ...items));
}

/** List public data of a node. Neither its address nor its key is shown. */
function facts(told) {
  const rows = [
    ["Silent for", span(told.explain.silent_s)],
    ["Last seen", moment(told.last_seen)],
    ["Usual gap", told.explain.usual_gap_s ? span(told.explain.usual_gap_s) : "not known yet"],
    ["Available", percent.format(told.availability)],
    ["Identity", told.identity],
    ["Away until", told.away_until && moment(told.away_until)],
    ["Services", told.services.join(", ") || "none"],
    ["Region", told.region],
  ];
  const list = element("dl", {});
  for (const [name, text] of rows) {
    if (text) list.append(element("dt", {}, name), element("dd", {}, text));
  }
  const said = told.discoverable && Object.keys(told.metadata ?? {}).length ? JSON.stringify(told.metadata, null, 2) : null;
  const metadata = said && element("details", {}, element("summary", {}, "Metadata"), element("pre", {}, said));
  return element("section", {}, element("h4", {}, "Details"), list, metadata);
}
