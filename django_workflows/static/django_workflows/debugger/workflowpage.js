// The page of a workflow: pick one, see its graph, start a run, and find its latest runs.

import { h } from "./dom.js";
import { moment, short } from "./format.js";
import { createForm } from "./form.js";
import { createGraph } from "./graph.js";
import { empty, failure, loading, statusLabel } from "./pieces.js";
import { listRuns } from "./runlist.js";

const RECENT = 8;
// The list of workflows gets a filter from so many on.
const MANY = 9;

export function createPage(app, state) {
  const list = h("ul", {});
  const filter = h("input", { type: "search", placeholder: "Filter workflows", "aria-label": "Filter workflows", oninput: () => showNames() });
  const picker = h("nav", { class: "panel picker", "aria-label": "Workflows" }, h("h2", { text: "Workflows" }), filter, list);
  const content = h("div", { class: "workflow-content" }, loading("Loading the workflows…"));
  const element = h("div", { class: "page workflow-page" }, picker, content);
  let names = [];
  let current = null;
  let graph = null;
  let form = null;
  let closed = false;
  let polling = null;
  const forget = [app.shortcuts.add("f", "Show all of the graph", () => graph?.fit())];

  start();

  async function start() {
    try {
      names = await app.api.workflows();
    } catch (error) {
      content.replaceChildren(failure(error, start));
      return;
    }
    if (!closed) update(app.state);
  }

  function update(next) {
    if (!names.length) {
      picker.hidden = true;
      app.title("");
      content.replaceChildren(empty("No workflow is served yet",
        "Name one in DJANGO_WORKFLOWS[\"WORKFLOWS\"] in the site's settings, or register it in an app's workflows.py, and restart the server."));
      return;
    }
    const name = next.workflow ?? names[0];
    showNames(name);
    app.title(name);
    const key = `${name} ${next.again ?? ""}`;
    if (key === current) {
      graph?.select(next.step);
      return;
    }
    current = key;
    show(name, next);
  }

  function showNames(name = app.state.workflow ?? names[0]) {
    filter.hidden = names.length < MANY;
    const wanted = names.filter((one) => one.toLowerCase().includes(filter.value.trim().toLowerCase()));
    list.replaceChildren(...wanted.map((one) =>
      h("li", {}, app.link({ view: "workflow", workflow: one }, { text: one, "aria-current": one === name ? "page" : null }))));
    // On a narrow window the list is a row that scrolls.
    const [here] = list.querySelectorAll("[aria-current=page]");
    if (here) list.parentElement.scrollLeft = here.offsetLeft - list.parentElement.clientWidth / 2;
    if (!wanted.length) list.append(h("li", { class: "hint", text: "None has this name." }));
  }

  async function show(name, next) {
    stop();
    content.replaceChildren(loading(`Loading ${name}…`));
    let found;
    try {
      const again = next.again ? app.api.context(next.again) : null;
      found = await Promise.all([app.api.representation(name), app.api.schema(name), again]);
    } catch (error) {
      if (!closed) content.replaceChildren(error.status === 404 ? missing(name) : failure(error, () => show(name, next)));
      return;
    }
    if (closed || current !== `${name} ${next.again ?? ""}`) return;
    const [representation, schema, again] = found;
    const canvas = h("div", { class: "graph-space" });
    const fields = h("div", {});
    const recent = h("div", { class: "recent" });
    content.replaceChildren(
      h("section", { class: "panel graph-panel", "aria-labelledby": "workflow-name" },
        h("header", {}, h("h1", { id: "workflow-name", text: name }), h("p", { class: "hint", text: summary(representation) })), canvas),
      h("div", { class: "side" },
        h("section", { class: "panel", "aria-labelledby": "start" }, h("h2", { id: "start", text: again ? "Run again" : "Start a run" }),
          again && h("p", { class: "hint" }, "With the input of ", app.link({ view: "run", run: next.again }, { text: short(next.again) }), ". Change it as you like."), fields),
        h("section", { class: "panel", "aria-labelledby": "recent" },
          h("header", {}, h("h2", { id: "recent", text: "Latest runs" }), app.link({ view: "runs", workflow: name }, { text: "All runs" })), recent)));
    graph = createGraph(canvas, { storageKey: `django_workflows.graph.${name}`,
      onSelect: (id) => id !== app.state.step && app.change({ workflow: name, step: id }, { replace: true }) });
    graph.show(representation);
    graph.select(next.step);
    form = createForm(fields, schema.start, { initial: again?.start_event.value, submitLabel: again ? "Run again" : "Run",
      onSubmit: (value) => run(name, value) });
    showRecent(name, recent);
  }

  /** What stands where asking again cannot help: a link may lead to what is gone. */
  function missing(name) {
    const text = (what) => ({ class: "button", text: what });
    if (names.includes(name)) {
      return empty("The run to begin from does not exist", "It was deleted, or you may not see it.", app.link({ view: "workflow", workflow: name }, text("Start a new run")));
    }
    return empty("This workflow does not exist", `“${name}” is not served any more, or you may not see it.`,
      h("div", { class: "actions" }, app.link({ view: "workflow" }, text("All workflows")), app.link({ view: "runs", workflow: name }, text("Its runs"))));
  }

  async function run(name, value) {
    form.setBusy(true);
    try {
      const handler = await app.api.start(name, value);
      app.notices.announce(`Run ${handler.handler_id} has started`);
      app.go({ view: "run", run: handler.handler_id });
    } catch (error) {
      form.setErrors(error.problems);
    } finally {
      form?.setBusy(false);
    }
  }

  async function showRecent(name, into) {
    if (!document.hidden || !into.firstChild) try {
      const { handlers } = await listRuns(app.api, { workflow: name, limit: RECENT });
      if (closed || !into.isConnected) return;
      into.replaceChildren(handlers.length ? h("ul", {}, ...handlers.map(item)) : h("p", { class: "hint", text: "None yet. Start the first one with the form above." }));
    } catch (error) {
      if (!into.firstChild) into.replaceChildren(failure(error));
    }
    polling = setTimeout(() => showRecent(name, into), 3000);
  }

  const item = (one) => h("li", {}, statusLabel(one.status), app.link({ view: "run", run: one.handler_id }, { class: "id", text: one.handler_id }),
    h("time", { datetime: one.started_at, text: moment(one.started_at) }));

  function stop() {
    clearTimeout(polling);
    graph?.destroy();
    form?.destroy();
    graph = form = null;
  }

  return {
    element,
    update,
    destroy() {
      closed = true;
      stop();
      for (const one of forget) one();
    },
  };
}

function summary({ graph }) {
  const steps = graph.nodes.filter((node) => node.node_type === "step").length;
  return [graph.description, `${steps} ${steps === 1 ? "step" : "steps"}`].filter(Boolean).join(" · ");
}
