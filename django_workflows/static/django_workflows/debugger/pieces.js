// Small pieces that every page has: a run's status, and what stands where there is nothing yet, or nothing any more.

import { h } from "./dom.js";

const SIGNS = { running: "▶", completed: "✓", failed: "✕", cancelled: "■", waiting: "?" };

/** A status as a coloured label, told apart by its sign and word as well. */
export const statusLabel = (status, word = status) =>
  h("span", { class: `status is-${status === "completed" ? "done" : status}` }, h("span", { "aria-hidden": "true", text: SIGNS[status] ?? "•" }), h("span", { text: word }));

export const loading = (text) => h("div", { class: "state", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), h("p", { text }));

/** What stands where there is nothing: what it is, and what to do. */
export const empty = (title, text, ...actions) => h("div", { class: "state" }, h("h2", { text: title }), h("p", { text }), ...actions);

/** What stands where something could not be loaded. */
export const failure = (error, retry = null, title = "This could not be loaded") =>
  h("div", { class: "state is-failed", role: "alert" }, h("h2", { text: title }), h("p", { text: error.message }),
    retry && h("button", { type: "button", class: "button", text: "Try again", onclick: retry }));

/** A button that copies a text. */
export function copyButton(text, label, notices) {
  return h("button", { type: "button", class: "button small", "aria-label": label, title: label, text: "Copy", async onclick() {
    try {
      await navigator.clipboard.writeText(text());
      notices.tell("Copied");
    } catch {
      notices.warn("The browser does not let this page copy; select the text and copy it yourself.");
    }
  } });
}

/**
 * Tabs: a list of them and the panel of each, with the arrow keys as one expects.
 *
 * @param {{id: string, text: string, panel: HTMLElement}[]} tabs
 * @param {(id: string) => void} onChoose
 * @returns {{list: HTMLElement, choose: (id: string) => void, badge: (id: string, text: string) => void}}
 */
export function createTabs(tabs, onChoose, label) {
  const buttons = tabs.map(({ id, text, panel }) => {
    Object.assign(panel, { id: `panel-${id}` });
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", `tab-${id}`);
    return h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, onclick: () => onChoose(id), onkeydown: (event) => move(event, id) },
      h("span", { text }), h("span", { class: "badge", hidden: true }));
  });

  function move(event, id) {
    const at = tabs.findIndex((one) => one.id === id);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + tabs.length) % tabs.length;
    onChoose(tabs[next].id);
    buttons[next].focus();
  }

  return {
    list: h("div", { class: "tabs", role: "tablist", "aria-label": label }, ...buttons),
    choose(id) {
      tabs.forEach((one, at) => {
        buttons[at].setAttribute("aria-selected", one.id === id);
        buttons[at].tabIndex = one.id === id ? 0 : -1;
        one.panel.hidden = one.id !== id;
      });
    },
    badge(id, text) {
      const badge = buttons[tabs.findIndex((one) => one.id === id)].querySelector(".badge");
      badge.hidden = !text;
      badge.textContent = text;
    },
  };
}
