/** Load a mod: choose one of those that there are, say its config, and see what came of it. */

import { outcome } from "./actions.js";
import { Failure, get, post, V1 } from "./api.js";
import { button, openDialog } from "./dialog.js";
import { afterTyping, fill, h, setText } from "./dom.js";
import { icon } from "./icons.js";
import { live } from "./live.js";
import { configForm } from "./schema_form.js";

/**
 * @typedef {object} Available
 * @property {string} name
 * @property {string} mod_path
 * @property {string} source
 * @property {string} where
 * @property {string[]} versions
 * @property {string} description
 * @property {string[]} requires
 * @property {string | null} error
 * @property {string[]} loaded
 * @property {Record<string, any> | null} [config_schema]
 */

export async function openLoadDialog() {
  const dialog = openDialog(
    "Load a mod",
    [h("p", { class: "doing" }, h("span", { class: "spinner" }), "Looking for mods …")],
    { wide: true },
  );
  try {
    const { mods } = await get(`${V1}/mods/available`);
    choose(dialog, mods);
  } catch (error) {
    fill(dialog.body, h("p", {}, error instanceof Failure ? error.message : String(error)));
  }
}

/** @param {ReturnType<typeof openDialog>} dialog @param {Available[]} mods */
function choose(dialog, mods) {
  const list = h("ul", { class: "picker" });
  const search = h("input", {
    type: "search",
    class: "search-input",
    placeholder: "Filter, or type a path",
    "aria-label": "Filter mods, or type a path",
    autocomplete: "off",
  });
  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    // What is not loaded is what one looks for.
    const ready = [...mods].sort((one, other) => one.loaded.length - other.loaded.length);
    const found = ready.filter((mod) =>
      `${mod.name} ${mod.mod_path} ${mod.description}`.toLowerCase().includes(wanted),
    );
    const typed = search.value.trim();
    const own = typed !== "" && !mods.some((mod) => mod.mod_path === typed);
    fill(
      list,
      found.map((mod) => entry(dialog, mod)),
      own ? pathEntry(dialog, typed) : null,
    );
  };
  search.addEventListener("input", afterTyping(draw, 60));
  fill(dialog.body, h("div", { class: "search" }, icon("search"), search), list);
  draw();
  search.focus();
}

/** @param {ReturnType<typeof openDialog>} dialog @param {Available} mod */
function entry(dialog, mod) {
  const parts = [mod.versions[0], mod.source, mod.requires.length ? `needs ${mod.requires.join(", ")}` : null].filter(
    Boolean,
  );
  return h(
    "li",
    {},
    h(
      "button",
      { type: "button", class: "pick", disabled: mod.error !== null, onclick: () => describe(dialog, mod) },
      h(
        "span",
        { class: "pick-name" },
        h("b", {}, mod.name),
        mod.loaded.length ? h("span", { class: "badge ok" }, "loaded") : null,
      ),
      h("span", {}, mod.error ?? (mod.description || mod.mod_path)),
      h("small", {}, parts.join(" · ")),
    ),
  );
}

/** @param {ReturnType<typeof openDialog>} dialog @param {string} path */
function pathEntry(dialog, path) {
  /** @type {Available} */
  const mod = {
    name: path,
    mod_path: path,
    source: "",
    where: "",
    versions: [],
    description: "",
    requires: [],
    error: null,
    loaded: [],
  };
  return h(
    "li",
    {},
    h(
      "button",
      { type: "button", class: "pick", onclick: () => describe(dialog, mod) },
      h("b", {}, `Load from ${path}`),
      h("span", {}, "A path that you typed."),
    ),
  );
}

/** @param {ReturnType<typeof openDialog>} dialog @param {Available} mod */
function describe(dialog, mod) {
  const config = configForm(mod.config_schema ?? null);
  const id = h("input", { name: "id", placeholder: freeId(mod), autocomplete: "off", pattern: "[A-Za-z0-9_.@\\-]+" });
  const problem = h("p", { class: "login-problem", role: "alert" });
  const form = h(
    "form",
    { class: "fields" },
    h("p", { class: "plan" }, planOf(mod)),
    h(
      "label",
      { class: "field" },
      h("span", {}, "Id"),
      id,
      h("small", {}, "What agents and other mods call it. Empty: as the mod says."),
    ),
    h("div", { class: "section" }, h("h3", {}, "Config"), config.node),
    problem,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    let said;
    try {
      said = config.read();
    } catch (error) {
      return setText(problem, error instanceof Error ? error.message : String(error));
    }
    void outcome(dialog, `Loading ${mod.name} …`, () => post(`${V1}/mods`, body(mod, id.value.trim(), said)));
  });
  fill(dialog.body, form);
  dialog.title(`Load ${mod.name}`);
  const go = button("Load", () => form.requestSubmit(), { kind: "main", icon: "plus" });
  fill(
    dialog.foot,
    button("Other mod", () => void again(dialog)),
    go,
  );
  /** @type {HTMLElement | null} */ (form.querySelector("input, textarea, select"))?.focus();
}

/** @param {ReturnType<typeof openDialog>} dialog */
async function again(dialog) {
  fill(dialog.foot);
  dialog.title("Load a mod");
  choose(dialog, (await get(`${V1}/mods/available`)).mods);
}

/** @param {Available} mod @param {string} id @param {any} config */
function body(mod, id, config) {
  /** @type {Record<string, any>} */
  const said = { path: mod.mod_path };
  if (id !== "") said.id = id;
  if (config !== undefined && Object.keys(config).length) said.config = config;
  return said;
}

/** @param {Available} mod */
function planOf(mod) {
  const missing = mod.requires.filter((each) => !live.row(/** @type {string} */ (each.split(/[\s<>=!~]/)[0])));
  const first = `Starts a process for ${mod.name} and gives it the events that it handles.`;
  return missing.length
    ? `${first} It needs ${missing.join(", ")}, which will be loaded as well if the network knows where it is.`
    : first;
}

/** @param {Available} mod */
function freeId(mod) {
  return live.row(mod.name) ? `${mod.name} is taken: choose another id` : mod.name;
}
