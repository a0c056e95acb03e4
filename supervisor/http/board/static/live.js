/** What the network is like now: one stream, kept as rows by id. Views listen, and draw in their next frame. */

import { keepOpen, V1 } from "./api.js";
import { say } from "./dom.js";

/**
 * @typedef {object} Row one mod; `null` is what is not known, times are in seconds, latencies in milliseconds
 * @property {string} id
 * @property {string} path
 * @property {string | null} version
 * @property {string} state
 * @property {number | null} uptime
 * @property {number | null} since when its process began; the uptime is kept from it
 * @property {number} restarts
 * @property {number | null} pid
 * @property {number} workers
 * @property {number | null} cpu percent of one core
 * @property {number | null} cpu_limit
 * @property {number | null} rss
 * @property {number | null} memory_limit
 * @property {number} rate events per second
 * @property {number | null} p50
 * @property {number | null} p99
 * @property {number} in_flight
 * @property {number} queue
 * @property {number} failed
 * @property {number} dead_letters
 * @property {string | null} family
 * @property {string} audience
 * @property {string | null} problem
 * @property {(number | null)[]} cpu_history
 * @property {(number | null)[]} rss_history
 * @property {number} [order] its place in load order
 * @property {string} [mod] in a cluster: the id of the mod, of which several nodes may have a row
 * @property {string | null} [node] in a cluster: the node that runs it
 */

/** @typedef {[from: string, to: string, rate: number, failures: number]} Edge */

const POINTS = 60;

class Live {
  /** @type {Map<string, Row>} */
  mods = new Map();
  /** @type {any} */
  network = null;
  /** @type {Edge[]} */
  edges = [];
  /** @type {string | null} */
  problem = null;
  /** Events per second and processor time of the network in the last minute. */
  rates = /** @type {number[]} */ ([]);
  cpus = /** @type {number[]} */ ([]);
  /** What the stream goes on behind when it is opened again, and how many points the charts have got. */
  #seq = /** @type {number | null} */ (null);
  #points = 0;
  /** Counts the lines that came, so that a view can see that nothing is new. */
  turn = 0;
  /** @type {string[]} */
  order = [];
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #end = () => {};

  start() {
    this.stop();
    const path = () => `${V1}/live?interval=1${this.#seq === null ? "" : `&since=${this.#seq}`}`;
    this.#end = keepOpen(
      path,
      (line) => this.#take(line),
      (problem) => this.#broke(problem),
    );
  }

  stop() {
    this.#end();
    this.mods = new Map();
    this.network = null;
    this.#seq = null;
    this.rates = [];
    this.cpus = [];
  }

  /** @param {() => void} listener @returns {() => void} ends it */
  on(listener) {
    this.#listeners.add(listener);
    if (this.network !== null) listener();
    return () => this.#listeners.delete(listener);
  }

  /** @returns {Row[]} in load order */
  rows() {
    return [...this.mods.values()];
  }

  /** @param {string} id of a row, or of a mod that several nodes have a row of @returns {Row | undefined} */
  row(id) {
    return this.mods.get(id) ?? this.rows().find((row) => row.mod === id);
  }

  /** @returns {{node: string, answered: boolean, error: string | null}[]} the nodes of a cluster */
  nodes() {
    return this.network?.nodes ?? [];
  }

  /** Return an end of an edge as the rows name it. @param {string} end */
  #named(end) {
    const row = end.startsWith("mod:") ? this.row(end.slice(4)) : undefined;
    return row === undefined ? end : `mod:${row.id}`;
  }

  /** @param {string | null} problem */
  #broke(problem) {
    if (problem === this.problem) return;
    this.problem = problem;
    if (problem !== null) say(`No figures: ${problem}.`);
    this.#tell();
  }

  /** @param {any} line */
  #take(line) {
    if (line.type === "all") this.mods = new Map(line.mods.map((/** @type {Row} */ row) => [row.id, row]));
    else if (line.type === "change") this.#change(line);
    else return;
    if (line.order || line.type === "all") {
      this.order = line.order ?? [...this.mods.keys()];
      this.order.forEach((id, index) => {
        const row = this.mods.get(id);
        if (row) row.order = index;
      });
    }
    this.network = line.network;
    this.edges = (line.edges ?? []).map((/** @type {Edge} */ [from, to, rate, failures]) => [
      this.#named(from),
      this.#named(to),
      rate,
      failures,
    ]);
    this.#seq = line.seq ?? null;
    this.#keepPoints(line);
    this.turn++;
    this.#tell();
  }

  /** The network takes points of all mods at once, less often than it sends lines. @param {any} line */
  #keepPoints(line) {
    keep(this.rates, line.network.events_per_second ?? 0);
    keep(this.cpus, line.network.supervisor?.cpu_percent ?? 0);
    const isNew = line.type === "change" && line.points > this.#points;
    this.#points = line.points ?? 0;
    const now = line.at ?? Date.now() / 1000; // of the clock of the network
    for (const row of this.mods.values()) {
      if (isNew) {
        keep(row.cpu_history, row.cpu);
        keep(row.rss_history, row.rss);
      }
      row.uptime = row.since === null ? null : Math.max(now - row.since, 0);
    }
  }

  /** @param {any} line */
  #change(line) {
    for (const id of line.removed) this.mods.delete(id);
    for (const row of line.mods) {
      const known = this.mods.get(row.id);
      tellChange(known, row);
      row.order = known?.order ?? this.mods.size;
      row.cpu_history = known?.cpu_history ?? row.cpu_history ?? [];
      row.rss_history = known?.rss_history ?? row.rss_history ?? [];
      this.mods.set(row.id, row);
    }
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }
}

/** @template T @param {T[]} points @param {T} point */
function keep(points, point) {
  points.push(point);
  if (points.length > POINTS) points.shift();
}

/** @param {Row | undefined} known @param {Row} row */
function tellChange(known, row) {
  if (known && known.state !== row.state && (row.state === "quarantined" || known.state === "quarantined")) {
    say(`Mod ${row.id} is ${row.state}.`);
  }
}

export const live = new Live();
