// Two runs side by side: how they ended, where they went, where the time went, and where they first differ.

import { coverage, differences, firstDifference, timeDifferences } from "./compare.js";
import { h, uid } from "./dom.js";
import { duration, elapsed, moment } from "./format.js";
import { createGraph } from "./graph.js";
import { failure, loading, statusLabel } from "./pieces.js";
import { progress } from "./progress.js";
import { Run } from "./run.js";
import { createTimeline } from "./timeline.js";
import { createTree } from "./tree.js";

const CHOICES = 30;

export function createPage(app, state) {
  const body = h("div", { class: "compare-body" });
  const element = h("div", { class: "page compare-page" }, h("header", { class: "page-head" }, h("h1", { text: "Compare two runs" })), body);
  const parts = [];
  const runs = [];
  let closed = false;
  let drawing = null;
  app.title("Compare");
  if (state.a && state.b) start();
  else pick();

  /** Let the reader say which two. */
  async function pick(problem = null) {
    const list = uid("runs");
    const field = (label, value) => {
      const id = uid("run");
      const input = h("input", { id, list, value, required: true, spellcheck: "false", autocomplete: "off" });
      return { input, element: h("div", { class: "field" }, h("label", { for: id, text: label }), input) };
    };
    const [one, other] = [field("The one run", state.a ?? ""), field("The other run", state.b ?? "")];
    const options = h("datalist", { id: list });
    const submit = (event) => {
      event.preventDefault();
      app.go({ view: "compare", a: one.input.value.trim(), b: other.input.value.trim() });
    };
    body.replaceChildren(h("form", { class: "panel pick", onsubmit: submit }, one.element, other.element, h("button", { type: "submit", class: "button primary", text: "Compare" })),
      options, problem ?? h("p", { class: "hint", text: "Two runs of the same workflow compare best. You can also select them in the list of runs." }));
    try {
      const workflow = state.a ? (await app.api.context(state.a)).handler.workflow_name : null;
      const { listRuns } = await import("./runlist.js");
      const { handlers } = await listRuns(app.api, { workflow, limit: CHOICES });
      options.append(...handlers.filter((run) => run.handler_id !== state.a).map((run) => h("option", { value: run.handler_id, label: `${run.workflow_name}, ${run.status}, ${moment(run.started_at)}` })));
    } catch {
      // The ids can be written without suggestions.
    }
  }

  function start() {
    body.replaceChildren(loading("Loading both runs…"));
    for (const id of [state.a, state.b]) {
      const run = new Run(app.api, id);
      runs.push(run);
      const on = (type, listener) => run.addEventListener(type, ({ detail }) => !closed && listener(detail));
      for (const type of ["handler", "events", "times", "connection", "begin"]) on(type, soon);
      on("gone", () => stop(failure(new Error(`There is no run ${id}, or you may not see it.`), null, "One of the runs is not there")));
      on("error", (error) => stop(failure(error, () => location.reload())));
      run.open();
    }
  }

  function stop(problem) {
    drop();
    pick(problem);
  }

  function drop() {
    clearTimeout(drawing);
    for (const run of runs) run.close();
    for (const one of parts.splice(0)) one.destroy?.();
  }

  // Everything is read before it is compared; a run that goes on is compared anew as it does.
  function soon() {
    if (runs.some((run) => !run.handler || run.connection === "connecting")) return;
    drawing ??= setTimeout(() => {
      drawing = null;
      if (!closed) draw();
    }, 300);
  }

  async function draw() {
    const [a, b] = runs;
    const graphs = await Promise.all(runs.map((run) => app.api.representation(run.handler.workflow_name).catch(() => null)));
    if (closed) return;
    for (const one of parts.splice(0)) one.destroy?.();
    const pair = (make) => h("div", { class: "compare-pair" }, ...runs.map(make));
    body.replaceChildren(pair(facts), difference(a, b), h("div", { class: "compare-pair" }, inputs(a, b), coverageTable(a, b, graphs[0])), times(a, b),
      pair((run, at) => course(run, graphs[at])));
  }

  function difference(a, b) {
    const found = firstDifference(a.events, b.events);
    const panel = h("section", { class: "panel difference", "aria-labelledby": "difference" }, h("h2", { id: "difference", text: "First difference of the event logs" }));
    if (!found) {
      panel.append(h("p", { text: "None: both logs tell the same, apart from times and ids." }));
      return panel;
    }
    const event = (run, record) => h("div", {}, h("p", { class: "hint" }, app.link({ view: "run", run: run.id, event: record?.sequence }, { class: "id", text: run.id })),
      record ? h("pre", { text: `${record.sequence}  ${record.event.type}\n${JSON.stringify(record.event.value, null, 2)}` }) : h("p", { text: "has no more events." }));
    panel.append(h("p", { text: `Event ${found.index + 1} of those that the workflow tells:` }), h("div", { class: "compare-pair" }, event(a, found.a), event(b, found.b)), changes(found.differences));
    return panel;
  }

  function inputs(a, b) {
    const panel = h("section", { class: "panel", "aria-labelledby": "inputs" }, h("h2", { id: "inputs", text: "Inputs" }));
    const found = differences(a.context.start_event.value, b.context.start_event.value, { strict: true });
    panel.append(found.length ? changes(found) : h("p", { text: "The same." }));
    return panel;
  }

  const text = (value) => (value === undefined ? "–" : JSON.stringify(value));
  const table = (label, heads, rows) => h("table", { class: "data" }, h("caption", { class: "visually-hidden", text: label }),
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col", text: head })))), h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", { text: cell }))))));
  const changes = (found) => (found.length ? table("Differences", ["Field", state.a, state.b], found.map(({ path, a, b }) => [path || "(all)", text(a), text(b)])) : "");

  function coverageTable(a, b, representation) {
    const panel = h("section", { class: "panel", "aria-labelledby": "coverage" }, h("h2", { id: "coverage", text: "Where they went" }));
    const rows = representation ? coverage(a.events, b.events, representation).filter((one) => one.a !== one.b) : [];
    panel.append(rows.length ? table("Coverage of the graph", ["Node", state.a, state.b], rows.map((one) => [one.label, `${one.a} ×`, `${one.b} ×`])) : h("p", { text: "Both came by the same nodes, equally often." }));
    return panel;
  }

  function times(a, b) {
    const cell = (side) => (side ? `${duration(side.busy)}${side.count > 1 ? ` in ${side.count} executions` : ""}${side.retries ? `, ${side.retries} retried` : ""}` : "–");
    const rows = timeDifferences(a.events, b.events).map((one) => [one.step, cell(one.a), cell(one.b), `${one.difference < 0 ? "−" : "+"}${duration(Math.abs(one.difference))}`]);
    return h("section", { class: "panel", "aria-labelledby": "times" }, h("h2", { id: "times", text: "Where the time went" }), table("Time of the steps", ["Step", state.a, state.b, "Difference"], rows));
  }

  function facts(run) {
    const { handler } = run;
    const result = h("div", {});
    if (handler.result) createTree(result, handler.result.value, { label: "Result" });
    else result.append(handler.error ? h("pre", { text: handler.error }) : h("p", { class: "hint", text: "None yet." }));
    const fact = (name, value) => [h("dt", { text: name }), h("dd", {}, value)];
    return h("section", { class: "panel", "aria-label": `Run ${run.id}` }, h("h2", {}, app.link({ view: "run", run: run.id }, { class: "id", text: run.id })),
      h("dl", { class: "facts" }, ...fact("Status", statusLabel(handler.status)), ...fact("Workflow", handler.workflow_name), ...fact("Started", moment(handler.started_at)),
        ...fact("Took", duration(elapsed(handler, run.now))), ...fact(handler.error ? "Error" : "Result", result)));
  }

  /** A run's graph and timeline. */
  function course(run, representation) {
    const canvas = h("div", { class: "graph-space" });
    const timeline = h("div", {});
    const place = h("section", { class: "compare-side", "aria-label": `Course of ${run.id}` },
      h("div", { class: "panel graph-panel" }, h("header", {}, h("h2", { class: "id", text: run.id })), canvas), h("div", { class: "panel" }, timeline));
    // They measure the room that they have.
    requestAnimationFrame(() => {
      if (closed || !place.isConnected) return;
      if (representation) {
        const graph = createGraph(canvas);
        graph.show(representation);
        const { nodes, edges } = progress(run.events, representation, run.handler.status);
        graph.mark(nodes, edges);
        parts.push(graph);
      }
      const bars = createTimeline(timeline);
      bars.show(run.events, { from: Date.parse(run.handler.started_at), now: run.now });
      parts.push(bars);
    });
    return place;
  }

  return {
    element,
    update() {},
    destroy() {
      closed = true;
      drop();
    },
  };
}
