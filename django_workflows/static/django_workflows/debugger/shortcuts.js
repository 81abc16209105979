// Keys that do what a click does; they can be switched off, since who speaks to the page types them unawares.

const KEY = "django_workflows.shortcuts";
const TYPED_INTO = "input, textarea, select, [contenteditable], dialog, [role=tree], .wf-canvas";

export class Shortcuts {
  /** All that are there now: `{key, meaning, action}`. */
  known = [];

  constructor() {
    addEventListener("keydown", (event) => this.#press(event));
  }

  get on() {
    try {
      return localStorage.getItem(KEY) !== "off";
    } catch {
      return true;
    }
  }

  set on(value) {
    try {
      localStorage.setItem(KEY, value ? "on" : "off");
    } catch {
      // Then it cannot be remembered.
    }
  }

  /**
   * Let a key do something.
   *
   * @param {string} key
   * @param {string} meaning what the list of keys says
   * @param {() => void} action
   * @returns {() => void} takes it back
   */
  add(key, meaning, action) {
    const shortcut = { key, meaning, action };
    this.known.push(shortcut);
    return () => {
      this.known = this.known.filter((one) => one !== shortcut);
    };
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key !== "Escape" && (!this.on || event.target.closest?.(TYPED_INTO))) return;
    const found = this.known.findLast((one) => one.key === event.key);
    if (!found || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    found.action();
  }
}
