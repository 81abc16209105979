// The list of keys that do something, and the switch that turns them off.

import { open } from "./dialogs.js";
import { h, uid } from "./dom.js";

/** Show what keys do. */
export function showKeys(shortcuts) {
  const id = uid("title");
  const rows = shortcuts.known.map(({ key, meaning }) => h("div", {}, h("dt", {}, h("kbd", { text: key })), h("dd", { text: meaning })));
  const on = h("input", { type: "checkbox", onchange: () => (shortcuts.on = on.checked) });
  on.checked = shortcuts.on;
  const close = h("button", { type: "button", class: "button primary", text: "Close", onclick: () => dialog.close() });
  const dialog = h("dialog", { "aria-labelledby": id }, h("h2", { id, text: "Keys" }), h("dl", { class: "keys" }, ...rows),
    h("label", { class: "check" }, on, h("span", { text: "Single keys do something" })),
    h("div", { class: "dialog-actions" }, close));
  open(dialog, close);
}
