// Elements with their attributes and children: text is always text, so that no value becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an HTML element.
 *
 * @param {string} name
 * @param {object} attributes `text` is its text; `on…` are listeners; null, undefined and false are left out
 * @param {...(Node | string | null)} children
 */
export const h = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);

/** Make an SVG element, as h() does. */
export const svg = (name, attributes = {}, ...children) =>
  build(document.createElementNS(SVG, name), attributes, children);

/** Change the attributes of an element; one that is null, undefined or false goes. */
export function set(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value === null || value === undefined || value === false) element.removeAttribute(key);
    else element.setAttribute(key, value === true ? "" : value);
  }
  return element;
}

function build(element, attributes, children) {
  set(element, attributes).append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let counter = 0;

/** An id that nothing else on the page has. */
export const uid = (name) => `wf-${name}-${(counter += 1)}`;
