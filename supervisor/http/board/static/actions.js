/** What an operator can do to a mod: each first says what it will do, then what happened. */

import { Failure, get, may, modPath, post, remove, V1 } from "./api.js";
import { button, openDialog } from "./dialog.js";
import { fill, h, say, setText } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @typedef {object} Plan what the network says that an action will do
 * @property {string} text
 * @property {string[]} affected
 */

/**
 * @typedef {object} Action
 * @property {string} title
 * @property {string} icon
 * @property {"operate" | "admin"} scope
 * @property {boolean} [grave] it takes something away
 * @property {string} hint
 * @property {(id: string, form: FormData, more: Record<string, any>) => Promise<import("./api.js").Answer>} run
 * @property {(plan: Plan) => Node[]} [fields]
 * @property {(id: string) => Promise<{element: HTMLElement, read: () => Record<string, any>}>} [more] what an admin may say besides
 */

/** @type {Record<string, Action>} */
export const ACTIONS = {
  reload: {
    title: "Reload",
    icon: "reload",
    scope: "operate",
    hint: "Replace it by itself with fresh code",
    run: (id, _, more) => post(modPath(id, "/reload"), more),
    more: async (id) => {
      const [mod, { mods }] = await Promise.all([get(modPath(id)), get(`${V1}/mods/available`)]);
      return new (await import("./reload_form.js")).ReloadForm(mod, mods);
    },
  },
  restart: {
    title: "Restart",
    icon: "restart",
    scope: "operate",
    hint: "Start a new process of its last good version",
    run: (id) => post(modPath(id, "/restart")),
  },
  swap: {
    title: "Swap",
    icon: "swap",
    scope: "admin",
    hint: "Replace it by another mod",
    run: (id, form) =>
      post(modPath(id, "/swap"), { path: String(form.get("path")), alias: form.get("alias") === "on" }),
    fields: () => [
      h(
        "label",
        { class: "field" },
        h("span", {}, "Path of the other mod"),
        h("input", { name: "path", required: true, placeholder: "./wiki2", autocomplete: "off" }),
      ),
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", name: "alias" }),
        h("span", {}, "The old id names the new mod, too"),
      ),
    ],
  },
  promote: {
    title: "Promote",
    icon: "up",
    scope: "operate",
    hint: "Give this version the events of all sources",
    run: (id) => post(modPath(id, "/promote")),
  },
  rollback: {
    title: "Roll back",
    icon: "undo",
    scope: "operate",
    hint: "Undo the last promotion",
    run: (id) => post(modPath(id, "/rollback")),
  },
  unload: {
    title: "Unload",
    icon: "unload",
    scope: "operate",
    grave: true,
    hint: "End its process and take it out of the network",
    run: (id, form) => remove(modPath(id, form.get("cascade") === "on" ? "?cascade=1" : "")),
    fields: (plan) =>
      plan.affected.length === 0
        ? []
        : [
            h(
              "label",
              { class: "check" },
              h("input", { type: "checkbox", name: "cascade" }),
              h("span", {}, `Unload ${plan.affected.join(", ")} first`),
            ),
          ],
  },
};

/**
 * Make the button of an action, if this operator may do it.
 *
 * @param {string} name
 * @param {string} id of the mod
 * @param {string} [kind] how it looks
 * @returns {HTMLButtonElement | null}
 */
export function actionButton(name, id, kind = "") {
  const action = ACTIONS[name];
  if (action === undefined || !may(action.scope)) return null;
  return button(action.title, () => void ask(name, id), {
    icon: action.icon,
    kind,
    label: `${action.title} mod ${id}`,
  });
}

/**
 * Say what an action will do, and do it if the operator wants to.
 *
 * @param {string} name
 * @param {string} id
 */
export async function ask(name, id) {
  const action = /** @type {Action} */ (ACTIONS[name]);
  const said = h("p", { class: "plan", "aria-live": "polite" }, "Asking the network what this will do …");
  const form = h("form", { class: "fields", method: "dialog" });
  const problem = h("p", { class: "login-problem", role: "alert" });
  /** @type {{element: HTMLElement, read: () => Record<string, any>} | null} */
  let more = null;
  const dialog = openDialog(`${action.title} ${id}?`, [said, form]);
  const go = button(action.title, () => form.requestSubmit(), {
    kind: action.grave ? "grave" : "main",
    icon: action.icon,
  });
  dialog.foot.append(button("Cancel", dialog.close), go);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    try {
      void run(action, id, dialog, form, more?.read() ?? {});
    } catch (error) {
      setText(problem, error instanceof Error ? error.message : String(error));
    }
  });
  /** @type {Plan} */
  let plan = { text: `${action.hint}.`, affected: [] };
  try {
    plan = await get(modPath(id, `/plan?do=${name}`));
  } catch (error) {
    plan = { text: `${action.hint}. ${error instanceof Failure ? error.message : ""}`, affected: [] };
  }
  const text = plan.text.charAt(0).toUpperCase() + plan.text.slice(1);
  fill(said, ...text.split("\n").flatMap((line, index) => (index ? [h("br"), line] : [line])));
  form.append(...(action.fields?.(plan) ?? []));
  if (action.more && may("admin")) {
    more = await action.more(id).catch(() => null); // without it the action is done as ever
    if (more !== null) form.append(more.element, problem);
  }
  (more === null ? (form.querySelector("input") ?? go) : go).focus();
}

/**
 * @param {Action} action
 * @param {string} id
 * @param {ReturnType<typeof openDialog>} dialog
 * @param {HTMLFormElement} form
 * @param {Record<string, any>} more
 */
async function run(action, id, dialog, form, more) {
  await outcome(dialog, `${action.title} ${id} …`, () => action.run(id, new FormData(form), more));
}

/**
 * Do what a dialog asks for, and show in it what happened.
 *
 * @param {ReturnType<typeof openDialog>} dialog
 * @param {string} doing
 * @param {() => Promise<import("./api.js").Answer>} work
 * @returns {Promise<boolean>} whether it was done
 */
export async function outcome(dialog, doing, work) {
  const bars = h("ul", { class: "under-way", "aria-label": "How far it is" });
  fill(dialog.body, h("p", { class: "doing" }, h("span", { class: "spinner", "aria-hidden": "true" }), doing), bars);
  const end = followed(bars);
  fill(dialog.foot);
  say(doing);
  let [done, text] = [false, ""];
  try {
    const answer = await work();
    [done, text] = [answer.success !== false, answer.message ?? "Done."];
  } catch (error) {
    text = error instanceof Failure ? error.message : String(error);
  } finally {
    end();
  }
  fill(
    dialog.body,
    h("p", { class: `outcome ${done ? "ok" : "bad"}` }, icon(done ? "ok" : "warn"), h("span", {}, text)),
  );
  const close = button("Close", dialog.close, { kind: "main" });
  fill(dialog.foot, close);
  close.focus();
  say(text);
  return done;
}

const ASKED_EVERY = 300; // milliseconds

/**
 * Show how far the requests are that have begun since now, as the network counts them.
 *
 * @param {HTMLElement} list
 * @returns {() => void} ends it
 */
function followed(list) {
  const began = performance.now();
  const timer = setInterval(async () => {
    const found = await get(`${V1}/progress`).catch(() => null);
    if (found === null || !list.isConnected) return;
    const seconds = (performance.now() - began) / 1000;
    const works = found.under_way.filter((/** @type {any} */ work) => work.stage && work.seconds <= seconds);
    fill(list, works.map(bar));
  }, ASKED_EVERY);
  return () => clearInterval(timer);
}

/** @param {{stage: string, done: number, total: number | null}} work */
function bar(work) {
  const counted = work.total === null ? {} : { max: work.total, value: work.done };
  return h("li", {}, h("progress", { ...counted, "aria-label": work.stage }), h("span", {}, work.stage));
}
