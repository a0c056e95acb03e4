/**
 * A table of which only the rows in sight are elements, so that it may have any number of rows.
 *
 * Its rows are as high as the style says (`--row`). A row's element stays with its row while that is in sight, and the
 * focused row is always an element: sorting and scrolling never lose the focus.
 */

import { h, setAttribute, setText } from "./dom.js";
import { inFrame } from "./frames.js";

/**
 * @template R
 * @typedef {object} Column
 * @property {string} id with "c-" before it the class of its cells
 * @property {string} title
 * @property {string} [hint] what the figures of the column are
 * @property {(row: R) => string} [text] what its cells show
 * @property {() => {node: Node, show: (row: R, cell: HTMLElement) => void}} [make] or how its cells are made and filled
 * @property {(row: R) => string | number | null} [by] what the table is sorted by
 * @property {boolean} [down] whether it is sorted from large to small first
 */

/**
 * Make a column of figures, sorted from large to small first.
 * @template R
 * @template {number | null} F
 * @param {string} id
 * @param {string} title
 * @param {(row: R) => F} figure
 * @param {(figure: F) => string} shown
 * @param {string} [hint]
 * @returns {Column<R>}
 */
export function figures(id, title, figure, shown, hint) {
  return { id, title, hint, text: (row) => shown(figure(row)), by: figure, down: true };
}

const SPARE = 6; // rows that are elements above and below those in sight, so that scrolling shows no gaps

/** @template R */
export class Table {
  /** @type {R[]} */
  #rows = [];
  /** @type {Map<string, Line<R>>} */
  #lines = new Map();
  /** @type {Line<R>[]} */
  #unused = [];
  #height = 44;
  /** How tall the scrolled part of the page is, and where in it the rows begin: known without a layout while one scrolls. */
  #view = 0;
  #top = 0;
  #arranging = 0;
  /** @type {{column: Column<R> | null, down: boolean}} */
  sort = { column: null, down: false };
  /** @type {string | null} key of the row that j and k start from */
  current = null;

  /**
   * @param {object} given
   * @param {string} given.label for screen readers
   * @param {string} given.kind class that says how wide the columns are
   * @param {Column<R>[]} given.columns
   * @param {(row: R) => string} given.key
   * @param {(row: R) => string | null} [given.href] where Enter and a click on a row lead
   * @param {(row: R) => string} [given.tone] class of the row
   * @param {() => void} [given.onSort]
   * @param {string} [given.empty]
   */
  constructor(given) {
    this.given = given;
    this.heads = given.columns.map((column) => this.#head(column));
    this.body = h("div", { class: "rows", role: "rowgroup" });
    this.none = h("p", { class: "none", hidden: true }, given.empty ?? "Nothing here.");
    this.element = h(
      "div",
      { class: `table ${given.kind}`, role: "table", "aria-label": given.label },
      h(
        "div",
        { class: "heads", role: "rowgroup" },
        h("div", { class: "row head", role: "row", "aria-rowindex": "1" }, this.heads),
      ),
      this.body,
      this.none,
    );
    this.body.addEventListener("focusin", (event) => this.#focused(event));
    this.resized = () => this.#measure();
  }

  /** @param {HTMLElement} scroller what scrolls the table */
  start(scroller) {
    this.scroller = scroller;
    this.scrolled = () => inFrame(this, () => this.#place(false));
    scroller.addEventListener("scroll", this.scrolled, { passive: true });
    this.sizes = new ResizeObserver(this.resized);
    this.sizes.observe(scroller);
    this.#measure();
  }

  stop() {
    if (this.scrolled) this.scroller?.removeEventListener("scroll", this.scrolled);
    this.sizes?.disconnect();
    clearTimeout(this.#arranging);
  }

  /** @param {R[]} rows filtered; the table sorts them if a column was chosen */
  show(rows) {
    this.#rows = this.sort.column === null ? rows : sorted(rows, this.sort.column, this.sort.down);
    this.none.hidden = rows.length > 0;
    setAttribute(this.element, "aria-rowcount", String(rows.length + 1));
    inFrame(this, () => this.#place(true));
  }

  /** Move the focus by some rows. @param {number} by */
  move(by) {
    if (this.#rows.length === 0) return;
    const at = this.#rows.findIndex((row) => this.given.key(row) === this.current);
    const next = Math.min(Math.max(at < 0 ? 0 : at + by, 0), this.#rows.length - 1);
    this.current = this.given.key(/** @type {R} */ (this.#rows[next]));
    this.#reveal(next);
    this.#place(false);
    this.#lines.get(this.current)?.focus();
  }

  /** Put the focus back on a row, if it is still there. @param {string | null} key */
  focus(key) {
    const at = this.#rows.findIndex((row) => this.given.key(row) === key);
    if (at < 0) return false;
    this.current = key;
    this.move(0);
    return true;
  }

  /** @param {number} index */
  #reveal(index) {
    const scroller = this.scroller;
    if (!scroller) return;
    const top = this.#top + index * this.#height;
    const above = this.heads[0]?.offsetHeight ?? 0;
    if (top < scroller.scrollTop + above) scroller.scrollTop = top - above - this.#height;
    else if (top + 2 * this.#height > scroller.scrollTop + scroller.clientHeight)
      scroller.scrollTop = top + 2 * this.#height - scroller.clientHeight;
  }

  #offset() {
    if (!this.scroller) return 0;
    return this.body.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top + this.scroller.scrollTop;
  }

  #measure() {
    this.#height = parseFloat(getComputedStyle(this.body).getPropertyValue("--row")) || 44;
    this.#view = this.scroller?.clientHeight ?? 0;
    inFrame(this, () => this.#place(true));
  }

  /** @param {boolean} anew whether the rows' figures may have changed, and what stands above the table */
  #place(anew) {
    if (!this.scroller) return;
    if (anew) {
      const height = `${this.#rows.length * this.#height}px`;
      if (this.body.style.height !== height) this.body.style.height = height;
      this.#top = this.#offset();
    }
    const above = this.scroller.scrollTop - this.#top;
    const first = Math.max(Math.floor(above / this.#height) - SPARE, 0);
    const last = Math.min(Math.ceil((above + this.#view) / this.#height) + SPARE, this.#rows.length);
    /** @type {Map<string, number>} */
    const wanted = new Map();
    for (let index = first; index < last; index++)
      wanted.set(this.given.key(/** @type {R} */ (this.#rows[index])), index);
    this.#pin(wanted);
    for (const [key, line] of this.#lines) {
      if (wanted.has(key)) continue;
      this.#lines.delete(key);
      this.#unused.push(line);
    }
    for (const [key, index] of wanted) this.#draw(key, index, anew);
    // A line that is used again need not leave the page before: only what is left over does.
    for (const line of this.#unused.splice(0)) line.element.remove();
    this.#arrangeSoon();
  }

  /** Keep the focused row as an element. @param {Map<string, number>} wanted */
  #pin(wanted) {
    if (this.current === null || wanted.has(this.current) || !this.body.contains(document.activeElement)) return;
    const at = this.#rows.findIndex((row) => this.given.key(row) === this.current);
    if (at >= 0) wanted.set(this.current, at);
  }

  /** @param {string} key @param {number} index @param {boolean} anew */
  #draw(key, index, anew) {
    const row = /** @type {R} */ (this.#rows[index]);
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = this.#unused.pop() ?? new Line(this.given);
      line.take(key);
      this.#lines.set(key, line);
      line.show(row);
      if (line.element.parentNode === null) this.body.append(line.element);
    } else if (anew) line.show(row);
    line.place(index, this.#height);
  }

  /** Elements are read, and gone through by Tab, in their order: it is put right when nothing has moved for a moment. */
  #arrangeSoon() {
    clearTimeout(this.#arranging);
    this.#arranging = setTimeout(() => this.#arrange(), 150);
  }

  #arrange() {
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    const inOrder = [...this.#lines.values()].sort((one, other) => one.index - other.index);
    inOrder.forEach(({ element }, index) => {
      const there = this.body.children[index];
      if (there !== element) this.body.insertBefore(element, there ?? null);
    });
    if (focused !== null && this.body.contains(focused) && document.activeElement !== focused)
      focused.focus({ preventScroll: true });
  }

  /** @param {FocusEvent} event */
  #focused(event) {
    for (const [key, line] of this.#lines) {
      if (line.element.contains(/** @type {Node} */ (event.target))) this.current = key;
    }
  }

  /** @param {Column<R>} column */
  #head(column) {
    if (!column.by)
      return h("div", { class: `cell c-${column.id}`, role: "columnheader", title: column.hint }, column.title);
    const press = () => this.#chose(column);
    return h(
      "div",
      { class: `cell c-${column.id}`, role: "columnheader", "aria-sort": "none" },
      h("button", { class: "sort", type: "button", title: column.hint, onclick: press }, column.title),
    );
  }

  /** @param {Column<R>} column */
  #chose(column) {
    const first = column.down ?? false;
    if (this.sort.column !== column) this.sort = { column, down: first };
    else if (this.sort.down === first) this.sort = { column, down: !first };
    else this.sort = { column: null, down: false };
    this.given.columns.forEach((each, index) => {
      const way = this.sort.down ? "descending" : "ascending";
      if (each.by) this.heads[index]?.setAttribute("aria-sort", each === this.sort.column ? way : "none");
    });
    this.given.onSort?.();
  }
}

/**
 * One row's elements.
 *
 * @template R
 */
class Line {
  /** @param {Table<R>["given"]} given */
  constructor(given) {
    this.given = given;
    this.index = 0;
    // The link of a row is in its first cell, and reaches over the whole row by the style.
    this.link = given.href ? h("a", { class: "over" }) : null;
    this.cells = given.columns.map((column, index) => {
      const cell = h("div", { class: `cell c-${column.id}`, role: "cell" });
      const inner = index === 0 && this.link !== null ? this.link : cell;
      if (inner !== cell) cell.append(inner);
      const made = column.make?.() ?? null;
      if (made !== null) inner.append(made.node);
      return { cell, inner, column, made };
    });
    this.element = h(
      "div",
      { class: "row", role: "row", tabindex: this.link ? null : "-1" },
      ...this.cells.map(({ cell }) => cell),
    );
  }

  /** @param {string} key */
  take(key) {
    this.element.dataset.key = key;
  }

  focus() {
    (this.link ?? this.element).focus({ preventScroll: true });
  }

  /** @param {R} row */
  show(row) {
    if (this.link && this.given.href) setAttribute(this.link, "href", this.given.href(row));
    const tone = `row ${this.given.tone?.(row) ?? ""}`;
    if (this.element.className !== tone) this.element.className = tone;
    for (const { cell, inner, column, made } of this.cells) {
      if (made !== null) made.show(row, cell);
      else if (column.text) setText(inner, column.text(row));
    }
  }

  /** @param {number} index @param {number} height */
  place(index, height) {
    this.index = index;
    const at = `translateY(${index * height}px)`;
    if (this.element.style.transform !== at) this.element.style.transform = at;
    setAttribute(this.element, "aria-rowindex", String(index + 2));
  }
}

/**
 * @template R
 * @param {R[]} rows
 * @param {Column<R>} column
 * @param {boolean} down
 */
function sorted(rows, column, down) {
  const by = /** @type {(row: R) => string | number | null} */ (column.by);
  const sign = down ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [by(one), by(other)];
    if (a === b) return 0;
    if (a === null || b === null) return a === null ? 1 : -1; // what is not known comes last, both ways
    return a < b ? -sign : sign;
  });
}
