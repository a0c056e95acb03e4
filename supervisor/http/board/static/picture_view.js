/** A picture of the network: agents, the mods that they ask, and the mods that those ask. */

import { fill, h, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { inFrame, isCalm } from "./frames.js";
import { live } from "./live.js";
import { EdgeCanvas } from "./picture_canvas.js";
import { chosen, layers, placed, quiet } from "./picture_layout.js";
import { problemOf, tone } from "./problems.js";

/** @typedef {import("./live.js").Edge} Edge */
/** @typedef {{element: HTMLElement, name: HTMLElement, note: HTMLElement, x: number, y: number, toX: number, toY: number}} Node */

const NARROW = 620; // pixels; below, the layers are rows
const SETTLE = 0.007; // of the way that is left, in a millisecond

export class PictureView {
  title = "Picture";

  constructor() {
    this.edges = new EdgeCanvas();
    /** @type {Map<string, Node>} */
    this.nodes = new Map();
    this.stage = h("div", { class: "picture" }, this.edges.canvas);
    this.quiet = h("p", { class: "muted" });
    this.told = h("ul", { class: "unseen", "aria-label": "Traffic" });
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, h("h1", {}, "Picture"), legend()),
      this.stage,
      this.quiet,
      this.told,
    );
    this.room = { width: 0, height: 0, isUpright: false, nodeWidth: 150, nodeHeight: 44 };
    this.shape = "";
    /** Who has talked to whom since the page was opened. */
    this.known = /** @type {Edge[]} */ ([]);
    this.before = 0;
    this.toldUntil = 0;
    this.moving = false;
  }

  start() {
    this.sizes = new ResizeObserver(() => this.#fit());
    this.sizes.observe(this.stage);
    this.end = live.on(() => inFrame(this, () => this.#show()));
  }

  stop() {
    this.ended = true;
    this.end?.();
    this.sizes?.disconnect();
  }

  #fit() {
    const width = this.stage.clientWidth;
    if (width === this.room.width) return;
    const isUpright = width < NARROW;
    this.room = {
      width,
      height: Math.max(innerHeight - 190, 360),
      isUpright,
      nodeWidth: isUpright ? 104 : width < 900 ? 132 : 156,
      nodeHeight: 44,
    };
    this.stage.classList.toggle("upright", isUpright);
    this.shape = "";
    inFrame(this, () => this.#show());
  }

  #show() {
    if (live.network === null || this.room.width === 0 || this.ended) return;
    const rows = live.rows();
    const mods = chosen(
      rows.map((row) => ({ id: row.id, rate: row.rate, weight: problemOf(row)?.weight ?? 0, order: row.order ?? 0 })),
      live.edges,
    );
    this.known = merged(this.known, live.edges);
    const agents = [...new Set(this.known.map(([from]) => from).filter((from) => !from.startsWith("mod:")))].sort();
    if (agents.length === 0) agents.push("agents");
    const ids = [...agents, ...mods.map((id) => `mod:${id}`)];
    const shown = new Set(ids);
    const edges = live.edges.filter(([from, to]) => shown.has(from) && shown.has(to));
    this.#place(ids);
    for (const id of ids) this.#describe(id, edges);
    this.edges.show(edges);
    const left = rows.length - mods.length;
    setText(this.quiet, left > 0 ? `${format.plural(left, "quiet mod")} not shown.` : "");
    this.#tell(edges);
    this.#move();
  }

  /** @param {string[]} ids */
  #place(ids) {
    // The nodes stay where they are while the same ones talk to each other: only another shape moves them.
    const shape = `${ids.join()}|${this.known
      .map(([from, to]) => `${from} ${to}`)
      .sort()
      .join()}`;
    if (shape === this.shape) return;
    this.shape = shape;
    const still = new Set(quiet(ids, this.known));
    const { places, height } = placed(
      layers(
        ids.filter((id) => !still.has(id)),
        this.known,
      ),
      [...still],
      this.room,
    );
    const wanted = new Set(ids);
    for (const [id, node] of this.nodes) {
      if (wanted.has(id)) continue;
      node.element.remove();
      this.nodes.delete(id);
    }
    for (const { id, x, y } of places) {
      const node = this.nodes.get(id) ?? this.#make(id, x, y);
      node.toX = x;
      node.toY = y;
    }
    this.stage.style.height = `${height}px`;
    this.edges.resize(this.room.width, height);
  }

  /** @param {string} id @param {number} x @param {number} y @returns {Node} */
  #make(id, x, y) {
    const name = h("b", {}, id.startsWith("mod:") ? id.slice(4) : agentsName(id));
    const note = h("small", {});
    const isMod = id.startsWith("mod:");
    const light = (/** @type {string | null} */ lit) => () => {
      this.edges.lit = lit;
      this.#move();
    };
    const element = h(
      "a",
      {
        class: "node",
        href: isMod ? `#mods/${encodeURIComponent(id.slice(4))}` : "#agents",
        onmouseenter: light(id),
        onmouseleave: light(null),
        onfocus: light(id),
        onblur: light(null),
      },
      h("span", { class: "dot", "aria-hidden": "true" }),
      h("span", {}, name, note),
    );
    this.stage.append(element);
    const node = { element, name, note, x, y, toX: x, toY: y };
    this.nodes.set(id, node);
    return node;
  }

  /** @param {string} id @param {Edge[]} edges */
  #describe(id, edges) {
    const node = this.nodes.get(id);
    if (node === undefined) return;
    const isMod = id.startsWith("mod:");
    const row = isMod ? live.row(id.slice(4)) : undefined;
    const rate = isMod ? (row?.rate ?? 0) : edges.reduce((sum, [from, , each]) => sum + (from === id ? each : 0), 0);
    const text = row !== undefined && row.state !== "ready" ? row.state : `${format.rate(rate)} events/s`;
    setText(node.note, text);
    setAttribute(
      node.element,
      "class",
      `node ${isMod ? "" : "of-agents"} tone-${row === undefined ? "off" : tone(row)}`,
    );
    setAttribute(node.element, "title", row === undefined ? null : (problemOf(row)?.text ?? null));
  }

  /** @param {Edge[]} edges */
  #tell(edges) {
    // Often enough for a reader, who would be thrown back by each new list.
    if (performance.now() < this.toldUntil) return;
    this.toldUntil = performance.now() + (edges.length ? 5000 : 0);
    const items = [...edges]
      .sort((one, other) => other[2] - one[2])
      .slice(0, 30)
      .map(([from, to, rate, failures]) =>
        h(
          "li",
          {},
          `${nameOf(from)} to ${nameOf(to)}: ${format.rate(rate)} events per second, ${failures > 0 ? `${format.rate(failures)} fail` : "none fails"}`,
        ),
      );
    fill(this.told, items);
  }

  #move() {
    if (this.moving || this.ended) return;
    this.moving = true;
    this.before = performance.now();
    requestAnimationFrame((now) => this.#frame(now));
  }

  /** @param {number} now */
  #frame(now) {
    this.moving = false;
    if (this.ended || document.hidden) return;
    const passed = Math.min(Math.max(now - this.before, 0), 100);
    this.before = now;
    const settles = this.#settle(passed);
    const flows = this.edges.draw(passed, this.nodes, this.room);
    if (!settles && !flows) return;
    this.moving = true;
    requestAnimationFrame((next) => this.#frame(next));
  }

  /** Move the nodes towards their places. @param {number} passed milliseconds @returns {boolean} whether one still moves */
  #settle(passed) {
    const part = isCalm() ? 1 : 1 - Math.exp(-passed * SETTLE);
    const { nodeWidth, nodeHeight } = this.room;
    let moves = false;
    for (const node of this.nodes.values()) {
      const far = Math.abs(node.toX - node.x) + Math.abs(node.toY - node.y) > 0.4;
      node.x = far ? node.x + (node.toX - node.x) * part : node.toX;
      node.y = far ? node.y + (node.toY - node.y) * part : node.toY;
      const at = `translate(${(node.x - nodeWidth / 2).toFixed(1)}px, ${(node.y - nodeHeight / 2).toFixed(1)}px)`;
      if (node.element.style.transform !== at) node.element.style.transform = at;
      moves = moves || far;
    }
    return moves;
  }
}

/** Remember who has talked to whom, so that a pause moves nothing. @param {Edge[]} before @param {Edge[]} now @returns {Edge[]} */
function merged(before, now) {
  const all = new Map([...before, ...now].map((edge) => [`${edge[0]} ${edge[1]}`, edge]));
  return [...all.values()].slice(-2000);
}

/** @param {string} id */
function agentsName(id) {
  return id === "agents" ? "Agents" : id === "system" ? "Operator" : id.slice("agents:".length);
}

/** @param {string} id */
function nameOf(id) {
  return id.startsWith("mod:")
    ? id.slice(4)
    : id === "agents"
      ? "agents"
      : id === "system"
        ? "operator"
        : `agents of ${id.slice("agents:".length)}`;
}

function legend() {
  const mark = (/** @type {string} */ kind, /** @type {string} */ text) =>
    h("span", {}, h("i", { class: `edge-mark ${kind}`, "aria-hidden": "true" }), text);
  return h(
    "p",
    { class: "view-note legend" },
    h("span", {}, "Thicker: more events."),
    mark("ok", "none fails"),
    mark("warn", "some fail"),
    mark("bad", "more than a tenth fails"),
  );
}
