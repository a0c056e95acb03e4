/** What a mod prints, as it prints it. */

import { keepOpen, modPath } from "./api.js";
import { afterTyping, fill, h, setText } from "./dom.js";
import { inFrame } from "./frames.js";
import * as format from "./format.js";
import { live } from "./live.js";

const KEPT = 1000; // lines; a flood of output must not fill the page
const STAMP = /^(\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\S*) (.*)$/s;
const BAD = /^(Traceback|\w*(Error|Exception)\b|\w+(\.\w+)*(Error|Exception):|FATAL|CRITICAL)/i;

export class LogPart {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.lines = /** @type {string[]} */ ([]);
    this.fresh = 0; // lines at the end that are not shown yet
    this.search = h("input", {
      type: "search",
      class: "search-input plain-input",
      placeholder: "Filter lines",
      "aria-label": "Filter the lines of the log",
      oninput: afterTyping(() => this.#redraw()),
    });
    this.count = h("span", { class: "muted" });
    this.follow = h("input", { type: "checkbox", checked: true });
    this.list = h("div", {
      class: "log",
      role: "log",
      "aria-live": "off",
      tabindex: "0",
      "aria-label": `Log of ${id}`,
    });
    this.problem = h("p", { class: "muted" });
    this.element = h(
      "section",
      { class: "part" },
      h(
        "div",
        { class: "bar" },
        h("div", { class: "search" }, this.search),
        this.count,
        h("label", { class: "check" }, this.follow, "Follow"),
      ),
      this.list,
      this.problem,
    );
    this.list.addEventListener("scroll", () => this.#scrolled(), { passive: true });
  }

  start() {
    this.end = keepOpen(
      modPath(this.id, "/log?follow=1&lines=500"),
      (line) => this.#take(line),
      (problem) => this.#broke(problem),
    );
  }

  stop() {
    this.end?.();
  }

  filter() {
    return this.search;
  }

  /** @param {{line: string | null, node?: string}} line */
  #take({ line, node }) {
    const text = line ?? "(a line that cannot be shown)";
    const isElsewhere = node !== undefined && node !== live.row(this.id)?.node; // the mod ran there before
    this.lines.push(isElsewhere ? text.replace(STAMP, `$1 [${node}] $3`) : text);
    this.fresh++;
    if (this.lines.length > 2 * KEPT) this.lines.splice(0, this.lines.length - KEPT);
    inFrame(this, () => this.#draw());
  }

  /** @param {string | null} problem */
  #broke(problem) {
    setText(this.problem, problem ?? "");
    // The past lines come anew with the next stream.
    if (problem !== null) this.#clear();
  }

  #clear() {
    this.lines = [];
    this.fresh = 0;
    fill(this.list);
  }

  #redraw() {
    fill(this.list);
    this.fresh = this.lines.length;
    this.#draw();
  }

  #draw() {
    const wanted = this.search.value.toLowerCase();
    const fresh = this.lines.slice(-Math.min(this.fresh, KEPT, this.lines.length));
    const found = wanted === "" ? fresh : fresh.filter((line) => line.toLowerCase().includes(wanted));
    this.fresh = 0;
    const piece = document.createDocumentFragment();
    for (const line of found) piece.append(lineOf(line));
    this.list.append(piece);
    while (this.list.childElementCount > KEPT) this.list.firstElementChild?.remove();
    setText(this.count, format.plural(Math.min(this.lines.length, KEPT), "line"));
    if (this.follow.checked) this.list.scrollTop = this.list.scrollHeight;
  }

  #scrolled() {
    const left = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight;
    // Who scrolls up wants to read.
    if (left > 40 && this.follow.checked && this.list.matches(":hover, :focus")) this.follow.checked = false;
  }
}

/** @param {string} line */
export function lineOf(line) {
  const parts = STAMP.exec(line);
  const text = parts?.[3] ?? line;
  const time = parts === null ? null : h("time", { datetime: parts[1], title: parts[1] }, parts[2]);
  return h("div", { class: BAD.test(text.trim()) ? "log-line bad" : "log-line" }, time, h("span", {}, text));
}
