/** The edges of the picture: as thick as their traffic, in the colour of their health, with dots that flow along them. */

import { isCalm } from "./frames.js";
import { palette } from "./spark.js";

/** @typedef {{x: number, y: number}} Point */
/** @typedef {{from: string, to: string, rate: number, failures: number, shown: number, flow: number}} Flow */

const SPEED = 0.00038; // of an edge in a millisecond
const EASE = 0.006; // of the way that is left, in a millisecond

export class EdgeCanvas {
  canvas = document.createElement("canvas");
  /** @type {Map<string, Flow>} */
  flows = new Map();
  /** @type {string | null} the node whose edges stand out */
  lit = null;

  constructor() {
    this.canvas.setAttribute("aria-hidden", "true");
  }

  /** @param {number} width @param {number} height */
  resize(width, height) {
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    if (this.canvas.width !== Math.round(width * scale)) this.canvas.width = Math.round(width * scale);
    if (this.canvas.height !== Math.round(height * scale)) this.canvas.height = Math.round(height * scale);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.scale = scale;
  }

  /** @param {import("./live.js").Edge[]} edges of the nodes that are shown */
  show(edges) {
    const known = new Set();
    for (const [from, to, rate, failures] of edges) {
      const key = `${from} ${to}`;
      known.add(key);
      const flow = this.flows.get(key) ?? { from, to, rate, failures, shown: 0, flow: Math.random() };
      flow.rate = rate;
      flow.failures = failures;
      this.flows.set(key, flow);
    }
    for (const [key, flow] of this.flows) if (!known.has(key)) flow.rate = 0;
  }

  /**
   * Draw the edges as they are after some milliseconds.
   *
   * @param {number} passed
   * @param {Map<string, Point>} places
   * @param {{isUpright: boolean, nodeWidth: number, nodeHeight: number}} room
   * @returns {boolean} whether something still moves
   */
  draw(passed, places, room) {
    const context = this.canvas.getContext("2d");
    if (context === null) return false;
    const scale = this.scale ?? 1;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const calm = isCalm();
    let moves = false;
    for (const [key, flow] of this.flows) {
      const wanted = flow.rate > 0 ? thickness(flow.rate) : 0;
      flow.shown = calm ? wanted : flow.shown + (wanted - flow.shown) * (1 - Math.exp(-passed * EASE));
      if (wanted === 0 && flow.shown < 0.15) {
        this.flows.delete(key);
        continue;
      }
      const [begin, end] = [places.get(flow.from), places.get(flow.to)];
      if (begin === undefined || end === undefined) continue;
      if (!calm) flow.flow = (flow.flow + passed * SPEED) % 1;
      this.#edge(context, curve(begin, end, room), flow, calm);
      moves = moves || !calm;
    }
    return moves;
  }

  /** @param {CanvasRenderingContext2D} context @param {Point[]} points @param {Flow} flow @param {boolean} calm */
  #edge(context, points, flow, calm) {
    const paint = palette();
    const share = flow.rate > 0 ? flow.failures / flow.rate : 0;
    const colour = /** @type {string} */ (share > 0.1 ? paint.bad : share > 0 ? paint.warn : paint.accent);
    const isLit = this.lit === null || this.lit === flow.from || this.lit === flow.to;
    const [a, b, c, d] = /** @type {[Point, Point, Point, Point]} */ (points);
    context.strokeStyle = context.fillStyle = colour;
    context.globalAlpha = isLit ? 0.3 : 0.07;
    context.lineWidth = flow.shown;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(a.x, a.y);
    context.bezierCurveTo(b.x, b.y, c.x, c.y, d.x, d.y);
    context.stroke();
    if (calm || !isLit || flow.rate === 0) return;
    context.globalAlpha = 0.9;
    const count = Math.min(1 + Math.floor(Math.log2(1 + flow.rate) / 2), 7);
    const size = Math.min(1.6 + flow.shown / 5, 3.4);
    context.beginPath();
    for (let index = 0; index < count; index++) {
      const at = on(points, (flow.flow + index / count) % 1);
      context.moveTo(at.x + size, at.y);
      context.arc(at.x, at.y, size, 0, 2 * Math.PI);
    }
    context.fill();
    context.globalAlpha = 1;
  }
}

/** @param {number} rate events per second */
export function thickness(rate) {
  return Math.min(1.4 + Math.log2(1 + rate) * 0.95, 13);
}

/** @param {Point} begin @param {Point} end @param {{isUpright: boolean, nodeWidth: number, nodeHeight: number}} room @returns {Point[]} */
function curve(begin, end, { isUpright, nodeWidth, nodeHeight }) {
  if (isUpright) {
    const down = end.y >= begin.y ? 1 : -1;
    const a = { x: begin.x, y: begin.y + (down * nodeHeight) / 2 };
    const d = { x: end.x, y: end.y - (down * nodeHeight) / 2 };
    const bend = Math.max(Math.abs(d.y - a.y) * 0.45, 24) * down;
    return [a, { x: a.x, y: a.y + bend }, { x: d.x, y: d.y - bend }, d];
  }
  const half = nodeWidth / 2;
  if (Math.abs(end.x - begin.x) < nodeWidth) {
    const [a, d] = [
      { x: begin.x + half, y: begin.y },
      { x: end.x + half, y: end.y },
    ];
    const bend = Math.min(30 + Math.abs(d.y - a.y) * 0.18, 90);
    return [a, { x: a.x + bend, y: a.y }, { x: d.x + bend, y: d.y }, d];
  }
  const on = end.x > begin.x ? 1 : -1;
  const [a, d] = [
    { x: begin.x + on * half, y: begin.y },
    { x: end.x - on * half, y: end.y },
  ];
  const bend = Math.max(Math.abs(d.x - a.x) * 0.48, 20) * on;
  return [a, { x: a.x + bend, y: a.y }, { x: d.x - bend, y: d.y }, d];
}

/** @param {Point[]} points @param {number} t @returns {Point} */
function on(points, t) {
  const [a, b, c, d] = /** @type {[Point, Point, Point, Point]} */ (points);
  const u = 1 - t;
  const [p, q, r, s] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
  return { x: p * a.x + q * b.x + r * c.x + s * d.x, y: p * a.y + q * b.y + r * c.y + s * d.y };
}
