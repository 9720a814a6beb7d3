// The operators' page. The secret stays in the memory of this page, and goes out in a header field only.

const ROWS = 50;
const DONE_MAX = 20;
const BLOCKS_AT_ONCE = 1000;
const ANSWER_MS_MAX = 120_000; // A snapshot of a large directory takes its time.

let secret = null;

/** Ask the server as an operator; throw the problem that it answers with. */
async function ask(method, path) {
  let answer, told;
  try {
    answer = await fetch(path, { method, headers: { Authorization: `Bearer ${secret}` }, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    told = await answer.json();
  } catch {
    throw new Error("The server does not answer.");
  }
  if (!answer.ok) throw Object.assign(new Error([told.message, told.suggestion].filter(Boolean).join(" ")), { status: answer.status });
  return told;
}

/** Do something for the operator, and note how it ended; return whether it was done. */
async function act(what, method, path) {
  try {
    const told = await ask(method, path);
    note(`${what}: ${told.status}${told.everywhere === false ? ", not at every instance yet" : ""}`);
    return true;
  } catch (error) {
    note(`${what}: ${error.message}`, true);
    return false;
  }
}

function note(text, failed = false) {
  const list = byId("done");
  list.prepend(element("li", { class: failed ? "failed" : "" }, `${new Date().toLocaleTimeString("en-GB")} ${text}`));
  while (list.children.length > DONE_MAX) list.lastChild.remove();
}

/** Ask a person; resolve to whether the answer is yes. */
function confirmed(title, text, yes) {
  const dialog = byId("confirm");
  say(byId("confirm-title"), title);
  say(byId("confirm-text"), text);
  say(byId("confirm-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  byId("confirm-no").focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

class Listing {
  constructor() {
    this.cursor = null;
    this.query = "";
    byId("search-state").append(element("option", { value: "" }, "any"), ...LIVE.map((state) => element("option", { value: state }, state)));
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.search();
    });
    byId("more").addEventListener("click", () => this.more());
  }

  /** Search for nodes as the form says, with some fields filled in before. */
  search(filled = {}) {
    for (const [name, value] of Object.entries(filled)) byId(`search-${name}`).value = value;
    const asked = { search: byId("search-id").value, state: byId("search-state").value, region: byId("search-region").value, services: byId("search-service").value };
    this.query = new URLSearchParams(Object.entries(asked).filter(([, value]) => value)).toString();
    this.cursor = "0";
    byId("nodes").replaceChildren();
    return this.more();
  }

  async more() {
    const { query } = this;
    const wanted = byId("nodes").children.length + ROWS;
    try {
      // An answer may be empty and not be the last.
      do {
        say(byId("nodes-note"), "searching …");
        const told = await ask("GET", `admin/nodes?limit=${ROWS}&cursor=${this.cursor}&${query}`);
        if (query !== this.query) return;
        this.cursor = told.next;
        byId("nodes").append(...told.nodes.map((node) => this.row(node)));
      } while (this.cursor !== null && byId("nodes").children.length < wanted);
      say(byId("nodes-note"), `${count(byId("nodes").children.length, "node", "nodes")}${this.cursor === null ? "" : ", and perhaps more"}`);
    } catch (error) {
      say(byId("nodes-note"), error.message);
    }
    byId("more").hidden = this.cursor === null;
  }

  row(node) {
    const look = element("button", { type: "button" }, node.node_id);
    look.addEventListener("click", () => desk.look(node.node_id));
    const cells = [badge(node.state), moment(node.last_seen), node.services.join(", "), node.region ?? "", marksOf(node)];
    return element("tr", {}, element("th", { scope: "row" }, look), ...cells.map((cell) => element("td", {}, cell)));
  }
}

function marksOf(node) {
  return [!node.discoverable && "hidden", node.left && "left", node.held && "held", node.blocked && "blocked"].filter(Boolean).join(", ");
}

class Desk {
  constructor() {
    this.shown = null;
    this.listing = new Listing();
    byId("snapshot").addEventListener("click", () => act("snapshot", "POST", "admin/snapshot"));
    byId("release-silence").addEventListener("click", () => act("release of mass silence", "POST", "admin/mass-silence/release"));
    byId("block").addEventListener("submit", (event) => {
      event.preventDefault();
      this.block(byId("block-kind").value, byId("block-subject").value.trim());
    });
    byId("confirm-yes").addEventListener("click", () => byId("confirm").close("yes"));
    byId("confirm-no").addEventListener("click", () => byId("confirm").close());
  }

  async open() {
    this.counts(await ask("GET", "admin/counts"));
    await Promise.all([this.listing.search(), this.blocks()]);
  }

  async renew() {
    try {
      this.counts(await ask("GET", "admin/counts"));
      await Promise.all([this.blocks(), this.shown && this.look(this.shown, false)]);
    } catch (error) {
      note(error.message, true);
    }
  }

  counts({ nodes, by_state, regions, services }) {
    say(byId("counts-note"), count(nodes, "node", "nodes"));
    const group = (title, field, rows) => {
      const items = rows.map(([name, number]) => {
        const button = element("button", { type: "button" }, element("span", {}, name ?? "none"), element("span", {}, whole.format(number)));
        if (name === null) button.disabled = true;
        button.addEventListener("click", () => this.listing.search({ id: "", state: "", region: "", service: "", [field]: name }));
        return element("li", {}, button);
      });
      return element("section", {}, element("h3", {}, title), items.length ? element("ul", {}, ...items) : element("p", { class: "hint" }, "none"));
    };
    byId("counts").replaceChildren(
      group("By state", "state", Object.entries(by_state)),
      group("By region", "region", regions),
      group("By service", "service", services),
    );
  }

  /** Show a node, explained, with what can be done to it. */
  async look(node_id, asked = true) {
    const card = byId("answer");
    let told;
    try {
      told = await ask("GET", `admin/nodes/${encodeURIComponent(node_id)}`);
    } catch (error) {
      if (!asked && error.status !== 404 && error.status !== 410) return;
      this.shown = null;
      card.replaceChildren(element("h3", { id: "answer-title" }, node_id), element("p", { class: "why" }, error.message));
      card.hidden = false;
      return;
    }
    this.shown = node_id;
    const focused = [...card.querySelectorAll("button")].indexOf(document.activeElement);
    card.replaceChildren(
      element("div", { class: "first" }, element("h3", { id: "answer-title" }, told.node_id), badge(told.state), element("span", { class: "hint" }, marksOf(told))),
      element("p", { class: "why" }, `${told.explain.why} ${outlook(told)}`),
      told.forecast ? element("p", { class: "expected" }, told.forecast.words) : "",
      element("div", { class: "buttons" }, ...this.buttons(told)),
      element("div", { class: "more" }, ahead(told.explain), behind(told.explain), facts(told), reach(told)),
    );
    card.hidden = false;
    if (asked) card.focus();
    // A person who acts by keys goes on where they were.
    else if (focused >= 0) card.querySelectorAll("button")[focused]?.focus();
  }

  buttons({ node_id, held, public_key_fingerprint }) {
    const path = `admin/nodes/${encodeURIComponent(node_id)}`;
    const button = (name, does, danger = false) => {
      const made = element("button", { type: "button", class: danger ? "danger" : "" }, name);
      made.addEventListener("click", does);
      return made;
    };
    const on = (verb) => async () => {
      await act(`${verb} ${node_id}`, "POST", `${path}/${verb}`);
      await this.renew();
    };
    const purge = async () => {
      if (!(await confirmed(`Purge ${node_id}?`, "The node is erased now. Its name stays taken for a while. This cannot be undone.", "Purge"))) return;
      await on("purge")();
    };
    const draft = (kind, subject) => () => {
      byId("block-kind").value = kind;
      byId("block-subject").value = subject;
      byId("block-reason").focus();
    };
    return [
      button("Wake", on("wake")),
      held ? button("Release", on("release")) : button("Hold", on("hold")),
      button("Block …", draft("id", node_id)),
      public_key_fingerprint ? button("Block its key …", draft("key", public_key_fingerprint)) : "",
      button("Purge …", purge, true),
    ].filter(Boolean);
  }

  async block(kind, subject) {
    const asked = new URLSearchParams();
    if (byId("block-reason").value) asked.set("reason", byId("block-reason").value);
    if (byId("block-lifetime").value) asked.set("lifetime_s", byId("block-lifetime").value);
    if (await act(`block ${kind} ${subject}`, "POST", `admin/blocks/${kind}/${encodeURIComponent(subject)}?${asked}`)) byId("block").reset();
    await this.renew();
  }

  async blocks() {
    const blocks = [];
    for (let cursor = "0"; cursor !== null; ) {
      const told = await ask("GET", `admin/blocks?limit=${BLOCKS_AT_ONCE}&cursor=${cursor}`);
      blocks.push(...told.blocks);
      cursor = told.next;
    }
    const rows = blocks.map(({ kind, subject, reason, ends_at }) => {
      const undo = element("button", { type: "button", "aria-label": `Unblock ${kind} ${subject}` }, "Unblock");
      undo.addEventListener("click", async () => {
        await act(`unblock ${kind} ${subject}`, "DELETE", `admin/blocks/${kind}/${encodeURIComponent(subject)}`);
        await this.renew();
      });
      return element("tr", {}, element("th", { scope: "row" }, subject), ...[kind, reason, ends_at ? moment(ends_at) : "never", undo].map((cell) => element("td", {}, cell)));
    });
    byId("blocks").replaceChildren(...rows);
  }
}

/** List what only operators see of a node: its addresses and its key. */
function reach({ address, port, addresses, public_key }) {
  const all = [{ address, port }, ...(addresses ?? [])].map((one) => (one.address.includes(":") ? `[${one.address}]:${one.port}` : `${one.address}:${one.port}`));
  const key = public_key ? element("details", {}, element("summary", {}, "Public key"), element("pre", {}, public_key)) : null;
  return element("section", {}, element("h4", {}, "Addresses"), element("ul", {}, ...all.map((one) => element("li", {}, one))), key);
}

const desk = new Desk();

async function enter() {
  secret = byId("secret").value.trim();
  say(byId("entry-refused"), "");
  try {
    await desk.open();
  } catch (error) {
    secret = null;
    say(byId("entry-refused"), error.message);
    byId("secret").focus();
    return;
  }
  byId("secret").value = "";
  byId("entry").hidden = true;
  byId("desk").hidden = false;
  byId("leave").hidden = false;
  byId("main").focus();
}

byId("entry-form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter();
});
byId("leave").addEventListener("click", () => location.reload());
