// Questions to whoever sits in front of the page, in a <dialog>.

import { h, uid } from "./dom.js";

/**
 * Ask before something that cannot be undone.
 *
 * @param {{title: string, text: string, action: string, danger?: boolean}} question action: what the button says
 * @returns {Promise<boolean>}
 */
export function ask({ title, text, action, danger = false }) {
  const id = uid("title");
  const cancel = h("button", { type: "button", class: "button", text: "Keep it", onclick: () => dialog.close() });
  const go = h("button", { type: "button", class: `button ${danger ? "danger" : "primary"}`, text: action,
    onclick: () => dialog.close("yes") });
  const dialog = h("dialog", { "aria-labelledby": id }, h("h2", { id, text: title }), h("p", { text }),
    h("div", { class: "dialog-actions" }, cancel, go));
  return open(dialog, cancel).then(() => dialog.returnValue === "yes");
}

/** Show a dialog until it is closed; the browser then puts the focus back to where it was. */
export function open(dialog, focus = null) {
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    dialog.showModal();
    focus?.focus();
  });
}
