/** Who did what: the audit, newest first. */

import { get, V1 } from "./api.js";
import { button } from "./dialog.js";
import { afterTyping, h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { icon } from "./icons.js";
import { Table } from "./table.js";

/**
 * @typedef {object} Entry one line of the audit
 * @property {number} n
 * @property {string} at
 * @property {string} who
 * @property {string | null} from
 * @property {string} what
 * @property {string | null} on
 * @property {string} outcome
 * @property {string} [node] in a cluster: which recorded it
 * @property {Record<string, any> | null} detail
 */

let what = "";

export class AuditView {
  title = "Audit";

  constructor() {
    this.entries = /** @type {Entry[]} */ ([]);
    this.search = h("input", {
      type: "search",
      class: "search-input",
      placeholder: "What: mod.load, login …",
      "aria-label": "What was done, such as mod.load",
      value: what,
      autocomplete: "off",
      spellcheck: "false",
      oninput: afterTyping(() => this.#filtered(), 250),
    });
    this.more = button("Older", () => void this.#read(this.next ?? null));
    this.more.hidden = true;
    this.table = new Table({
      label: "Audit, newest first",
      kind: "audit-table",
      columns: [
        { id: "at", title: "When", text: (entry) => format.time(Date.parse(entry.at) / 1000) },
        { id: "who", title: "Who", text: (entry) => entry.who },
        { id: "node", title: "Node", text: (entry) => entry.node ?? format.NONE },
        { id: "what", title: "What", text: (entry) => entry.what },
        { id: "on", title: "On", text: (entry) => entry.on ?? format.NONE },
        { id: "outcome", title: "Outcome", make: outcomeCell },
        { id: "detail", title: "Detail", text: detailOf },
      ],
      key: (entry) => `${entry.n} ${entry.node ?? ""}`,
      empty: "Nothing was done that matches.",
    });
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, h("h1", {}, "Audit")),
      h("div", { class: "bar" }, h("div", { class: "search" }, icon("search"), this.search, h("kbd", {}, "/"))),
      this.table.element,
      h("div", { class: "bar" }, this.more),
    );
  }

  /** @param {HTMLElement} scroller */
  start(scroller) {
    this.table.start(scroller);
    void this.#read(null);
  }

  stop() {
    this.table.stop();
  }

  /** @param {number} by */
  move(by) {
    this.table.move(by);
  }

  filter() {
    return this.search;
  }

  #filtered() {
    what = this.search.value.trim();
    void this.#read(null);
  }

  /** @param {number | string | null} before */
  async #read(before) {
    const asked = what;
    const query = new URLSearchParams({ limit: "200" });
    if (before !== null) query.set("before", String(before));
    if (asked) query.set("what", asked);
    const found = await get(`${V1}/audit?${query}`).catch(() => null);
    if (asked !== what) return;
    const entries = found?.records ?? [];
    this.entries = before === null ? entries : [...this.entries, ...entries];
    this.next = found?.next ?? null;
    this.more.hidden = this.next === null;
    this.table.element.classList.toggle("of-nodes", found?.nodes !== undefined);
    this.table.show(this.entries);
  }
}

function outcomeCell() {
  const node = h("span", { class: "badge" });
  return {
    node,
    show: (/** @type {Entry} */ entry) => {
      setAttribute(node, "class", `badge ${entry.outcome === "ok" ? "ok" : entry.outcome === "asked" ? "" : "bad"}`);
      setText(node, entry.outcome);
    },
  };
}

/** @param {Entry} entry */
function detailOf(entry) {
  const { detail } = entry;
  return Object.entries(detail ?? {})
    .filter(([, value]) => value !== null)
    .map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
}
