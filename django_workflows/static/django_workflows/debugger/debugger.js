// The debugger's page: the URL says what is shown, and whatever changes that goes through it.

import { Api } from "./api.js";
import { read, write } from "./address.js";
import { h } from "./dom.js";
import { Notices } from "./notices.js";
import { createShell } from "./shell.js";
import { Shortcuts } from "./shortcuts.js";
import { failure, loading } from "./pieces.js";

const { base, csrf, csrfHeader, user } = document.body.dataset;
// Each module's createPage(app, state) makes {element, update(state), destroy()}; loaded when it is first needed.
// `key` is what a page is made for: with another one, it is made anew.
const PAGES = {
  workflow: { load: () => import("./workflowpage.js"), key: () => "" },
  run: { load: () => import("./runpage.js"), key: (state) => state.run },
  runs: { load: () => import("./runspage.js"), key: () => "" },
  compare: { load: () => import("./comparepage.js"), key: (state) => `${state.a} ${state.b}` },
};

const app = {
  api: new Api(base, { header: csrfHeader, token: csrf }),
  user: user === "AnonymousUser" ? "" : user,
  notices: new Notices(),
  shortcuts: new Shortcuts(),
  state: read(location.search),

  href: (state) => base + write(state),

  /** Show something else; `replace` when the way back should not lead here. */
  go(state, { replace = false } = {}) {
    const url = app.href(state);
    history[replace ? "replaceState" : "pushState"](null, "", url);
    show();
  },

  /** Change parts of what is shown. */
  change(part, options) {
    app.go({ ...app.state, ...part }, options);
  },

  /** A link that changes the page without loading it anew; in another tab it does. */
  link(state, attributes, ...children) {
    return h("a", { href: app.href(state), onclick: (event) => follow(event), ...attributes }, ...children);
  },

  title(text) {
    document.title = text ? `${text} · Workflows` : "Workflows";
  },
};

function follow(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", event.currentTarget.href);
  show();
  shell.main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

const shell = createShell(app);
let page = null;
let shown = null;

async function show() {
  const state = (app.state = read(location.search));
  const { load, key } = PAGES[state.view];
  const name = `${state.view} ${key(state)}`;
  shell.mark(state);
  if (name === shown) {
    page?.update(state);
    return;
  }
  page?.destroy();
  page = null;
  shown = name;
  shell.main.replaceChildren(loading("Loading…"));
  try {
    const { createPage } = await load();
    // Meanwhile somebody may have gone on.
    if (shown !== name) return;
    page = createPage(app, app.state);
    shell.main.replaceChildren(page.element);
  } catch (error) {
    console.error(error);
    const told = new Error("A part of the page could not be loaded. Check your connection, then load the page again.");
    shell.main.replaceChildren(failure(told, () => location.reload()));
  }
}

addEventListener("popstate", show);
document.getElementById("debugger").replaceChildren(shell.element);
show();
