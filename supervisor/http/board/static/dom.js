/** Elements: made by calls, never from text, so that nothing that a mod or an agent says is read as HTML. */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, unknown>} Props */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 *
 * @template {keyof HTMLElementTagNameMap} N
 * @param {N} name
 * @param {Props} [props] attributes; `class`; listeners as `onclick`; `true` is an empty attribute, null and false are none
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[N]}
 */
export function h(name, props = {}, ...children) {
  const made = document.createElement(name);
  apply(made, props);
  append(made, children);
  return made;
}

/**
 * Make an element of SVG.
 *
 * @template {keyof SVGElementTagNameMap} N
 * @param {N} name
 * @param {Props} [props]
 * @param {...(Child | Child[])} children
 * @returns {SVGElementTagNameMap[N]}
 */
export function svg(name, props = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  apply(made, props);
  append(made, children);
  return made;
}

/** @param {Element} element @param {Props} props */
function apply(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** @param {Node} parent @param {(Child | Child[])[]} children */
export function append(parent, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Replace what an element holds.
 *
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/**
 * Set an element's text if it is another one: an unchanged text costs no layout.
 *
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.firstChild === null) element.appendChild(document.createTextNode(text));
  else if (element.firstChild.nodeValue !== text) element.firstChild.nodeValue = text;
}

/** @param {Element} element @param {string} name @param {string | null} value */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

let sayings = 0;

/**
 * Tell people who do not see the page what happened.
 *
 * @param {string} text
 */
export function say(text) {
  const said = document.getElementById("said");
  // The same text twice would be no change, and would not be read again.
  if (said) said.textContent = sayings++ % 2 ? text : `${text} `;
}

/**
 * Call a function when someone has stopped typing.
 *
 * @param {() => void} call
 * @param {number} wait milliseconds
 */
export function afterTyping(call, wait = 120) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, wait);
  };
}
