/** One event's way through the mods, with the events that it caused: who was asked, when, for how long, and what came of it. */

import { Failure, get, V1 } from "./api.js";
import { fill, h } from "./dom.js";
import * as format from "./format.js";
import { outcomeOf } from "./events_view.js";
import { back } from "./icons.js";
import { facts } from "./mod_parts.js";

/** @typedef {{mod: string, began_at: number, ms: number | null, outcome: string, error: string | null}} Step */
/** @typedef {{event: any, steps: Step[], caused: string[], cause: string | null}} Way */
/** @typedef {{way: Way, depth: number}} Leg */

/** @type {Record<string, string>} */
const OUTCOMES = { answered: "ok", accepted: "ok", failed: "bad", timeout: "bad", away: "warn", overloaded: "warn" };

const MOST = 30; // events that are shown as caused by one, over all its generations
const DEEPEST = 4;

export class EventView {
  up = "events";

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.title = "Event";
    this.heading = h("h1", {}, "Event");
    this.content = h("div", {}, h("p", { class: "none" }, "Reading …"));
    this.element = h(
      "div",
      { class: "view" },
      h(
        "div",
        { class: "view-head" },
        back("events", "the events"),
        this.heading,
        h("p", { class: "view-note mono" }, id),
      ),
      this.content,
    );
  }

  async start() {
    try {
      const way = await wayOf(this.id);
      this.#show(way, [{ way, depth: 0 }]);
      this.#show(way, await legs(way));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      fill(this.content, h("p", { class: "card" }, error.message));
    }
  }

  /** @param {Way} way @param {Leg[]} all the way itself, and those of the events that it caused */
  #show({ event, cause }, all) {
    const kind = event.success === null ? "" : event.success ? "ok" : "bad";
    fill(
      this.heading,
      event.name,
      " ",
      h("span", { class: `badge ${kind}` }, event.success === null ? "under way" : outcomeOf(event)),
    );
    const steps = all.flatMap(({ way, depth }) => way.steps.map((step) => ({ step, depth, event: way.event })));
    const begin = Math.min(event.at, ...steps.map(({ step }) => step.began_at));
    const end = Math.max(
      ...steps.map(({ step }) => step.began_at + (step.ms ?? 0) / 1000),
      event.at + (event.ms ?? 0) / 1000,
    );
    const whole = Math.max((end - begin) * 1000, 0.01);
    fill(
      this.content,
      h(
        "div",
        { class: "card" },
        facts([
          ["From", event.source],
          ["To", event.to ?? "any mod that handles it"],
          ["At", format.exactTime(event.at)],
          ["Took", format.latency(event.ms)],
          [
            "Caused by",
            cause === null
              ? "no other event"
              : h("a", { href: `#events/${encodeURIComponent(cause)}` }, "another event"),
          ],
        ]),
        event.error ? h("p", { class: "bad-text" }, event.error) : null,
      ),
      h("h2", { class: "under" }, "Its way"),
      steps.length
        ? h(
            "ol",
            { class: "way" },
            steps.map((each) => stepRow(each, begin, whole)),
          )
        : h("p", { class: "muted" }, "No mod was asked."),
    );
  }
}

/** @param {string} id @returns {Promise<Way>} */
function wayOf(id) {
  return get(`${V1}/events/${encodeURIComponent(id)}/way`);
}

/**
 * Follow the events that one caused, and those that these caused.
 *
 * @param {Way} way
 * @returns {Promise<Leg[]>} in the order in which one reads them: each event before those that it caused
 */
async function legs(way) {
  let left = MOST;
  /** @param {Way} from @param {number} depth @returns {Promise<Leg[]>} */
  const below = async (from, depth) => {
    const ids = depth > DEEPEST ? [] : from.caused.slice(0, left);
    left -= ids.length;
    const ways = await Promise.all(ids.map((id) => wayOf(id).catch(() => null))); // one that is not kept any more is left out
    const found = ways.filter((each) => each !== null).sort((one, other) => one.event.at - other.event.at);
    const rest = [];
    for (const each of found) rest.push({ way: each, depth }, ...(await below(each, depth + 1)));
    return rest;
  };
  return [{ way, depth: 0 }, ...(await below(way, 1))];
}

/**
 * @param {{step: Step, depth: number, event: any}} asked
 * @param {number} begin of all that is shown, in Unix seconds
 * @param {number} whole its milliseconds
 */
function stepRow({ step, depth, event }, begin, whole) {
  const bar = h("span", { class: `way-bar ${OUTCOMES[step.outcome] ?? ""}` });
  const left = Math.min((((step.began_at - begin) * 1000) / whole) * 100, 98);
  bar.style.left = `${left}%`;
  bar.style.width = `${Math.max(Math.min(((step.ms ?? 0) / whole) * 100, 100 - left), 1.5)}%`;
  const name =
    depth === 0 ? null : h("a", { class: "way-event", href: `#events/${encodeURIComponent(event.id)}` }, event.name);
  return h(
    "li",
    { class: `depth-${depth}` },
    h("span", { class: "way-mod" }, h("a", { href: `#mods/${encodeURIComponent(step.mod)}` }, step.mod), name),
    h("span", { class: `badge ${OUTCOMES[step.outcome] ?? ""}` }, step.outcome),
    h("span", { class: "way-ms" }, format.latency(step.ms)),
    h("span", { class: "way-line", "aria-hidden": "true" }, bar),
    step.error ? h("p", { class: "bad-text way-error" }, step.error) : null,
  );
}
