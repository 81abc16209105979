// What stands around every page: the header with the ways to go, the theme's switch, and who is logged in.

import { h } from "./dom.js";

const THEMES = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "☀", dark: "☾" };

/**
 * Put the page's frame together.
 *
 * @param {{user: string, notices, shortcuts, link: (state: object, attributes: object, ...children) => HTMLElement}} app
 * @returns {{element: DocumentFragment, main: HTMLElement, mark: (state: object) => void}}
 */
export function createShell(app) {
  const main = h("main", { id: "main", tabindex: -1 });
  const workflows = app.link({ view: "workflow" }, { text: "Workflows" });
  const runs = app.link({ view: "runs" }, { text: "Runs" });
  const theme = h("button", { type: "button", class: "icon-button", onclick: next });
  const keys = h("button", { type: "button", class: "icon-button", "aria-label": "List of keys", title: "List of keys (?)",
    text: "?", onclick: listKeys });
  const header = h("header", { class: "top" },
    h("a", { class: "skip", href: "#main", text: "Skip to the content", onclick: skip }),
    app.link({ view: "workflow" }, { class: "brand", "aria-label": "Workflows, start page" }, h("span", { class: "mark", "aria-hidden": "true" }),
      h("span", { text: "Workflows" })),
    h("nav", { "aria-label": "Pages" }, workflows, runs),
    h("div", { class: "top-end" }, app.user && h("span", { class: "user", title: "Logged in as", text: app.user }), theme, keys));
  label();
  app.shortcuts.add("w", "Workflows", () => app.go({ view: "workflow" }));
  app.shortcuts.add("l", "List of runs", () => app.go({ view: "runs" }));
  app.shortcuts.add("t", "Theme: system, light, dark", next);
  app.shortcuts.add("?", "This list", listKeys);

  function next() {
    workflowsTheme.choose(THEMES[(THEMES.indexOf(workflowsTheme.chosen) + 1) % THEMES.length]);
    label();
    app.notices.announce(`Theme: ${workflowsTheme.chosen}`);
  }

  function label() {
    const chosen = THEMES.includes(workflowsTheme.chosen) ? workflowsTheme.chosen : "system";
    theme.textContent = SIGNS[chosen];
    theme.title = `Theme: ${chosen} (t)`;
    theme.setAttribute("aria-label", `Theme: ${chosen}. Switch it`);
  }

  async function listKeys() {
    const module = await import("./keylist.js").catch(() => null);
    if (module) module.showKeys(app.shortcuts);
    else app.notices.warn("The list of keys could not be loaded. Check your connection, then try again.");
  }

  // The URL is the page's state, so the link must not change it.
  function skip(event) {
    event.preventDefault();
    main.focus();
  }

  const element = document.createDocumentFragment();
  element.append(header, main, app.notices.element);
  return {
    element,
    main,
    mark(state) {
      const current = state.view === "workflow" ? workflows : runs;
      for (const one of [workflows, runs]) one.toggleAttribute("data-current", one === current);
      workflows.setAttribute("aria-current", state.view === "workflow" ? "page" : "false");
      runs.setAttribute("aria-current", state.view === "runs" ? "page" : "false");
    },
  };
}
