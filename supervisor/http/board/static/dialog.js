/** Dialogs and short notices. The browser's own dialog element keeps the focus inside, and gives it back. */

import { h, say } from "./dom.js";
import { icon } from "./icons.js";

/**
 * Open a dialog.
 *
 * @param {string} title
 * @param {(Node | string)[]} content
 * @param {{wide?: boolean, kind?: string}} [looks]
 * @returns {{element: HTMLDialogElement, body: HTMLElement, foot: HTMLElement, close: () => void, closed: Promise<void>, title: (text: string) => void}}
 */
export function openDialog(title, content, looks = {}) {
  const body = h("div", { class: "dialog-body" }, content);
  const foot = h("div", { class: "dialog-foot" });
  const close = () => element.close();
  const id = `dialog-${Date.now()}`;
  const heading = h("h2", { id }, title);
  const element = h(
    "dialog",
    { class: `dialog ${looks.wide ? "wide" : ""} ${looks.kind ?? ""}`, "aria-labelledby": id },
    h(
      "div",
      { class: "dialog-head" },
      heading,
      h("button", { class: "plain", type: "button", "aria-label": "Close", onclick: close }, icon("close")),
    ),
    body,
    foot,
  );
  /** @type {() => void} */
  let ended = () => {};
  const closed = new Promise((/** @type {(value: void) => void} */ resolve) => (ended = resolve));
  element.addEventListener("close", () => {
    element.remove();
    ended();
  });
  // A press that begins and ends on the backdrop closes it; one that only ends there has selected text.
  element.addEventListener("mousedown", (event) => (element.dataset.outside = String(event.target === element)));
  element.addEventListener("click", (event) => {
    if (event.target === element && element.dataset.outside === "true") close();
  });
  document.body.append(element);
  element.showModal();
  return { element, body, foot, close, closed, title: (text) => void (heading.textContent = text) };
}

/** Whether a dialog is open, which has the keys for itself. */
export function isDialogOpen() {
  return document.querySelector("dialog[open]") !== null;
}

/**
 * Show a short notice, and read it out.
 *
 * @param {string} text
 * @param {"ok" | "bad" | "info"} [kind]
 */
export function notify(text, kind = "ok") {
  let place = document.querySelector(".notices");
  if (place === null) place = document.body.appendChild(h("div", { class: "notices" }));
  const close = () => notice.remove();
  const notice = h(
    "div",
    { class: `notice ${kind}` },
    icon(kind === "bad" ? "warn" : "ok"),
    h("p", {}, text),
    h("button", { class: "plain", type: "button", "aria-label": "Dismiss", onclick: close }, icon("close")),
  );
  place.append(notice);
  say(text);
  setTimeout(close, kind === "bad" ? 15_000 : 6000);
}

/**
 * Make a button.
 *
 * @param {string} text
 * @param {() => void} press
 * @param {{icon?: string, kind?: string, label?: string, disabled?: boolean}} [looks]
 */
export function button(text, press, looks = {}) {
  return h(
    "button",
    {
      type: "button",
      class: `button ${looks.kind ?? ""}`,
      "aria-label": looks.label,
      disabled: looks.disabled,
      onclick: press,
    },
    looks.icon ? icon(looks.icon) : null,
    h("span", {}, text),
  );
}
