// The list of runs: filtered, page by page, and as live as it can be with a page at a time.

import { ask } from "./dialogs.js";
import { h, uid } from "./dom.js";
import { duration, elapsed, moment } from "./format.js";
import { empty, failure, loading, statusLabel } from "./pieces.js";
import { listRuns } from "./runlist.js";

const STATUSES = ["waiting", "running", "completed", "failed", "cancelled"];
const SPANS = { "": "any time", "15m": "the last 15 minutes", "1h": "the last hour", "1d": "the last 24 hours", "7d": "the last 7 days", "30d": "the last 30 days" };
const UNITS = { m: 60e3, h: 3600e3, d: 86400e3 };
const PAGE = 50;
// Milliseconds between two looks at the page, and after the last letter of the text that is looked for.
const AGAIN = 3000;
const TYPED = 300;

/** The moment that a span of the filter begins at, as the API takes it; to the minute, so that it does not jump. */
export function since(span, now = Date.now()) {
  const [, number, unit] = /^(\d{1,4})([mhd])$/.exec(span ?? "") ?? [];
  return number ? new Date(Math.floor((now - number * UNITS[unit]) / 60e3) * 60e3).toISOString() : null;
}

export function createPage(app, state) {
  const chosen = new Set();
  // The cursors of the pages before this one.
  let trail = [];
  let asked = null;
  let shown = "";
  let filters = null;
  let closed = false;
  let typing = null;
  const boxes = STATUSES.map((one) => h("label", { class: "chip" }, h("input", { type: "checkbox", value: one, onchange: filter }), statusLabel(one)));
  const ids = { workflow: uid("workflow"), since: uid("since"), q: uid("id") };
  const workflow = h("select", { id: ids.workflow, onchange: filter }, h("option", { value: "", text: "every workflow" }));
  const span = h("select", { id: ids.since, onchange: filter }, ...Object.entries(SPANS).map(([value, text]) => h("option", { value, text })));
  const text = h("input", { id: ids.q, type: "search", placeholder: "beginning of an id", oninput: () => (clearTimeout(typing), (typing = setTimeout(() => filter({}), TYPED))) });
  const field = (name, label, control) => h("div", { class: "field" }, h("label", { for: ids[name], text: label }), control);
  const compare = h("button", { type: "button", class: "button", text: "Compare", disabled: true, title: "Select two runs", onclick: () => app.go({ view: "compare", a: [...chosen][0], b: [...chosen][1] }) });
  const remove = h("button", { type: "button", class: "button danger quiet", text: "Delete…", disabled: true, onclick: destroyRuns });
  const body = h("div", { class: "panel runs-panel" }, loading("Loading the runs…"));
  const back = h("button", { type: "button", class: "button", text: "← Newer", onclick: () => turn(trail.at(-1) ?? null, trail.slice(0, -1)) });
  const on = h("button", { type: "button", class: "button", text: "Older →", onclick: () => turn(next, [...trail, app.state.cursor]) });
  const pages = h("nav", { class: "pages", "aria-label": "Pages of the list" }, back, on);
  let next = null;
  const element = h("div", { class: "page runs-page" },
    h("header", { class: "page-head" }, h("h1", { text: "Runs" }), h("div", { class: "actions" }, compare, remove)),
    h("form", { class: "filters", role: "search", "aria-label": "Filter the runs", onsubmit: (event) => event.preventDefault() },
      h("fieldset", { class: "chips" }, h("legend", { text: "Status" }), ...boxes), field("workflow", "Workflow", workflow), field("since", "Started in", span), field("q", "Id begins with", text)),
    body, pages);
  const forget = [app.shortcuts.add("/", "Look for an id", () => text.focus()),
    app.shortcuts.add("n", "Older runs", () => on.disabled || on.click()), app.shortcuts.add("p", "Newer runs", () => back.disabled || back.click())];
  app.title("Runs");
  app.api.workflows().then((names) => {
    const missing = app.state.workflow && !names.includes(app.state.workflow) ? [app.state.workflow] : [];
    workflow.append(...[...names, ...missing].map((one) => h("option", { value: one, text: one })));
    workflow.value = app.state.workflow ?? "";
  }, () => {});
  const clock = setInterval(() => document.hidden || load(), AGAIN);
  update(state);

  function filter({ target }) {
    trail = [];
    // Those that wait are among those that run, and asked for alone.
    if (target?.type === "checkbox") {
      for (const { firstChild: box } of boxes) if (box !== target && (box.value === "waiting") !== (target.value === "waiting")) box.checked = false;
    }
    const status = boxes.map((box) => box.firstChild).filter((box) => box.checked).map((box) => box.value);
    app.change({ status, workflow: workflow.value, since: span.value, q: text.value.trim(), cursor: null }, { replace: true });
  }

  function turn(cursor, before) {
    trail = before;
    app.change({ cursor });
    element.scrollIntoView({ block: "start" });
  }

  function update(to) {
    for (const box of boxes) box.firstChild.checked = to.status.includes(box.firstChild.value);
    workflow.value = to.workflow ?? "";
    span.value = to.since ?? "";
    if (document.activeElement !== text) text.value = to.q ?? "";
    const now = JSON.stringify([to.status, to.workflow, to.since, to.q, to.cursor]);
    if (now !== filters) {
      filters = now;
      shown = "";
      load();
    }
  }

  async function load() {
    asked?.abort();
    const mine = (asked = new AbortController());
    const { status, workflow: name, q, cursor } = app.state;
    try {
      const page = await listRuns(app.api, { status, workflow: name, since: since(app.state.since), q, cursor, limit: PAGE }, mine.signal);
      if (!closed && mine === asked) show(page);
    } catch (error) {
      if (closed || error.name === "AbortError" || mine !== asked) return;
      if (!shown) body.replaceChildren(failure(error, load));
    }
  }

  function show({ handlers, next_cursor: cursor }) {
    next = cursor;
    back.disabled = !app.state.cursor;
    on.disabled = !cursor;
    pages.hidden = back.disabled && on.disabled;
    const key = JSON.stringify(handlers.map((one) => [one.handler_id, one.run_id, one.status]));
    if (key === shown) return tick(handlers);
    shown = key;
    if (!handlers.length) {
      body.replaceChildren(nothing());
      return;
    }
    const focused = document.activeElement?.closest?.("tr")?.dataset.id;
    const rows = handlers.map(row);
    body.replaceChildren(h("table", { class: "runs" }, h("caption", { class: "visually-hidden", text: "Runs, newest first" }),
      h("thead", {}, h("tr", {}, ...["Select", "Status", "Run", "Workflow", "Started", "Took"].map((one, at) => h("th", { scope: "col" }, at ? one : h("span", { class: "visually-hidden", text: one }))))),
      h("tbody", {}, ...rows)));
    if (focused) rows.find((one) => one.dataset.id === focused)?.querySelector("a").focus();
    choose();
  }

  function nothing() {
    const { status, workflow: name, since: from, q, cursor } = app.state;
    if (status.length || name || from || q || cursor) return empty("No run fits", "Loosen the filter, or look at all runs.", app.link({ view: "runs" }, { class: "button", text: "All runs" }));
    return empty("No run yet", "Pick a workflow and start one; it will be listed here.", app.link({ view: "workflow" }, { class: "button primary", text: "Workflows" }));
  }

  function row(one) {
    const box = h("input", { type: "checkbox", "aria-label": `Select ${one.handler_id}`, onchange: () => (box.checked ? chosen.add(one.handler_id) : chosen.delete(one.handler_id), choose()) });
    box.checked = chosen.has(one.handler_id);
    return h("tr", { "data-id": one.handler_id }, h("td", { class: "select" }, box), h("td", { class: "cell-status" }, statusLabel(one.status)),
      h("td", { class: "cell-id" }, app.link({ view: "run", run: one.handler_id }, { class: "id", text: one.handler_id })),
      h("td", { class: "cell-workflow" }, app.link({ view: "workflow", workflow: one.workflow_name }, { text: one.workflow_name })),
      h("td", { class: "cell-started" }, h("time", { datetime: one.started_at, title: one.started_at, text: moment(one.started_at) })),
      h("td", { class: "cell-took", text: duration(elapsed(one)) }));
  }

  function tick(handlers) {
    for (const one of handlers) {
      if (!["running", "waiting"].includes(one.status)) continue;
      const cell = [...body.querySelectorAll("tr")].find((tr) => tr.dataset.id === one.handler_id)?.querySelector(".cell-took");
      if (cell) cell.textContent = duration(elapsed(one));
    }
  }

  function choose() {
    compare.disabled = chosen.size !== 2;
    compare.title = chosen.size === 2 ? "Compare the two" : "Select two runs to compare them";
    remove.disabled = !chosen.size;
    remove.textContent = chosen.size ? `Delete ${chosen.size}…` : "Delete…";
  }

  async function destroyRuns() {
    const all = [...chosen];
    const question = { title: all.length === 1 ? "Delete this run?" : `Delete ${all.length} runs?`, danger: true, action: all.length === 1 ? "Delete the run" : "Delete the runs",
      text: `${all.slice(0, 5).join(", ")}${all.length > 5 ? " and others" : ""}. What still runs is cancelled first. Events, state and results are deleted for good.` };
    if (!(await ask(question))) return;
    for (const id of all) {
      try {
        await app.api.delete(id);
        chosen.delete(id);
      } catch (error) {
        app.notices.warn(`${id}: ${error.message}`);
      }
    }
    shown = "";
    choose();
    load();
  }

  return {
    element,
    update,
    destroy() {
      closed = true;
      asked?.abort();
      clearInterval(clock);
      for (const one of forget) one();
    },
  };
}
