/** The first page: what is wrong, how the network is, and all mods as rows. */

import { actionButton } from "./actions.js";
import { may } from "./api.js";
import { button } from "./dialog.js";
import { afterTyping, fill, h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { inFrame } from "./frames.js";
import { icon } from "./icons.js";
import { live } from "./live.js";
import { problemOf, problemsOf, tone } from "./problems.js";
import { Spark } from "./spark.js";
import { Table, figures } from "./table.js";

/** @typedef {import("./live.js").Row} Row */
/** @typedef {import("./problems.js").Problem} Problem */

const SHOWN = 4; // problems as cards; the others are counted, and stand at the top of the table

let filterText = ""; // stays while one looks at a mod
let filterNode = "";
/** @type {string | null} */
let lastOpened = null;

export class ModsView {
  title = "Mods";

  constructor() {
    this.tiles = new Tiles();
    this.problems = h("section", { class: "problems", "aria-label": "What needs a look" });
    this.problemsKey = "";
    this.search = h("input", {
      type: "search",
      class: "search-input",
      placeholder: "Filter mods",
      "aria-label": "Filter mods by id, state, version or node",
      value: filterText,
      autocomplete: "off",
      spellcheck: "false",
      oninput: afterTyping(() => this.#filtered()),
    });
    this.nodes = h("select", { "aria-label": "Node", hidden: true, onchange: () => this.#filtered() });
    this.nodesKey = "";
    this.silent = h("p", { class: "warn-text", role: "status", hidden: true });
    this.shown = h("span", { class: "muted", role: "status" });
    this.table = new Table({
      label: "Mods",
      kind: "mods-table",
      columns: columns(),
      key: (row) => row.id,
      href: (row) => `#mods/${encodeURIComponent(row.id)}`,
      tone: (row) => `tone-${tone(row)}`,
      onSort: () => this.#list(),
      empty: "No mod matches.",
    });
    const load = may("admin") ? button("Load a mod", () => void openLoad(), { icon: "plus", kind: "main" }) : null;
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, h("h1", {}, "Mods"), load),
      this.problems,
      this.tiles.element,
      h(
        "div",
        { class: "bar" },
        h("div", { class: "search" }, icon("search"), this.search, h("kbd", {}, "/")),
        this.nodes,
        this.shown,
      ),
      this.silent,
      this.table.element,
    );
  }

  /** @param {HTMLElement} scroller */
  start(scroller) {
    this.table.start(scroller);
    this.end = live.on(() => inFrame(this, () => this.#show()));
  }

  stop() {
    lastOpened = this.table.current;
    this.end?.();
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
    this.#list();
    return lastOpened !== null && this.table.focus(lastOpened);
  }

  #show() {
    if (live.network === null) return;
    this.tiles.show();
    this.#showNodes();
    this.#showProblems();
    inFrame(`${this.title} list`, () => this.#list());
  }

  #list() {
    const words = filterText.toLowerCase().split(/\s+/).filter(Boolean);
    const all = live.rows();
    const isWhole = words.length === 0 && filterNode === "";
    const rows = isWhole ? all : all.filter((row) => isFound(row, words) && (!filterNode || row.node === filterNode));
    setText(
      this.shown,
      isWhole ? format.plural(all.length, "mod") : `${rows.length} of ${format.plural(all.length, "mod")}`,
    );
    this.table.show(this.table.sort.column === null ? worstFirst(rows) : rows);
  }

  #filtered() {
    filterText = this.search.value;
    filterNode = this.nodes.value;
    this.#list();
  }

  /** In a cluster: a column and a choice of nodes, and which of them do not answer. */
  #showNodes() {
    const nodes = live.nodes();
    const key = nodes.map((each) => each.node).join();
    if (key !== this.nodesKey) {
      this.nodesKey = key;
      if (!nodes.some((each) => each.node === filterNode)) filterNode = "";
      const names = nodes.map(({ node }) => h("option", { value: node, selected: node === filterNode }, node));
      fill(this.nodes, h("option", { value: "" }, "All nodes"), names);
      this.nodes.hidden = nodes.length === 0;
      this.table.element.classList.toggle("of-nodes", nodes.length > 0);
    }
    const silent = nodes.filter((each) => !each.answered);
    this.silent.hidden = silent.length === 0;
    setText(this.silent, silent.map((each) => `Node ${each.node} did not answer: ${each.error}.`).join(" "));
  }

  #showProblems() {
    const found = problemsOf(live.rows());
    const key = found.map((problem) => `${problem.row.id}|${problem.text}`).join("\n");
    if (key === this.problemsKey) return;
    // A card that is drawn anew would take the focus from the button that someone is about to press.
    if (this.problems.contains(document.activeElement) && this.problemsKey !== "" && found.length > 0) {
      this.#keepFocus(() => this.#drawProblems(found));
    } else this.#drawProblems(found);
    this.problemsKey = key;
  }

  /** @param {() => void} draw */
  #keepFocus(draw) {
    const label = document.activeElement?.getAttribute("aria-label");
    draw();
    for (const each of this.problems.querySelectorAll("button, a")) {
      if (each.getAttribute("aria-label") === label) /** @type {HTMLElement} */ (each).focus({ preventScroll: true });
    }
  }

  /** @param {Problem[]} found */
  #drawProblems(found) {
    const more = found.length - SHOWN;
    fill(
      this.problems,
      found.slice(0, SHOWN).map(problemCard),
      more > 0
        ? h("p", { class: "more" }, `and ${format.plural(more, "more mod", "more mods")}, at the top of the table`)
        : null,
    );
  }
}

/** @param {Problem} problem */
export function problemCard(problem) {
  const { row } = problem;
  const page = `#mods/${encodeURIComponent(row.id)}`;
  return h(
    "article",
    { class: `problem tone-${problem.tone}` },
    icon("warn"),
    h(
      "div",
      { class: "problem-text" },
      h("h2", {}, h("a", { href: page }, row.id), " ", stateBadge(row.state)),
      h("p", {}, problem.text),
    ),
    h(
      "div",
      { class: "problem-do" },
      h(
        "a",
        { class: "button", href: `${page}/${problem.look}`, "aria-label": `${LOOKS[problem.look]} of ${row.id}` },
        LOOKS[problem.look],
      ),
      problem.mend ? actionButton(problem.mend, row.id, "main") : null,
    ),
  );
}

/** @type {Record<string, string>} */
const LOOKS = { crashes: "Crash reports", log: "Log", limits: "Limits" };

/** @param {string} state */
export function stateBadge(state) {
  return h("span", { class: `badge state-${state}` }, state);
}

/** @param {Row} row @param {string[]} words */
function isFound(row, words) {
  const text =
    `${row.id} ${row.state} ${row.version ?? ""} ${row.path} ${row.family ?? ""} ${row.node ?? ""}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/** @param {Row[]} rows */
function worstFirst(rows) {
  const weights = new Map(problemsOf(rows).map((problem) => [problem.row.id, problem.weight]));
  const weight = (/** @type {Row} */ row) => weights.get(row.id) ?? 0;
  return rows.sort((one, other) => weight(other) - weight(one) || (one.order ?? 0) - (other.order ?? 0));
}

async function openLoad() {
  (await import("./load.js")).openLoadDialog();
}

/** @returns {import("./table.js").Column<Row>[]} */
function columns() {
  return [
    { id: "name", title: "Mod", make: nameCell, by: (row) => row.id },
    { id: "node", title: "Node", text: (row) => row.node ?? format.NONE, by: (row) => row.node ?? "" },
    figures("uptime", "Up", (row) => row.uptime, format.duration, "How old its process is"),
    figures("restarts", "Restarts", (row) => row.restarts, format.count),
    {
      id: "cpu",
      title: "CPU",
      hint: "Percent of one core, in the last five minutes",
      make: () => usage((row) => [row.cpu_history, row.cpu, row.cpu_limit, format.percent]),
      by: (row) => row.cpu,
      down: true,
    },
    {
      id: "memory",
      title: "Memory",
      hint: "Resident memory, in the last five minutes, against its limit",
      make: () => usage((row) => [row.rss_history, row.rss, row.memory_limit, format.bytes]),
      by: (row) => row.rss,
      down: true,
    },
    figures("rate", "Events/s", (row) => row.rate, format.rate),
    figures("p50", "p50", (row) => row.p50, format.latency, "Half of its answers came within this time"),
    figures("p99", "p99", (row) => row.p99, format.latency, "99 of 100 answers came within this time"),
    figures("flight", "In flight", (row) => row.in_flight, format.count, "Events in its hands"),
    figures("queue", "Queue", (row) => row.queue, format.count, "Events that wait for it"),
    figures("failed", "Failed", (row) => row.failed, format.count, "Events that failed"),
  ];
}

function nameCell() {
  const dot = h("span", { class: "dot", "aria-hidden": "true" });
  const id = h("b", {});
  const below = h("span", {});
  const on = h("span", { class: "on-node" });
  const node = h("span", { class: "mod-name" }, dot, h("span", {}, id, h("small", {}, below, on)));
  const show = (/** @type {Row} */ row) => {
    setText(id, row.id);
    setText(below, under(row));
    setText(on, row.node ? ` · on ${row.node}` : "");
    setAttribute(node, "title", problemOf(row)?.text ?? null);
  };
  return { node, show };
}

/** @param {Row} row */
function under(row) {
  const parts = [row.state];
  if (row.version) parts.push(row.version);
  if (row.workers > 1) parts.push(`${row.workers} workers`);
  if (row.audience && row.audience !== "all") parts.push(row.audience);
  return parts.join(" · ");
}

/**
 * @param {(row: Row) => [history: (number | null)[], now: number | null, limit: number | null, write: (value: number | null) => string]} read
 */
function usage(read) {
  const spark = new Spark(64, 22);
  const now = h("span", { class: "usage-now" });
  const limit = h("small", {});
  const node = h("span", { class: "usage" }, spark.canvas, h("span", { class: "usage-text" }, now, limit));
  const show = (/** @type {Row} */ row) => {
    const [history, value, most, write] = read(row);
    spark.show(history ?? [], most);
    setText(now, write(value));
    setText(limit, most === null ? "" : `of ${write(most)}`);
  };
  return { node, show };
}

/** The figures of the whole network. */
class Tiles {
  constructor() {
    this.rate = new Tile("Events per second", true);
    this.mods = new Tile("Mods ready", false);
    this.latency = new Tile("Slowest p99", false);
    this.agents = new Tile("Agents", false);
    this.cpu = new Tile("Network's own CPU", true);
    this.element = h(
      "section",
      { class: "tiles", "aria-label": "The network" },
      [this.rate, this.mods, this.latency, this.agents, this.cpu].map((tile) => tile.element),
    );
  }

  show() {
    const network = live.network;
    const rows = live.rows();
    const ready = rows.filter((row) => row.state === "ready").length;
    const slowest = rows.reduce(
      (/** @type {Row | null} */ worst, row) => ((row.p99 ?? -1) > (worst?.p99 ?? -1) && row.rate > 0 ? row : worst),
      null,
    );
    const own = network.supervisor ?? {};
    this.rate.show(
      format.rate(network.events_per_second),
      `${format.count(network.events?.processed)} since the start`,
      live.rates,
    );
    this.mods.show(`${ready}`, ready === rows.length ? "all of them" : `of ${rows.length}`);
    this.latency.show(format.latency(slowest?.p99), slowest?.id ?? "nothing under way");
    this.agents.show(format.count(network.agents), format.plural(network.channels ?? 0, "channel"));
    this.cpu.show(
      format.percent(own.cpu_percent),
      `${format.bytes(own.rss)} · up ${format.duration(network.uptime_seconds)}`,
      live.cpus,
    );
  }
}

class Tile {
  /** @param {string} title @param {boolean} drawn whether it has a line chart */
  constructor(title, drawn) {
    this.value = h("span", { class: "tile-value" }, format.NONE);
    this.note = h("span", { class: "tile-note" });
    this.spark = drawn ? new Spark(112, 36) : null;
    this.element = h(
      "div",
      { class: "tile" },
      h("span", { class: "tile-title" }, title),
      h("span", { class: "tile-row" }, this.value, this.spark?.canvas),
      this.note,
    );
  }

  /** @param {string} value @param {string} note @param {number[]} [points] */
  show(value, note, points) {
    setText(this.value, value);
    setText(this.note, note);
    if (points) this.spark?.show(points);
  }
}
