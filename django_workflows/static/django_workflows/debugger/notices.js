// What the page says by the way: a line that comes and goes, and is read out.

import { h } from "./dom.js";

const PATIENCE = 6000;

export class Notices {
  constructor() {
    this.element = h("div", { class: "notices" });
    this.quiet = h("div", { class: "visually-hidden", "aria-live": "polite" });
    this.element.append(this.quiet);
  }

  /** Say something that is only heard: what sighted people see happen. */
  announce(text) {
    this.quiet.textContent = text;
  }

  /** Say that something is done. */
  tell(text) {
    this.#show(h("p", { class: "notice", role: "status", text }), PATIENCE);
  }

  /** Say that something has failed; it stays until it is put away. */
  warn(text) {
    const notice = h("p", { class: "notice is-failed", role: "alert" }, h("span", { text }));
    notice.append(h("button", { type: "button", class: "icon-button", "aria-label": "Put away", text: "✕", onclick: () => notice.remove() }));
    this.#show(notice, null);
  }

  #show(notice, patience) {
    for (const other of [...this.element.querySelectorAll(".notice")]) if (other.textContent === notice.textContent) other.remove();
    this.element.append(notice);
    if (patience) setTimeout(() => notice.remove(), patience);
  }
}
