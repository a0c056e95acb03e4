/** Parts of a mod's page: why its processes ended, and what holds it. */

import { Failure, get, me, V1 } from "./api.js";
import { fill, h } from "./dom.js";
import * as format from "./format.js";
import { lineOf } from "./log_part.js";
import { live } from "./live.js";

/** @type {Record<string, string>} */
const CAUSES = {
  exited: "It exited",
  signal: "It was killed by a signal",
  out_of_memory: "It ran out of memory",
  hang: "It hung",
  stopped: "It was stopped",
  protocol_violation: "It broke the protocol",
  limit_hit: "It reached a limit",
  start_failure: "It did not start",
  lease_lost: "Its node lost its lease",
};

export class CrashesPart {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.list = h("div", { class: "crashes" }, h("p", { class: "none" }, "Reading …"));
    this.element = h("section", { class: "part" }, this.list);
    this.key = "";
  }

  /** Look again whenever the page does: a report comes when a process ends. */
  async show() {
    let crashes;
    try {
      ({ crashes } = await get(`${V1}/crashes?mod=${encodeURIComponent(this.id)}`));
    } catch (error) {
      return fill(this.list, h("p", { class: "none" }, error instanceof Failure ? error.message : String(error)));
    }
    const key = crashes.map((/** @type {any} */ crash) => `${crash.at}`).join();
    if (key === this.key && key !== "") return;
    this.key = key;
    if (crashes.length === 0)
      return fill(this.list, h("p", { class: "none" }, "No process of this mod has ended without being asked to."));
    fill(this.list, crashes.reverse().map(crashReport));
  }
}

/**
 * @param {any} crash a crash report, as the network tells it
 * @param {number} index the first one is open
 */
export function crashReport(crash, index) {
  const head = h(
    "summary",
    {},
    h("span", { class: "badge bad" }, crash.cause.replaceAll("_", " ")),
    h("b", {}, isShort(crash.detail) ? sentence(crash.detail) : (CAUSES[crash.cause] ?? crash.cause)),
    crash.trial ? h("span", { class: "badge" }, "trial process") : null,
    crash.node ? h("span", { class: "badge" }, `on ${crash.node}`) : null,
    h("span", { class: "muted" }, `${format.time(crash.at)}, after ${format.duration(crash.uptime)}`),
  );
  return h(
    "details",
    { class: "crash card", open: index === 0 },
    head,
    isShort(crash.detail) ? null : h("p", { class: "crash-detail" }, crash.detail),
    crash.traceback
      ? section("Stack", h("pre", { tabindex: "0", "aria-label": "Stack" }, crash.traceback.trimEnd()))
      : null,
    crash.log?.length
      ? section("Last words", h("div", { class: "log short", tabindex: "0" }, crash.log.slice(-12).map(lineOf)))
      : null,
    handled(crash),
    section("Process", facts(processFacts(crash))),
  );
}

/** @param {string} text */
function isShort(text) {
  return text.length <= 90 && !text.includes("\n");
}

/** @param {string} text */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {any} crash */
function handled(crash) {
  if (!crash.in_flight_count) return null;
  const running = new Set((crash.running ?? []).map(eventId));
  const rows = (crash.in_flight ?? []).slice(0, 20).map((/** @type {any} */ event) => {
    const id = eventId(event);
    /** @type {Node[]} */
    const parts = [h("a", { href: `#events/${encodeURIComponent(id)}` }, event.event_name ?? id)];
    if (event.source_id) parts.push(h("span", { class: "muted" }, ` from ${event.source_id} `));
    if (running.has(id)) parts.push(h("span", { class: "badge warn" }, "its handler ran"));
    return h("li", {}, parts);
  });
  return section(`What it was handling (${crash.in_flight_count})`, h("ul", { class: "handled" }, rows));
}

/** @param {any} event @returns {string} */
function eventId(event) {
  return typeof event === "string" ? event : event.event_id;
}

/** @param {any} crash @returns {[string, string][]} */
function processFacts(crash) {
  const used = crash.resources ?? {};
  return [
    ["Version", crash.version ?? format.NONE],
    ["Pid", String(crash.pid)],
    ["Memory", format.bytes(used.rss ?? crash.usage?.max_rss)],
    ["Threads", format.count(used.threads)],
    ["Open files", format.count(used.open_files)],
    ["Processor time", crash.usage ? `${crash.usage.cpu_seconds.toFixed(1)} s` : format.NONE],
  ];
}

/** @param {string} title @param {Node} content */
export function section(title, content) {
  return h("div", { class: "section" }, h("h3", {}, title), content);
}

/** @param {[string, string | Node][]} pairs */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

export class LimitsPart {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.element = h("section", { class: "part cards" }, h("p", { class: "none" }, "Reading …"));
    this.key = "";
  }

  /** @param {any} mod */
  show(mod) {
    const key = JSON.stringify(mod);
    if (key === this.key) return;
    this.key = key;
    if (mod === null) return fill(this.element, h("p", { class: "none" }, "This mod is not loaded."));
    fill(this.element, limitsCard(mod), sandboxCard(mod), stateCard(mod), configCard(mod));
  }
}

/** @param {any} mod */
function limitsCard(mod) {
  const limits = Object.entries(mod.limits ?? {});
  const free = limits.filter(([, { limit }]) => limit === null).map(([name]) => name.replaceAll("_", " "));
  const rows = limits
    .filter(([, { limit }]) => limit !== null)
    .map(([name, { limit, enforced_by }]) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, name.replaceAll("_", " ")),
        h("td", {}, limitText(name, limit)),
        h(
          "td",
          { class: enforced_by ? "muted" : "warn-text" },
          enforced_by ? `by ${enforced_by}` : "held by nothing here",
        ),
      ),
    );
  return h(
    "div",
    { class: "card" },
    h("h2", {}, "Limits"),
    h("table", { class: "plain-table" }, h("tbody", {}, rows)),
    free.length ? h("p", { class: "muted under-table" }, `Not limited: ${free.join(", ")}.`) : null,
  );
}

/** @param {string} name @param {any} limit */
function limitText(name, limit) {
  if (typeof limit !== "number") return typeof limit === "object" ? JSON.stringify(limit) : String(limit);
  if (name === "cpu_seconds") return format.duration(limit);
  if (/memory|disk/.test(name)) return format.bytes(limit);
  return name === "cpu" ? format.plural(limit, "core") : format.count(limit);
}

/** @param {any} mod */
function sandboxCard(mod) {
  const sandbox = mod.sandbox;
  if (!sandbox)
    return h("div", { class: "card" }, h("h2", {}, "Sandbox"), h("p", { class: "muted" }, "No process runs now."));
  const held = Object.entries(sandbox.enforced_by ?? {}).map(([part, means]) => row(part, "ok", `by ${means}`));
  const not = Object.entries(sandbox.not_enforced ?? {}).map(([part, why]) => row(part, "warn", String(why)));
  return h(
    "div",
    { class: "card" },
    h("h2", {}, "Sandbox ", h("span", { class: "badge accent" }, sandbox.profile)),
    held.length + not.length
      ? h("table", { class: "plain-table" }, h("tbody", {}, held, not))
      : h("p", { class: "muted" }, "Nothing confines it."),
  );
}

/** @param {string} part @param {string} kind @param {string} text */
function row(part, kind, text) {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, part.replaceAll("_", " ")),
    h("td", { class: kind === "ok" ? "muted" : "warn-text" }, text),
  );
}

/** @param {any} mod */
function stateCard(mod) {
  const used = mod.resources ?? {};
  const now = live.row(mod.mod_id);
  return h(
    "div",
    { class: "card" },
    h("h2", {}, "What it has and uses"),
    facts([
      ["Storage", format.bytes(mod.storage_bytes)],
      [
        "Checkpoint",
        mod.checkpoint ? `${format.bytes(mod.checkpoint.bytes)}, ${format.ago(mod.checkpoint.at)}` : "none",
      ],
      ["Unique memory (uss)", format.bytes(used.uss)],
      ["Threads", format.count(used.threads)],
      ["Open files", format.count(used.open_files)],
      ["Children", format.count(used.children)],
      ["Read", format.bytes(used.read_bytes)],
      ["Written", format.bytes(used.write_bytes)],
      ["Restarts", format.count(now?.restarts ?? mod.restarts)],
      ["Required by", mod.required_by?.length ? mod.required_by.join(", ") : "no other mod"],
      ...(mod.mixed ? [/** @type {[string, string]} */ (["Code", mod.mixed])] : []),
    ]),
  );
}

/** @param {any} mod */
function configCard(mod) {
  const config = mod.config ?? {};
  const empty = Object.keys(config).length === 0;
  return h(
    "div",
    { class: "card" },
    h("h2", {}, "Config"),
    empty
      ? h("p", { class: "muted" }, "None: it runs with its defaults.")
      : h("pre", { tabindex: "0" }, JSON.stringify(config, null, 2)),
    me().scope === "admin" ? null : h("p", { class: "muted" }, "Secrets are shown as ***."),
  );
}
