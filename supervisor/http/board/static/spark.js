/** Small line charts on canvas. One is drawn in a job of its own, so many of them share out over frames. */

import { inFrame } from "./frames.js";

const NAMES = ["accent", "warn", "bad", "line", "muted", "ok", "text", "surface"];

/** @typedef {Record<string, string>} Palette */

/** @type {Palette | null} */
let colours = null;

/**
 * The colours of the present theme, for what is drawn on canvas.
 *
 * @returns {Palette}
 */
export function palette() {
  if (colours !== null) return colours;
  const probe = document.body.appendChild(document.createElement("i"));
  colours = {};
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return colours;
}

/** The theme has changed: what is drawn from now on has other colours. */
export function forgetPalette() {
  colours = null;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forgetPalette);

export class Spark {
  canvas = document.createElement("canvas");
  /** @type {(number | null)[]} */
  #points = [];
  /** @type {number | null} */
  #limit = null;
  #width;
  #height;
  #drawn = "";

  /** @param {number} width @param {number} height pixels of the page */
  constructor(width, height) {
    this.#width = width;
    this.#height = height;
    this.canvas.className = "spark";
    this.canvas.setAttribute("aria-hidden", "true");
    this.#resize();
  }

  #resize() {
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    this.canvas.width = Math.round(this.#width * scale);
    this.canvas.height = Math.round(this.#height * scale);
    this.canvas.style.width = `${this.#width}px`;
    this.canvas.style.height = `${this.#height}px`;
    this.#drawn = "";
  }

  /** @param {number} width @param {number} height */
  setSize(width, height) {
    if (width === this.#width && height === this.#height) return;
    this.#width = width;
    this.#height = height;
    this.#resize();
  }

  /**
   * @param {(number | null)[]} points oldest first
   * @param {number | null} [limit] drawn as a line at the top; without it the chart is as high as its highest point
   */
  show(points, limit = null) {
    this.#points = points;
    this.#limit = limit;
    inFrame(this, () => this.#draw());
  }

  #draw() {
    const points = this.#points;
    const paint = palette();
    const key = `${points.length}|${points[0]}|${points.at(-1)}|${this.#limit}|${paint.accent}|${points[points.length >> 1]}`;
    if (key === this.#drawn) return;
    this.#drawn = key;
    const context = this.canvas.getContext("2d");
    if (context !== null) draw(context, this.canvas.width, this.canvas.height, points, this.#limit, paint);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} width
 * @param {number} height
 * @param {(number | null)[]} points
 * @param {number | null} limit
 * @param {Palette} paint
 */
function draw(context, width, height, points, limit, paint) {
  context.clearRect(0, 0, width, height);
  context.fillStyle = /** @type {string} */ (paint.line);
  context.fillRect(0, height - 1, width, 1);
  const known = /** @type {number[]} */ (points.filter((point) => point !== null));
  if (known.length === 0) return;
  const highest = Math.max(...known);
  const top = limit ?? Math.max(highest * 1.15, 1e-9);
  const unit = height / 24;
  const step = width / 59;
  const y = (/** @type {number} */ value) => height - unit - Math.min(value / top, 1) * (height - 3 * unit);
  const last = /** @type {number} */ (known.at(-1));
  const colour =
    limit !== null && last > limit * 0.9
      ? paint.bad
      : limit !== null && last > limit * 0.75
        ? paint.warn
        : paint.accent;
  const begin = width - (points.length - 1) * step;
  context.lineWidth = 1.4 * Math.min(window.devicePixelRatio || 1, 2);
  context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = /** @type {string} */ (colour);
  for (const [from, values] of stretches(points)) {
    const x = (/** @type {number} */ index) => begin + (from + index) * step;
    context.beginPath();
    values.forEach((value, index) => context[index ? "lineTo" : "moveTo"](x(index), y(value)));
    context.stroke();
    context.lineTo(x(values.length - 1), height);
    context.lineTo(x(0), height);
    context.globalAlpha = 0.12;
    context.fill();
    context.globalAlpha = 1;
  }
  if (limit !== null && highest > limit * 0.5) rule(context, width, y(limit), paint);
}

/** Points without a gap, each with the place of its first one. @param {(number | null)[]} points */
function stretches(points) {
  /** @type {[number, number[]][]} */
  const found = [];
  points.forEach((point, index) => {
    if (point === null) return;
    if (index === 0 || points[index - 1] === null) found.push([index, []]);
    found.at(-1)?.[1].push(point);
  });
  return found;
}

/** @param {CanvasRenderingContext2D} context @param {number} width @param {number} at @param {Palette} paint */
function rule(context, width, at, paint) {
  context.beginPath();
  context.setLineDash([3, 3]);
  context.moveTo(0, at + 0.5);
  context.lineTo(width, at + 0.5);
  context.lineWidth = 1;
  context.strokeStyle = /** @type {string} */ (paint.muted);
  context.stroke();
  context.setLineDash([]);
}
