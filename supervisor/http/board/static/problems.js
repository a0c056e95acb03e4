/** What is wrong with a mod, in one sentence, and what mends it. */

import * as format from "./format.js";

/** @typedef {import("./live.js").Row} Row */
/** @typedef {"bad" | "warn" | "busy" | "ok" | "off"} Tone */

/**
 * @typedef {object} Problem
 * @property {Row} row
 * @property {Tone} tone
 * @property {number} weight larger is worse
 * @property {string} text
 * @property {string | null} mend the action that mends it; null: it mends itself, or it takes a look
 * @property {string} look the part of the mod's page that shows more
 */

/** @type {Record<string, Tone>} */
const TONES = {
  ready: "ok",
  starting: "busy",
  restarting: "busy",
  probing: "busy",
  draining: "busy",
  ending: "warn",
  backoff: "warn",
  quarantined: "bad",
  failed: "bad",
  stopped: "off",
};

const NEAR = 0.9; // the share of a limit from which on it is worth a word

/** @param {Row} row @returns {Tone} */
export function tone(row) {
  const own = TONES[row.state] ?? "off";
  return own === "ok" && problemOf(row) !== null ? (problemOf(row)?.tone ?? own) : own;
}

/** @param {string} state @returns {Tone} */
export function stateTone(state) {
  return TONES[state] ?? "off";
}

/** @param {Row} row @returns {Problem | null} */
export function problemOf(row) {
  const because = row.problem === null ? "" : ` ${reason(row)}`;
  switch (row.state) {
    case "quarantined":
      return {
        row,
        tone: "bad",
        weight: 100,
        mend: "restart",
        look: "crashes",
        text: `It is in quarantine.${because}`,
      };
    case "failed":
      return { row, tone: "bad", weight: 95, mend: "reload", look: "log", text: `It did not start.${because}` };
    case "stopped":
      return {
        row,
        tone: "bad",
        weight: 80,
        mend: "restart",
        look: "log",
        text: `It has ended, and is not restarted by itself.${because}`,
      };
    case "probing":
      return {
        row,
        tone: "warn",
        weight: 75,
        mend: null,
        look: "crashes",
        text: `It is tried out after its quarantine.${because}`,
      };
    case "backoff":
    case "restarting":
      return { row, tone: "warn", weight: 70, mend: null, look: "crashes", text: `It is being restarted.${because}` };
    case "ending":
      return { row, tone: "warn", weight: 60, mend: null, look: "log", text: `Its process is being ended.${because}` };
    default:
      return strained(row);
  }
}

/** @param {Row} row @returns {Problem | null} */
function strained(row) {
  if (row.rss !== null && row.memory_limit !== null && row.rss > row.memory_limit * NEAR) {
    const text = `It uses ${format.bytes(row.rss)} of the ${format.bytes(row.memory_limit)} of memory that it may use.`;
    return { row, tone: "warn", weight: 50, mend: "restart", look: "limits", text };
  }
  if (row.queue >= 100) {
    const text = `${format.plural(row.queue, "event waits", "events wait")} for it, and ${row.in_flight} are in its hands.`;
    return { row, tone: "warn", weight: 40, mend: null, look: "log", text };
  }
  if (row.cpu !== null && row.cpu_limit !== null && row.cpu > row.cpu_limit * NEAR) {
    const text = `It uses all of the processor time that it may use: ${format.percent(row.cpu)} of ${format.percent(row.cpu_limit)}.`;
    return { row, tone: "warn", weight: 30, mend: null, look: "limits", text };
  }
  return null;
}

/** @param {Row[]} rows @returns {Problem[]} the worst first */
export function problemsOf(rows) {
  const found = [];
  for (const row of rows) {
    const problem = problemOf(row);
    if (problem !== null) found.push(problem);
  }
  return found.sort((one, other) => other.weight - one.weight);
}

/**
 * What the network says of the cause, as a sentence about "it", without what the operator cannot use.
 *
 * @param {Row} row
 */
function reason(row) {
  const line = /** @type {string} */ ((row.problem ?? "").trim().split("\n", 1)[0]);
  const told = line.replace(/^mod \S+ (is|has) \w+: /, "").replace(/incarnation \d+ \(pid \d+\) ended: /, "");
  const about = /^(ended|crashed|used|took|did|was|has) /.test(told) ? `it ${told}` : told;
  const cut = about.length > 220 ? `${about.slice(0, 219)}…` : about;
  const begin = cut.charAt(0).toUpperCase() + cut.slice(1);
  return /[.!?…]$/.test(begin) ? begin : `${begin}.`;
}
