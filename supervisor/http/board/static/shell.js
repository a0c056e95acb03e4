/** What stands around every view: where one is, where one can go, who one is. */

import { me } from "./api.js";
import { h, setAttribute, setText } from "./dom.js";
import { inFrame } from "./frames.js";
import * as format from "./format.js";
import { icon } from "./icons.js";
import { help } from "./keys.js";
import { live } from "./live.js";
import { problemsOf } from "./problems.js";
import { forgetPalette } from "./spark.js";

const PLACES = [
  ["mods", "Mods"],
  ["events", "Events"],
  ["letters", "Letters"],
  ["agents", "Agents"],
  ["channels", "Channels"],
  ["audit", "Audit"],
  ["picture", "Picture"],
];

const THEMES = ["auto", "light", "dark"];

export class Shell {
  /** @param {() => void} onLogout */
  constructor(onLogout) {
    /** @type {Map<string, {link: HTMLElement, mark: HTMLElement}>} */
    this.places = new Map();
    this.name = h("span", { class: "network-name" }, me().network);
    this.pulse = h("span", { class: "pulse", "aria-hidden": "true" });
    this.version = h("span", { class: "network-version" }, `modvisor ${me().version}`);
    this.broken = h("div", { class: "broken", role: "alert", hidden: true });
    this.main = h("main", { class: "scroller", id: "main", tabindex: "-1" });
    this.theme = h("button", { class: "plain", type: "button", onclick: () => this.#turnTheme() });
    this.element = h(
      "div",
      { class: "shell" },
      h(
        "a",
        { class: "skip", href: "#main", onclick: (/** @type {Event} */ event) => this.#skip(event) },
        "Skip to content",
      ),
      h(
        "header",
        { class: "side" },
        h(
          "a",
          { class: "network", href: "#mods" },
          h("span", { class: "mark", "aria-hidden": "true" }),
          h("span", { class: "names" }, this.name, this.version),
        ),
        h(
          "nav",
          { "aria-label": "Views" },
          h(
            "ul",
            {},
            PLACES.map(([id, title]) => this.#place(/** @type {string} */ (id), /** @type {string} */ (title))),
          ),
        ),
        h(
          "div",
          { class: "who" },
          h(
            "span",
            { class: "who-name", title: `${me().who}, scope ${me().scope}` },
            h("b", {}, shortWho(me().who)),
            h("small", {}, scopeText()),
          ),
          this.theme,
          h(
            "button",
            { class: "plain", type: "button", "aria-label": "Keys", title: "Keys (?)", onclick: help },
            icon("help"),
          ),
          h(
            "button",
            { class: "plain", type: "button", "aria-label": "Log out", title: "Log out", onclick: onLogout },
            icon("out"),
          ),
        ),
      ),
      h("div", { class: "stage" }, this.broken, this.main),
    );
    this.#showTheme();
  }

  start() {
    this.end = live.on(() => inFrame(this, () => this.#show()));
  }

  stop() {
    this.end?.();
  }

  /** @param {string} place @param {HTMLElement} element */
  show(place, element) {
    for (const [id, { link }] of this.places) setAttribute(link, "aria-current", id === place ? "page" : null);
    this.main.replaceChildren(element);
    this.main.scrollTop = 0;
  }

  /** @param {string} id @param {string} title */
  #place(id, title) {
    const mark = h("span", { class: "count" });
    const link = h("a", { href: `#${id}`, class: "place" }, icon(id), h("span", { class: "place-name" }, title), mark);
    this.places.set(id, { link, mark });
    return h("li", {}, link);
  }

  #show() {
    const network = live.network;
    if (network === null) return;
    setText(this.name, network.name);
    setText(this.version, `modvisor ${network.version}`);
    const problems = problemsOf(live.rows());
    const bad = problems.some((problem) => problem.tone === "bad");
    this.#mark(
      "mods",
      problems.length,
      bad ? "bad" : "warn",
      format.plural(problems.length, "mod needs", "mods need") + " a look",
    );
    this.#mark("letters", network.dead_letters ?? 0, "bad", format.plural(network.dead_letters ?? 0, "dead letter"));
    this.#mark("agents", agents(network), "", "agents");
    this.broken.hidden = live.problem === null;
    setText(this.broken, live.problem === null ? "" : `No figures since a moment: ${live.problem}. Trying again …`);
  }

  /** @param {string} id @param {number} count @param {string} kind @param {string} label */
  #mark(id, count, kind, label) {
    const mark = this.places.get(id)?.mark;
    if (mark === undefined) return;
    setText(mark, count > 0 ? format.count(count) : "");
    setAttribute(mark, "class", `count ${kind}`);
    setAttribute(mark, "title", label);
  }

  /** @param {Event} event */
  #skip(event) {
    event.preventDefault();
    this.main.focus();
  }

  #turnTheme() {
    const now = document.documentElement.dataset.theme ?? "auto";
    const next = /** @type {string} */ (THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("modvisor.theme", next);
    } catch {
      // Storage may be forbidden. Then the theme holds for this page.
    }
    forgetPalette();
    this.#showTheme();
  }

  #showTheme() {
    const now = document.documentElement.dataset.theme ?? "auto";
    const text = now === "auto" ? "Theme: as the system's" : `Theme: ${now}`;
    this.theme.replaceChildren(icon(now));
    this.theme.title = text;
    this.theme.setAttribute("aria-label", text);
  }
}

function scopeText() {
  const { scope, payloads } = me();
  return scope === "read" ? `read only${payloads ? ", payloads" : ""}` : scope;
}

/** @param {string} who such as `operator:alice`, `link of socket:uid 0 pid 7` */
function shortWho(who) {
  return who.startsWith("link of ") ? "by link" : who.replace(/^operator:/, "");
}

/** @param {any} network */
function agents(network) {
  return typeof network.agents === "number" ? network.agents : (network.agents?.count ?? 0);
}
