/** Icons, drawn in a square of 20 with round lines. They say nothing to a screen reader: their button or link does. */

import { h, svg } from "./dom.js";

/** @type {Record<string, string>} */
const PATHS = {
  mods: "M3.5 5.5h13v3.5h-13zM3.5 11.5h13v3.5h-13zM6 7.25h.01M6 13.25h.01",
  events: "M2.5 10h3l2.5-6 4 12 2.5-6h3",
  letters: "M3 5.5h14v9.5H3zM3 6l7 5.5L17 6",
  agents: "M10 9.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM4 16.5c.6-3.4 3-5 6-5s5.4 1.6 6 5",
  channels: "M7.5 3.5 6 16.5M14 3.5l-1.5 13M3.5 7.5h13.5M3 12.5h13.5",
  audit: "M5 3h7l3.5 3.5V17H5zM12 3v4h3.5M7.5 10.5h5M7.5 13.5h5",
  picture:
    "M6.5 10h3M11.5 9l3-3M11.5 11l3 3M4.5 11.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM10.5 11.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM16 6.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM16 16.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3z",
  light:
    "M10 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1",
  dark: "M16.5 11.8A7 7 0 0 1 8.2 3.5a7 7 0 1 0 8.3 8.3z",
  auto: "M3 4.5h14v9H3zM7.5 17h5M10 13.5V17",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M10 14.5h.01M10 18a8 8 0 1 0 0-16 8 8 0 0 0 0 16z",
  out: "M8 3.5H4v13h4M8.5 10H17M13.5 6.5 17 10l-3.5 3.5",
  search: "M8.5 14a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM12.5 12.5 17 17",
  plus: "M10 4v12M4 10h12",
  close: "M5 5l10 10M15 5 5 15",
  back: "M12 4.5 6.5 10l5.5 5.5",
  next: "M8 4.5l5.5 5.5L8 15.5",
  reload: "M16 8.5A6.5 6.5 0 0 0 4.3 6.7M4 11.5a6.5 6.5 0 0 0 11.7 1.8M4 3.5v3.5h3.5M16 16.5V13h-3.5",
  restart: "M10 2.5v6M6 4.8a6.5 6.5 0 1 0 8 0",
  unload: "M4 16h12M10 12.5 4.5 8h11z",
  swap: "M4 7h11l-3-3M16 13H5l3 3",
  pause: "M7 4.5v11M13 4.5v11",
  play: "M6.5 4.5 15 10l-8.5 5.5z",
  warn: "M10 3 2.5 16.5h15zM10 8.5v3.5M10 14.3h.01",
  ok: "M4 10.5 8.5 15 16 6",
  up: "M10 16V4.5M5 9l5-5 5 5",
  undo: "M4 8h8a4.5 4.5 0 0 1 0 9H8M4 8l3.5-3.5M4 8l3.5 3.5",
};

/**
 * @param {string} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: PATHS[name] ?? "" }),
  );
}

/**
 * Make the link from the page of one thing back to the view that lists it.
 * @param {string} view
 * @param {string} words what the view lists, as in "the agents"
 */
export function back(view, words) {
  return h("a", { class: "plain", href: `#${view}`, "aria-label": `Back to ${words}` }, icon("back"));
}
