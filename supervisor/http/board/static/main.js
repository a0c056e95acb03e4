/** Where the page begins: who is there, and which view the address names. */

import { login, logout, resume, whenSignedOut } from "./api.js";
import { fill, h, say } from "./dom.js";
import { bindKeys } from "./keys.js";
import { live } from "./live.js";
import { loginForm } from "./login.js";
import { ModsView } from "./mods_view.js";
import { Shell } from "./shell.js";

/**
 * @typedef {object} View one page of the dashboard
 * @property {string} title
 * @property {HTMLElement} element
 * @property {(scroller: HTMLElement) => void} [start]
 * @property {() => void} [stop]
 * @property {(by: number) => void} [move] what j and k do
 * @property {() => HTMLInputElement | null} [filter] what "/" puts the cursor into
 * @property {() => boolean} [restore] put the focus where it was before; false if it cannot
 * @property {string} [up] the address that Esc leads to
 */

/** @type {Record<string, (rest: string[]) => View | Promise<View>>} */
const VIEWS = {
  mods: async ([id, part]) =>
    id === undefined ? new ModsView() : new (await import("./mod_view.js")).ModView(id, part),
  events: async ([id]) => {
    const views = await import("./events_view.js");
    return id === undefined ? new views.EventsView() : new (await import("./event_view.js")).EventView(id);
  },
  letters: async ([id]) => {
    const views = await import("./letters_view.js");
    return id === undefined ? new views.LettersView() : new views.LetterView(id);
  },
  agents: async ([id]) => {
    const views = await import("./agents_view.js");
    return id === undefined ? new views.AgentsView() : new views.AgentView(id);
  },
  channels: async () => new (await import("./channels_view.js")).ChannelsView(),
  audit: async () => new (await import("./audit_view.js")).AuditView(),
  picture: async () => new (await import("./picture_view.js")).PictureView(),
};

const HOUR = 3_600_000; // milliseconds; a session ends some hours after the last request, and a stream is none

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
/** @type {Shell | null} */
let shell = null;
/** @type {View | null} */
let view = null;
let routes = 0;
let kept = 0;

async function begin() {
  whenSignedOut(() => signIn("Your session has ended. Please log in again."));
  const link = new URLSearchParams(location.hash.slice(1)).get("link");
  if (link !== null) {
    // The code is used up by this, and must not stay in the address.
    history.replaceState(null, "", "#mods");
    try {
      await login({ link });
      return enter();
    } catch (error) {
      return signIn(`This link cannot be used: ${error instanceof Error ? error.message : error}`);
    }
  }
  const known = await resume().catch(() => false);
  if (known) enter();
  else signIn("");
}

/** @param {string} why */
function signIn(why) {
  clearInterval(kept);
  live.stop();
  view?.stop?.();
  view = null;
  shell?.stop();
  shell = null;
  document.title = "Log in · modvisor";
  fill(app, loginForm(why, enter));
  /** @type {HTMLInputElement | null} */ (app.querySelector("input"))?.focus();
}

function enter() {
  shell = new Shell(async () => {
    await logout();
    signIn("");
  });
  fill(app, shell.element);
  clearInterval(kept);
  kept = setInterval(() => void resume(), HOUR);
  live.start();
  shell.start();
  void route();
}

async function route() {
  if (shell === null) return;
  const parts = location.hash.slice(1).split("/").map(decode);
  const name = /** @type {string} */ (parts[0] && parts[0] in VIEWS ? parts[0] : "mods");
  const turn = ++routes;
  const made = await /** @type {(rest: string[]) => View | Promise<View>} */ (VIEWS[name])(
    parts.slice(1).filter(Boolean),
  );
  if (turn !== routes || shell === null) return; // another address was chosen meanwhile
  const first = view === null;
  view?.stop?.();
  view = made;
  shell.show(name, made.element);
  made.start?.(shell.main);
  const network = live.network?.name;
  document.title = `${made.title} · ${network ?? "modvisor"}`;
  if (!first) settle(made);
}

/** Put the focus where someone without a mouse goes on. @param {View} made */
function settle(made) {
  say(made.title);
  if (made.restore?.()) return;
  const title = made.element.querySelector("h1");
  title?.setAttribute("tabindex", "-1");
  /** @type {HTMLElement | null} */ (title)?.focus({ preventScroll: true });
}

/** @param {string} part */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // an address that someone typed
  }
}

window.addEventListener("hashchange", () => void route());
bindKeys(() => view);
void begin().catch((error) => fill(app, h("p", { class: "splash" }, String(error))));
