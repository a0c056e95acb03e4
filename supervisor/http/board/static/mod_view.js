/** One mod: how it does, and what can be done to it. Its parts are views of their own, below. */

import { ACTIONS, actionButton } from "./actions.js";
import { Failure, get, modPath } from "./api.js";
import { fill, h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { inFrame } from "./frames.js";
import { back } from "./icons.js";
import { live } from "./live.js";
import { LogPart } from "./log_part.js";
import { CrashesPart, LimitsPart } from "./mod_parts.js";
import { problemCard, stateBadge } from "./mods_view.js";
import { problemOf } from "./problems.js";
import { Spark } from "./spark.js";
import { VersionsPart } from "./versions_part.js";

/** @typedef {import("./live.js").Row} Row */

/**
 * @typedef {object} Part
 * @property {HTMLElement} element
 * @property {() => void} [start]
 * @property {() => void} [stop]
 * @property {(mod: any) => void} [show] takes what the network says of the mod, when it comes
 * @property {() => HTMLInputElement} [filter]
 */

/** @type {[id: string, title: string][]} */
const PARTS = [
  ["log", "Log"],
  ["crashes", "Crash reports"],
  ["versions", "Versions"],
  ["limits", "Limits and sandbox"],
];

const ASKED_EVERY = 5000; // milliseconds between two looks at what the live rows do not tell

export class ModView {
  up = "mods";

  /** @param {string} id @param {string} [part] */
  constructor(id, part = "log") {
    this.id = id;
    this.title = id;
    this.part = PARTS.some(([each]) => each === part) ? part : "log";
    this.badge = h("span", {});
    this.about = h("p", { class: "view-note" });
    this.problem = h("div", { class: "problems" });
    this.problemKey = "";
    this.charts = new Charts();
    this.content = this.#makePart();
    this.tabs = h(
      "nav",
      { class: "tabs", "aria-label": `Parts of ${id}` },
      PARTS.map(([each, title]) => this.#tab(each, title)),
    );
    const buttons = ["reload", "restart", "swap", "unload"].map((name) => {
      const made = actionButton(name, id);
      if (made !== null) made.title = ACTIONS[name]?.hint ?? "";
      return made;
    });
    this.element = h(
      "div",
      { class: "view mod-page" },
      h(
        "div",
        { class: "view-head" },
        back("mods", "all mods"),
        h("h1", {}, id, " ", this.badge),
        h("div", { class: "buttons" }, buttons),
        this.about,
      ),
      this.problem,
      this.charts.element,
      this.tabs,
      this.content.element,
    );
  }

  start() {
    this.content.start?.();
    this.end = live.on(() => inFrame(this, () => this.#show()));
    const look = () => void this.#look();
    look();
    this.timer = setInterval(look, ASKED_EVERY);
  }

  stop() {
    this.end?.();
    clearInterval(this.timer);
    this.content.stop?.();
  }

  filter() {
    return this.content.filter?.() ?? null;
  }

  #show() {
    const row = live.row(this.id);
    if (row === undefined) return this.#showGone();
    this.#showState(row.state);
    const problem = problemOf(row);
    const key = problem === null ? "" : problem.text;
    if (key !== this.problemKey) fill(this.problem, problem === null ? null : problemCard(problem));
    this.problemKey = key;
    const parts = [
      row.path,
      row.node ? `on node ${row.node}` : null,
      row.version ? `version ${row.version}` : null,
      row.pid ? `pid ${row.pid}` : null,
      row.uptime === null ? null : `up ${format.duration(row.uptime)}`,
    ];
    if (row.workers > 1) parts.push(`${row.workers} workers`);
    setText(this.about, parts.filter(Boolean).join("  ·  "));
    this.charts.show(row);
  }

  #showGone() {
    if (live.network === null) return;
    this.#showState("not loaded");
    setText(this.about, "The network has no such mod now. Its crash reports and its log are kept.");
  }

  /** @param {string} state */
  #showState(state) {
    if (this.badge.textContent === state) return;
    this.badge.replaceChildren(stateBadge(state));
  }

  async #look() {
    try {
      this.content.show?.(await get(modPath(this.id)));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.content.show?.(null);
    }
  }

  /** @returns {Part} */
  #makePart() {
    switch (this.part) {
      case "crashes":
        return new CrashesPart(this.id);
      case "versions":
        return new VersionsPart(this.id);
      case "limits":
        return new LimitsPart(this.id);
      default:
        return new LogPart(this.id);
    }
  }

  /** @param {string} part @param {string} title */
  #tab(part, title) {
    return h(
      "a",
      { href: `#mods/${encodeURIComponent(this.id)}/${part}`, "aria-current": part === this.part ? "page" : null },
      title,
    );
  }
}

/** Line charts of the last minutes, each with its figure now. */
class Charts {
  constructor() {
    this.cpu = new Chart("CPU");
    this.memory = new Chart("Memory");
    this.rate = new Chart("Events per second");
    this.latency = new Chart("Latency, p99");
    this.rates = /** @type {(number | null)[]} */ ([]);
    this.latencies = /** @type {(number | null)[]} */ ([]);
    this.turn = -1;
    const charts = [this.cpu, this.memory, this.rate, this.latency];
    this.element = h(
      "section",
      { class: "charts", "aria-label": "Figures" },
      charts.map((chart) => chart.element),
    );
    this.sizes = new ResizeObserver(() => charts.forEach((chart) => chart.fit()));
    this.sizes.observe(this.element);
  }

  /** @param {Row} row */
  show(row) {
    if (this.turn !== live.turn) {
      keep(this.rates, row.rate);
      keep(this.latencies, row.p99);
    }
    this.turn = live.turn;
    this.cpu.show(
      format.percent(row.cpu),
      row.cpu_limit === null ? "no limit" : `of ${format.percent(row.cpu_limit)}`,
      row.cpu_history,
      row.cpu_limit,
    );
    this.memory.show(
      format.bytes(row.rss),
      row.memory_limit === null ? "no limit" : `of ${format.bytes(row.memory_limit)}`,
      row.rss_history,
      row.memory_limit,
    );
    this.rate.show(format.rate(row.rate), `${row.in_flight} in flight, ${row.queue} waiting`, this.rates, null);
    this.latency.show(format.latency(row.p99), `p50 ${format.latency(row.p50)}`, this.latencies, null);
  }
}

/** @param {(number | null)[]} points @param {number | null} point */
function keep(points, point) {
  points.push(point);
  if (points.length > 60) points.shift();
}

class Chart {
  /** @param {string} title */
  constructor(title) {
    this.value = h("span", { class: "tile-value" }, format.NONE);
    this.note = h("span", { class: "tile-note" });
    this.spark = new Spark(220, 54);
    this.place = h("div", { class: "chart-line" }, this.spark.canvas);
    this.element = h(
      "figure",
      { class: "chart" },
      h("figcaption", { class: "tile-title" }, title),
      h("div", { class: "chart-now" }, this.value, this.note),
      this.place,
    );
  }

  fit() {
    this.spark.setSize(this.place.clientWidth, 54);
    if (this.last) this.spark.show(...this.last);
  }

  /** @param {string} value @param {string} note @param {(number | null)[]} points @param {number | null} limit */
  show(value, note, points, limit) {
    setText(this.value, value);
    setText(this.note, note);
    this.last = /** @type {[(number | null)[], number | null]} */ ([points, limit]);
    this.spark.show(points, limit);
    setAttribute(this.element, "aria-label", `${value} ${note}`);
  }
}
