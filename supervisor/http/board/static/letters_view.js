/** Dead letters: events that were given up, each with its crash report, and what can be done with them. */

import { outcome } from "./actions.js";
import { Failure, get, may, post, remove, V1 } from "./api.js";
import { button, openDialog } from "./dialog.js";
import { fill, h } from "./dom.js";
import * as format from "./format.js";
import { back } from "./icons.js";
import { live } from "./live.js";
import { crashReport, facts } from "./mod_parts.js";
import { Table, figures } from "./table.js";

/** @typedef {any} Letter one dead letter as the network lists it */

/** @type {string | null} */
let last = null;

export class LettersView {
  title = "Dead letters";

  constructor() {
    this.letters = /** @type {Letter[]} */ ([]);
    /** @type {number | null} */
    this.next = null;
    this.more = button("Older letters", () => void this.#read(this.next));
    this.more.hidden = true;
    this.table = new Table({
      label: "Dead letters, newest first",
      kind: "letters-table",
      columns: columns((letter) => replay(letter, () => this.#again())),
      key: (letter) => String(letter.letter_id),
      href: (letter) => `#letters/${letter.letter_id}`,
      empty: "No event was given up.",
    });
    this.element = h(
      "div",
      { class: "view" },
      h(
        "div",
        { class: "view-head" },
        h("h1", {}, "Dead letters"),
        h(
          "p",
          { class: "view-note" },
          "Events whose mod ended each time that it handled them. A replay gives the event to its mod again.",
        ),
      ),
      this.table.element,
      h("div", { class: "bar" }, this.more),
    );
  }

  /** @param {HTMLElement} scroller */
  start(scroller) {
    this.table.start(scroller);
    this.#again();
    let known = live.network?.dead_letters;
    this.end = live.on(() => {
      if (live.network.dead_letters !== known && known !== undefined) this.#again();
      known = live.network.dead_letters;
    });
  }

  stop() {
    last = this.table.current;
    this.end?.();
    this.table.stop();
  }

  /** @param {number} by */
  move(by) {
    this.table.move(by);
  }

  restore() {
    return last !== null && this.table.focus(last);
  }

  #again() {
    void this.#read(null);
  }

  /** @param {number | null} before */
  async #read(before) {
    const page = before === null ? "" : `&before=${before}`;
    const found = await get(`${V1}/dead-letters?limit=100${page}`).catch(() => null);
    if (found === null) return; // the line above the view says what is wrong
    const { dead_letters, next } = found;
    this.letters = before === null ? dead_letters : [...this.letters, ...dead_letters];
    this.next = next;
    this.more.hidden = next === null;
    this.table.show(this.letters);
  }
}

/** @param {(letter: Letter) => void} onReplay @returns {import("./table.js").Column<Letter>[]} */
function columns(onReplay) {
  return [
    { id: "event", title: "Event", text: (letter) => letter.event.event_name, by: (letter) => letter.event.event_name },
    { id: "mod", title: "Mod", text: (letter) => letter.mod_id, by: (letter) => letter.mod_id },
    { id: "source", title: "From", text: (letter) => letter.event.source_id },
    { id: "reason", title: "Why", text: (letter) => letter.reason },
    { id: "attempts", title: "Tries", text: (letter) => String(letter.attempts) },
    figures("at", "When", (letter) => letter.at, format.ago),
    { id: "do", title: "", make: () => replayCell(onReplay) },
  ];
}

/** @param {(letter: Letter) => void} onReplay */
function replayCell(onReplay) {
  /** @type {Letter} */
  let letter = null;
  const node = may("operate") ? button("Replay", () => onReplay(letter), { icon: "reload" }) : h("span", {});
  return {
    node,
    show: (/** @type {Letter} */ now) => {
      letter = now;
      node.setAttribute("aria-label", `Replay dead letter ${now.letter_id}`);
    },
  };
}

/** @param {Letter} letter @param {() => void} after */
function replay(letter, after) {
  const what = h(
    "p",
    { class: "plan" },
    `Gives ${letter.event.event_name} from ${letter.event.source_id} to mod ${letter.mod_id} once more. If the mod answers, the letter is removed. If it ends again, a new letter takes its place.`,
  );
  const dialog = openDialog(`Replay dead letter ${letter.letter_id}?`, [what]);
  const go = button(
    "Replay",
    () => void outcome(dialog, "Replaying …", () => post(`${V1}/dead-letters/${letter.letter_id}/replay`)),
    { kind: "main", icon: "reload" },
  );
  dialog.foot.append(button("Cancel", dialog.close), go);
  go.focus();
  void dialog.closed.then(after);
}

/** @param {Letter} letter @param {() => void} after */
function discard(letter, after) {
  const dialog = openDialog(`Remove dead letter ${letter.letter_id}?`, [
    h("p", { class: "plan" }, "The event and its crash report are gone then. Nobody is told."),
  ]);
  let done = false;
  const go = button(
    "Remove",
    async () => {
      done = await outcome(dialog, "Removing …", () => remove(`${V1}/dead-letters/${letter.letter_id}`));
    },
    { kind: "grave" },
  );
  dialog.foot.append(button("Cancel", dialog.close), go);
  void dialog.closed.then(() => done && after());
}

export class LetterView {
  up = "letters";

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.title = `Dead letter ${id}`;
    this.buttons = h("div", { class: "buttons" });
    this.content = h("div", {}, h("p", { class: "none" }, "Reading …"));
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, back("letters", "the dead letters"), h("h1", {}, this.title), this.buttons),
      this.content,
    );
  }

  start() {
    void this.#read();
  }

  async #read() {
    let letter;
    try {
      letter = await get(`${V1}/dead-letters/${encodeURIComponent(this.id)}`);
    } catch (error) {
      fill(this.buttons);
      return fill(this.content, h("p", { class: "card" }, error instanceof Failure ? error.message : String(error)));
    }
    this.#show(letter);
  }

  /** @param {Letter} letter */
  #show(letter) {
    const { event } = letter;
    const back = () => (location.hash = "letters");
    if (may("operate")) {
      const again = () => void this.#read();
      fill(
        this.buttons,
        button("Remove", () => discard(letter, back)),
        button("Replay", () => replay(letter, again), { kind: "main", icon: "reload" }),
      );
    }
    fill(
      this.content,
      h(
        "div",
        { class: "card" },
        h("p", { class: "lead" }, letter.reason),
        facts([
          ["Event", event.event_name],
          ["From", event.source_id],
          ["Mod", h("a", { href: `#mods/${encodeURIComponent(letter.mod_id)}` }, letter.mod_id)],
          ["Tries", String(letter.attempts)],
          ["Given up", format.time(letter.at)],
          ["Size", format.bytes(letter.size)],
        ]),
        payload(letter),
      ),
      letter.report ? h("h2", { class: "under" }, "The last time that its mod ended") : null,
      letter.report ? crashReport(letter.report, 0) : null,
    );
  }
}

/** @param {Letter} letter */
function payload(letter) {
  if (letter.payloads === false || letter.event.payload === undefined)
    return h("p", { class: "muted" }, "What the event carries is shown to operators with the right read_payloads.");
  return h(
    "div",
    { class: "section" },
    h("h3", {}, "Payload"),
    h("pre", { tabindex: "0", "aria-label": "Payload" }, JSON.stringify(letter.event.payload, null, 2)),
  );
}
