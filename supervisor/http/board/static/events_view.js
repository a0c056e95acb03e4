/** The events as they happen: a sample, as much of it as a reader can take. */

import { keepOpen, V1 } from "./api.js";
import { button } from "./dialog.js";
import { afterTyping, h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { inFrame } from "./frames.js";
import { icon } from "./icons.js";
import { live } from "./live.js";
import { Table } from "./table.js";

/**
 * @typedef {object} Line one finished event in short
 * @property {string} id
 * @property {string} name
 * @property {string} source
 * @property {string | null} to
 * @property {number} at
 * @property {number | null} ms
 * @property {boolean} success
 * @property {string | null} error
 * @property {string | null} by the mod that answered
 * @property {number | null} delivered
 */

const KEPT = 1000;
const SAMPLE = 50; // lines per second: what is faster than this nobody reads

const PAUSE = 250; // milliseconds between two drawings: rows that move more often cannot be read

/** What was filtered for, and what was seen: both stay while one looks at an event. */
const seen = {
  pattern: "",
  text: "",
  failures: false,
  lines: /** @type {Line[]} */ ([]),
  paused: false,
  last: /** @type {string | null} */ (null),
};

export class EventsView {
  title = "Events";

  constructor() {
    const typed = afterTyping(() => this.#filtered(), 300);
    this.search = h("input", {
      type: "search",
      class: "search-input",
      placeholder: "Name: wiki.*",
      "aria-label": "Pattern of event names",
      value: seen.pattern,
      oninput: typed,
      autocomplete: "off",
      spellcheck: "false",
    });
    this.text = h("input", {
      type: "search",
      class: "search-input plain-input",
      placeholder: "Source, mod, error",
      "aria-label": "Filter by source, destination, mod or error",
      value: seen.text,
      oninput: typed,
      autocomplete: "off",
    });
    this.failures = h("input", { type: "checkbox", checked: seen.failures, onchange: typed });
    this.pace = h("p", { class: "view-note", role: "status" });
    this.pause = button("Pause", () => this.#turn(), { icon: "pause" });
    this.table = new Table({
      label: "Events, newest first",
      kind: "events-table",
      columns: columns(),
      key: (line) => line.id,
      href: (line) => `#events/${encodeURIComponent(line.id)}`,
      tone: (line) => (line.success ? "" : "tone-bad"),
      empty: "No event has come yet that matches.",
    });
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, h("h1", {}, "Events"), this.pause, this.pace),
      h(
        "div",
        { class: "bar" },
        h("div", { class: "search" }, icon("search"), this.search, h("kbd", {}, "/")),
        h("div", { class: "search" }, this.text),
        h("label", { class: "check" }, this.failures, "Failures only"),
      ),
      this.table.element,
    );
    this.skipped = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.drawing = undefined;
    /** @type {string | null} */
    this.problem = null;
    this.#showPause();
  }

  /** @param {HTMLElement} scroller */
  start(scroller) {
    this.table.start(scroller);
    this.#open();
    this.#draw();
    this.end = live.on(() => inFrame(this.pace, () => this.#showPace()));
  }

  stop() {
    seen.last = this.table.current;
    this.end?.();
    this.close?.();
    clearTimeout(this.drawing);
    this.table.stop();
  }

  /** @param {number} by */
  move(by) {
    // Who walks through the rows wants them to stay.
    if (!seen.paused) this.#turn();
    this.table.move(by);
  }

  filter() {
    return this.search;
  }

  restore() {
    return seen.last !== null && this.table.focus(seen.last);
  }

  #open() {
    this.close?.();
    this.close = undefined;
    if (seen.paused) return;
    const pattern = seen.pattern === "" ? "" : `&pattern=${encodeURIComponent(seen.pattern)}`;
    this.close = keepOpen(
      `${V1}/events?brief=true&sample=${SAMPLE}${pattern}`,
      (line) => this.#take(line),
      (problem) => this.#broke(problem),
    );
  }

  /** @param {any} line */
  #take(line) {
    if (line.skipped !== undefined) this.skipped = line.skipped;
    if (line.id === undefined) return;
    seen.lines.unshift(line);
    if (seen.lines.length > 2 * KEPT) seen.lines.length = KEPT;
    this.drawing ??= setTimeout(() => inFrame(this, () => this.#draw()), PAUSE);
  }

  /** @param {string | null} problem */
  #broke(problem) {
    if (problem === this.problem) return;
    this.problem = problem;
    this.#showPace();
  }

  #draw() {
    clearTimeout(this.drawing);
    this.drawing = undefined;
    const words = seen.text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = seen.lines.filter((line) => (!seen.failures || !line.success) && isFound(line, words)).slice(0, KEPT);
    // They come as they end, and are shown by their begin.
    this.table.show(rows.sort((one, other) => other.at - one.at));
  }

  #filtered() {
    const pattern = this.search.value.trim();
    const isNew = pattern !== seen.pattern;
    seen.pattern = pattern;
    seen.text = this.text.value;
    seen.failures = this.failures.checked;
    if (isNew) {
      seen.lines = [];
      this.#open();
    }
    this.#draw();
  }

  #turn() {
    seen.paused = !seen.paused;
    this.#showPause();
    this.#open();
    this.#showPace();
  }

  #showPause() {
    this.pause.replaceChildren(icon(seen.paused ? "play" : "pause"), h("span", {}, seen.paused ? "Go on" : "Pause"));
    setAttribute(this.pause, "aria-pressed", String(seen.paused));
  }

  #showPace() {
    const rate = format.rate(live.network?.events_per_second ?? 0);
    const part = this.skipped > 0 ? ` A sample of ${SAMPLE} a second is shown.` : "";
    setText(this.pace, this.problem ?? (seen.paused ? "Paused." : `${rate} events per second.${part}`));
    setAttribute(this.pace, "class", `view-note ${this.problem ? "warn-text" : ""}`);
    this.skipped = 0;
  }
}

/** @param {Line} line @param {string[]} words */
function isFound(line, words) {
  if (words.length === 0) return true;
  const text = `${line.name} ${line.source} ${line.to ?? ""} ${line.by ?? ""} ${line.error ?? ""}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/** @param {Line} line */
export function outcomeOf(line) {
  if (!line.success) return line.error ?? "failed";
  if (line.by) return "answered";
  return line.delivered ? `to ${format.plural(line.delivered, "agent")}` : "done";
}

/** @returns {import("./table.js").Column<Line>[]} */
function columns() {
  return [
    { id: "name", title: "Event", text: (line) => line.name },
    { id: "source", title: "From", text: (line) => line.source },
    { id: "to", title: "To", text: (line) => line.to ?? (line.by ? `mod:${line.by}` : format.NONE) },
    { id: "outcome", title: "Outcome", make: outcomeCell },
    { id: "ms", title: "Took", text: (line) => format.latency(line.ms) },
    { id: "at", title: "At", text: (line) => format.exactTime(line.at) },
  ];
}

function outcomeCell() {
  const node = h("span", { class: "badge" });
  return {
    node,
    show: (/** @type {Line} */ line) => {
      setAttribute(node, "class", `badge ${line.success ? "ok" : "bad"}`);
      setText(node, outcomeOf(line));
    },
  };
}
