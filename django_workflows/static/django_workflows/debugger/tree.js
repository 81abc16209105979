// A value of JSON as a tree that folds; its branches are made when they are opened.

import { h, set } from "./dom.js";

const LONG = 240;
const MANY = 100;

const isBranch = (value) => value !== null && typeof value === "object";

/**
 * Show a value.
 *
 * @param {HTMLElement} element
 * @param {any} value
 * @param {{open?: number, label?: string}} options open is the number of levels that are open at first
 * @returns {{update: (value) => void, destroy: () => void}} update keeps what the reader has opened and closed
 */
export function createTree(element, value, { open = 1, label = "Value" } = {}) {
  // What the reader has chosen for a path, against the default.
  const chosen = new Map();
  const limits = new Map();
  let current = "";
  const tree = h("ul", { class: "wf-tree", role: "tree", "aria-label": label, onkeydown: onKey, onclick: onClick });
  element.append(tree);
  update(value);

  function update(next) {
    const hadFocus = tree.contains(document.activeElement);
    value = next;
    tree.replaceChildren(node("", null, value, 0));
    focusable(items().find((item) => item.dataset.path === current) ?? tree.firstElementChild);
    if (hadFocus) tree.querySelector("[tabindex='0']").focus();
  }

  function node(path, name, content, depth) {
    const foldable = isBranch(content) ? Object.keys(content).length > 0 : typeof content === "string" && content.length > LONG;
    const isOpen = foldable && (chosen.get(path) ?? (isBranch(content) && depth < open));
    const row = h("span", { class: "wf-tree-row" }, name === null ? null : h("span", { class: "wf-tree-key", text: `${name}: ` }),
      ...leaf(content, isOpen));
    const item = h("li", { role: "treeitem", tabindex: -1, "aria-expanded": foldable ? String(isOpen) : null, "data-path": path }, row);
    if (isOpen && isBranch(content)) item.append(branch(path, content, depth));
    return item;
  }

  function leaf(content, isOpen) {
    const span = (kind, text) => h("span", { class: `wf-json-${kind}`, text });
    if (typeof content === "string") {
      const short = content.length > LONG && !isOpen;
      return [span("string", JSON.stringify(short ? content.slice(0, LONG) : content)),
        ...(content.length > LONG ? [span("note", short ? ` … show all ${content.length} characters` : " show less")] : [])];
    }
    if (!isBranch(content)) return [span(typeof content === "number" ? "number" : "literal", JSON.stringify(content) ?? "undefined")];
    const [left, right] = Array.isArray(content) ? "[]" : "{}";
    const keys = Object.keys(content);
    const names = Array.isArray(content) ? keys.length : keys.slice(0, 4).join(", ") + (keys.length > 4 ? ", …" : "");
    return [span("note", isOpen ? left : keys.length ? `${left} ${names} ${right}` : left + right)];
  }

  function branch(path, content, depth) {
    const limit = limits.get(path) ?? MANY;
    const all = Object.entries(content);
    const children = all.slice(0, limit).map(([key, inner]) => node(`${path}/${key}`, key, inner, depth + 1));
    if (all.length > limit) {
      children.push(h("li", { role: "treeitem", tabindex: -1, "data-more": path, class: "wf-tree-more", "data-path": `${path}/…`,
        text: `show ${Math.min(all.length - limit, limit)} more of ${all.length}` }));
    }
    return h("ul", { role: "group" }, ...children);
  }

  // --- what the reader does ---

  function items() {
    return [...tree.querySelectorAll("[role=treeitem]")];
  }

  function focusable(item) {
    for (const other of tree.querySelectorAll("[tabindex='0']")) set(other, { tabindex: -1 });
    set(item, { tabindex: 0 });
    current = item.dataset.path;
  }

  function toggle(item, wanted) {
    current = item.dataset.path;
    const more = item.dataset.more;
    if (more !== undefined) {
      const limit = limits.get(more) ?? MANY;
      limits.set(more, limit * 2);
      current = `${more}/${limit}`;
    } else if (item.hasAttribute("aria-expanded")) chosen.set(current, wanted ?? item.getAttribute("aria-expanded") === "false");
    else return;
    update(value);
  }

  function onClick(event) {
    const item = event.target.closest("[role=treeitem]");
    // Whoever marks text to copy it does not mean to fold.
    if (!item || !event.target.closest(".wf-tree-row, [data-more]") || String(getSelection())) return;
    focusable(item);
    item.focus();
    toggle(item);
  }

  function onKey(event) {
    const all = items();
    const item = event.target.closest("[role=treeitem]");
    const at = all.indexOf(item);
    const state = item?.getAttribute("aria-expanded");
    const goals = { ArrowDown: all[at + 1], ArrowUp: all[at - 1], Home: all[0], End: all.at(-1),
      ArrowRight: state === "false" ? item : state === "true" ? all[at + 1] : null, ArrowLeft: state === "true" ? item : item?.parentElement.closest("[role=treeitem]"),
      Enter: item, " ": item };
    if (!item || !(event.key in goals)) return;
    event.preventDefault();
    event.stopPropagation();
    const goal = goals[event.key];
    if (goal === item) toggle(item, { ArrowRight: true, ArrowLeft: false }[event.key]);
    else if (goal) {
      focusable(goal);
      goal.focus();
    }
  }

  return { update, destroy: () => tree.remove() };
}
