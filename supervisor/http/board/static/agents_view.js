/** The agents: who is here, what waits for them, and sending one away. */

import { outcome } from "./actions.js";
import { Failure, get, may, post, V1 } from "./api.js";
import { button, openDialog } from "./dialog.js";
import { afterTyping, fill, h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { back, icon } from "./icons.js";
import { facts, section } from "./mod_parts.js";
import { Table, figures } from "./table.js";

/**
 * @typedef {object} Agent
 * @property {string} agent_id
 * @property {string | null} group
 * @property {number} registered_at
 * @property {number | null} last_seen_at
 * @property {string | null} connected
 * @property {{events: number, bytes: number, dropped: number}} inbox
 * @property {number} subscriptions
 * @property {string[]} channels
 * @property {boolean} guest
 */

/** @typedef {Agent & {metadata: Record<string, any>, address: string | null, patterns: string[], rights: Record<string, any>}} OneAgent */

const EVERY = 3000; // milliseconds
let prefix = "";
/** @type {string | null} */
let last = null;

export class AgentsView {
  title = "Agents";

  constructor() {
    this.search = h("input", {
      type: "search",
      class: "search-input",
      placeholder: "Ids that begin with",
      "aria-label": "Agents whose id begins with",
      value: prefix,
      autocomplete: "off",
      spellcheck: "false",
      oninput: afterTyping(() => this.#filtered(), 200),
    });
    this.count = h("span", { class: "muted", role: "status" });
    this.agents = /** @type {Agent[]} */ ([]);
    /** @type {Table<Agent>} */
    this.table = new Table({
      label: "Agents",
      kind: "agents-table",
      columns: columns(),
      key: (agent) => agent.agent_id,
      href: (agent) => `#agents/${encodeURIComponent(agent.agent_id)}`,
      tone: (agent) => (agent.inbox.dropped > 0 ? "tone-warn" : agent.connected ? "tone-ok" : "tone-off"),
      onSort: () => this.table.show(this.agents),
      empty: "No agent is registered that matches.",
    });
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, h("h1", {}, "Agents")),
      h(
        "div",
        { class: "bar" },
        h("div", { class: "search" }, icon("search"), this.search, h("kbd", {}, "/")),
        this.count,
      ),
      this.table.element,
    );
  }

  /** @param {HTMLElement} scroller */
  start(scroller) {
    this.table.start(scroller);
    void this.#read();
    this.timer = setInterval(() => !document.hidden && void this.#read(), EVERY);
  }

  stop() {
    last = this.table.current;
    clearInterval(this.timer);
    this.table.stop();
  }

  /** @param {number} by */
  move(by) {
    this.table.move(by);
  }

  filter() {
    return this.search;
  }

  restore() {
    return last !== null && this.table.focus(last);
  }

  #filtered() {
    prefix = this.search.value.trim();
    void this.#read();
  }

  async #read() {
    const asked = prefix;
    const found = await get(`${V1}/agents?limit=1000${asked ? `&prefix=${encodeURIComponent(asked)}` : ""}`).catch(
      () => null,
    );
    if (found === null || asked !== prefix) return;
    this.agents = found.agents;
    const shown = this.agents.length;
    setText(
      this.count,
      shown < found.total
        ? `the first ${shown} of ${format.plural(found.total, "agent")}`
        : format.plural(found.total, "agent"),
    );
    this.table.show(this.agents);
  }
}

/** @returns {import("./table.js").Column<Agent>[]} */
function columns() {
  return [
    { id: "name", title: "Agent", make: nameCell, by: (agent) => agent.agent_id },
    { id: "group", title: "Group", text: (agent) => agent.group ?? format.NONE, by: (agent) => agent.group },
    { id: "way", title: "Connected by", text: (agent) => way(agent), by: (agent) => agent.connected },
    figures("inbox", "Inbox", (agent) => agent.inbox.events, format.count, "Events that wait for it"),
    figures("size", "Size", (agent) => agent.inbox.bytes, format.bytes),
    figures(
      "dropped",
      "Dropped",
      (agent) => agent.inbox.dropped,
      format.count,
      "Deliveries that its full inbox refused",
    ),
    figures("at", "Seen", (agent) => agent.last_seen_at, format.ago),
  ];
}

/** @param {Agent} agent */
function way(agent) {
  return agent.connected === null
    ? format.NONE
    : ({ ws: "WebSocket", sse: "event stream", poll: "polling" }[agent.connected] ?? agent.connected);
}

function nameCell() {
  const id = h("b", {});
  const below = h("small", {});
  const node = h(
    "span",
    { class: "mod-name" },
    h("span", { class: "dot", "aria-hidden": "true" }),
    h("span", {}, id, below),
  );
  return {
    node,
    show: (/** @type {Agent} */ agent) => {
      setText(id, agent.agent_id);
      const channels = agent.channels.length ? format.plural(agent.channels.length, "channel") : "";
      setText(below, [agent.guest ? "guest" : "", channels].filter(Boolean).join(" · "));
      setAttribute(below, "hidden", below.textContent === "" ? "" : null);
    },
  };
}

export class AgentView {
  up = "agents";

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.title = id;
    this.key = "";
    this.buttons = h("div", { class: "buttons" });
    this.content = h("div", {}, h("p", { class: "none" }, "Reading …"));
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, back("agents", "the agents"), h("h1", {}, id), this.buttons),
      this.content,
    );
  }

  start() {
    if (may("operate"))
      fill(
        this.buttons,
        button("Send away", () => this.#kick(), { kind: "" }),
      );
    void this.#read();
    this.timer = setInterval(() => !document.hidden && void this.#read(), EVERY);
  }

  stop() {
    clearInterval(this.timer);
  }

  async #read() {
    try {
      this.#show(await get(`${V1}/agents/${encodeURIComponent(this.id)}`));
    } catch (error) {
      clearInterval(this.timer);
      fill(this.buttons);
      fill(this.content, h("p", { class: "card" }, error instanceof Failure ? error.message : String(error)));
    }
  }

  /** @param {OneAgent} agent */
  #show(agent) {
    const key = JSON.stringify(agent);
    if (key === this.key) return;
    this.key = key;
    fill(
      this.content,
      h(
        "div",
        { class: "card" },
        facts([
          ["Group", agent.group ?? "none"],
          ["Connected by", way(agent)],
          ["Address", agent.address ?? format.NONE],
          ["Registered", format.time(agent.registered_at)],
          ["Seen", format.ago(agent.last_seen_at)],
          ["Guest", agent.guest ? "yes" : "no"],
          ["Inbox", `${format.plural(agent.inbox.events, "event")}, ${format.bytes(agent.inbox.bytes)}`],
          ["Dropped", format.count(agent.inbox.dropped)],
          ["Channels", agent.channels.length ? agent.channels.join(", ") : "none"],
        ]),
        section("Subscriptions", chips(agent.patterns, "All that is meant for it.")),
        section("Rights", rights(agent.rights)),
        Object.keys(agent.metadata).length
          ? section("Metadata", h("pre", { tabindex: "0" }, JSON.stringify(agent.metadata, null, 2)))
          : null,
      ),
    );
  }

  #kick() {
    const dialog = openDialog(`Send ${this.id} away?`, [
      h(
        "p",
        { class: "plan" },
        "Its registration, its inbox and its connection end now. It may register again. To keep it out, take its group's password or invite away.",
      ),
    ]);
    const go = button(
      "Send away",
      () =>
        void outcome(dialog, `Sending ${this.id} away …`, () =>
          post(`${V1}/agents/${encodeURIComponent(this.id)}/kick`),
        ),
      { kind: "grave" },
    );
    dialog.foot.append(button("Cancel", dialog.close), go);
    void dialog.closed.then(() => this.#read());
  }
}

/** @param {string[]} texts @param {string} none */
export function chips(texts, none) {
  if (texts.length === 0) return h("p", { class: "muted" }, none);
  return h(
    "p",
    { class: "chips" },
    texts.map((text) => h("code", { class: "chip" }, text)),
  );
}

/** @param {Record<string, any>} given */
function rights(given) {
  const words = (/** @type {any} */ value) =>
    Array.isArray(value) ? value.join(", ") || "nothing" : String(value ?? "as the network says");
  return facts([
    ["May also", words(given.permissions)],
    ["May send", words(given.send)],
    ["May get", words(given.receive)],
    ["Sees of others", words(given.directory)],
    ["Inbox holds", `${format.plural(given.inbox_size ?? 0, "event")}, ${format.bytes(given.inbox_bytes)}`],
  ]);
}
