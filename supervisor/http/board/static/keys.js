/** What keys do. A key does nothing while someone types, or while a dialog is open. */

import { isDialogOpen, openDialog } from "./dialog.js";
import { h } from "./dom.js";

/** @typedef {import("./main.js").View} View */

/** @type {Record<string, string>} */
const PLACES = { m: "mods", e: "events", d: "letters", a: "agents", c: "channels", u: "audit", p: "picture" };

const HELP = [
  ["/", "filter"],
  ["j, k", "next row, previous row"],
  ["Enter", "open the row"],
  ["Esc", "leave the filter; back to the list"],
  ["g, then m e d a c u p", "go to mods, events, dead letters, agents, channels, audit, picture"],
  ["?", "this help"],
];

let going = 0; // until when a letter after "g" names a place

/** @param {() => View | null} current */
export function bindKeys(current) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isDialogOpen()) return;
    const view = current();
    if (view === null) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") leave(/** @type {HTMLInputElement} */ (event.target), view);
      return;
    }
    if (act(event.key, view)) event.preventDefault();
  });
}

/** @param {string} key @param {View} view @returns {boolean} whether it means something */
function act(key, view) {
  const place = PLACES[key];
  if (performance.now() < going && place !== undefined) {
    going = 0;
    location.hash = place;
    return true;
  }
  switch (key) {
    case "g":
      going = performance.now() + 1500;
      return true;
    case "/":
      view.filter?.()?.focus();
      view.filter?.()?.select();
      return true;
    case "j":
    case "k":
      view.move?.(key === "j" ? 1 : -1);
      return view.move !== undefined;
    case "?":
      help();
      return true;
    case "Escape":
      if (view.up !== undefined) location.hash = view.up;
      return view.up !== undefined;
    default:
      return false;
  }
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["range", "checkbox", "radio", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

/** @param {HTMLInputElement} input @param {View} view */
function leave(input, view) {
  if (input === view.filter?.() && input.value !== "") {
    input.value = "";
    input.dispatchEvent(new Event("input"));
  }
  input.blur();
}

export function help() {
  const rows = HELP.map(([keys, what]) => h("div", {}, h("dt", {}, keys), h("dd", {}, what)));
  openDialog("Keys", [h("dl", { class: "keys" }, rows)]);
}
