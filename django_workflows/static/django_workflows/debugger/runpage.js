// The page of a run: how it stands, its graph lighting up, its events, times and state, and what can be done with it.

import { TABS } from "./address.js";
import { h } from "./dom.js";
import { executions } from "./executions.js";
import { duration, elapsed, moment } from "./format.js";
import { createGraph } from "./graph.js";
import { copyButton, createTabs, empty, failure, loading, statusLabel } from "./pieces.js";
import { progress } from "./progress.js";
import { Run } from "./run.js";

const CONNECTIONS = {
  connecting: ["Connecting…", "The page is reading the run's events."],
  live: ["Live", "Events are shown as they are stored."],
  reconnecting: ["Reconnecting…", "The connection is gone. It is tried again by itself, and nothing will be missing."],
  ended: ["", "The run has ended; all of its events are here."],
  lost: ["Disconnected", "The connection was refused. Reload the page to try again."],
};
const NAMES = { events: "Events", timeline: "Timeline", state: "State", answer: "Send event", input: "Input" };
// Milliseconds between two drawings of what is computed from all events, and two looks at the state.
const DRAW = 150;
const LOOK = 1000;

const graphOf = ({ representation }) => representation?.graph ?? { nodes: [], edges: [] };

export function createPage(app, state) {
  const id = state.run;
  const run = new Run(app.api, id);
  const element = h("div", { class: "page run-page" }, loading("Loading the run…"));
  let parts = null;
  let closed = false;
  let drawing = null;
  let looking = null;
  let lookedAt = 0;
  const clock = setInterval(tick, 500);
  const forget = [
    ...TABS.map((tab, at) => app.shortcuts.add(String(at + 1), `Tab: ${NAMES[tab]}`, () => app.change({ tab }, { replace: true }))),
    app.shortcuts.add("f", "Show all of the graph", () => parts?.graph.fit()),
    app.shortcuts.add("r", "Run again, with the input changed", () => parts && app.go({ view: "workflow", workflow: run.handler.workflow_name, again: id })),
    app.shortcuts.add("c", "Cancel the run", () => parts && !run.hasEnded && act("cancel")()),
    app.shortcuts.add("Escape", "Select nothing", () => app.state.event !== null || app.state.step ? app.change({ event: null, step: null }, { replace: true }) : null),
  ];
  app.title(id);
  const on = (type, listener) => run.addEventListener(type, ({ detail }) => !closed && listener(detail));
  on("handler", () => (parts ? describe() : build()));
  on("events", (records) => parts && (parts.log?.add(records), soon()));
  on("times", () => parts && (parts.log?.refresh(), soon()));
  on("connection", () => parts && connect());
  on("begin", () => parts && (parts.log?.clear(), soon()));
  on("gone", () => leave(empty("This run does not exist", "It was deleted, or you may not see it.", app.link({ view: "runs" }, { class: "button", text: "All runs" }))));
  on("error", (error) => (parts ? app.notices.warn(error.message) : leave(failure(error, () => location.reload()))));
  run.open();

  function leave(piece) {
    drop();
    element.replaceChildren(piece);
  }

  function drop() {
    clearTimeout(drawing);
    clearTimeout(looking);
    for (const one of [parts?.graph, parts?.timeline, parts?.log, parts?.prompt, parts?.answers]) one?.destroy?.();
    parts = null;
  }

  // --- what stands on it ---

  async function build() {
    const name = run.handler.workflow_name;
    let representation = null;
    let accepted = [];
    try {
      [representation, accepted] = await Promise.all([app.api.representation(name), app.api.acceptedEvents(name)]);
    } catch (error) {
      // A workflow may be served no more; its runs are still there to be read.
      if (error.status !== 404) return leave(failure(error, () => location.reload()));
    }
    if (closed || parts) return;
    const place = (className) => h("div", { class: className });
    const [canvas, events, timeline, stateTree, answers, input] = ["graph-space", "tab-events", "tab-timeline", "tab-scroll", "tab-scroll", "tab-scroll"].map(place);
    const panels = { events, timeline, state: stateTree, answer: answers, input };
    const tabs = createTabs(TABS.map((one) => ({ id: one, text: NAMES[one], panel: panels[one] })), (tab) => app.change({ tab }, { replace: true }), "What is known of the run");
    const status = h("span", {});
    const time = h("span", { class: "elapsed", title: "Elapsed time" });
    const connection = h("span", { class: "connection" });
    const actions = h("div", { class: "actions" });
    const refused = h("p", { class: "panel refused" });
    const outcome = h("div", {});
    const prompt = h("div", { hidden: true });
    const body = h("div", { class: "run-body" },
      h("section", { class: "panel graph-panel", "aria-label": "Graph" }, representation ? canvas : empty("No graph", `The workflow ${name} is not served any more.`)),
      h("section", { class: "panel tabs-panel", "aria-label": "Details" }, tabs.list, ...Object.values(panels)));
    element.replaceChildren(
      h("header", { class: "run-head" },
        h("div", { class: "run-name" }, app.link({ view: "workflow", workflow: name }, { text: name }), h("span", { "aria-hidden": "true", text: "/" }), h("h1", { class: "id", text: id }),
          copyButton(() => id, "Copy the run's id", app.notices)),
        h("div", { class: "run-facts" }, status, time, connection, ...people(run.context)), actions),
      refused, prompt, outcome, body);
    const choose = (part) => app.change(part, { replace: true });
    parts = { graph: createGraph(canvas, { storageKey: `django_workflows.graph.${name}`, onSelect: (step) => step !== app.state.step && choose({ step, event: null }) }),
      log: null,
      timeline: null,
      tabs, status, time, connection, refused, actions, outcome, place: prompt, prompt: null, representation, accepted, panels, values: null, answers: null };
    if (representation) parts.graph.show(representation);
    describe();
    connect();
    update(app.state);
    soon();
  }

  /** Whose run it is, and its page in the admin, for whom the server tells of them. */
  function people({ owner, admin_url: admin }) {
    const name = owner && (owner.url ? h("a", { href: owner.url, text: owner.name }) : owner.name);
    return [name && h("span", { class: "owner" }, "of ", name), admin && h("a", { href: admin, text: "Admin", title: "The run in the admin" })];
  }

  /** Show what the run's record says. */
  function describe() {
    const { handler } = run;
    if (!parts) return;
    tick();
    showValues();
    if (parts.described === `${handler.run_id} ${handler.status}`) return;
    parts.described = `${handler.run_id} ${handler.status}`;
    const again = app.link({ view: "workflow", workflow: handler.workflow_name, again: id }, { class: "button", text: "Edit and run…", title: "Run again, with the input changed (r)" });
    const same = h("button", { type: "button", class: "button", text: "Run again", title: "Run again at once, with the same input", onclick: act("repeat") });
    const compare = app.link({ view: "compare", a: id }, { class: "button", text: "Compare…" });
    const stop = handler.status === "running" && h("button", { type: "button", class: "button", text: "Cancel", title: "Cancel the run (c)", onclick: act("cancel") });
    const remove = h("button", { type: "button", class: "button danger quiet", text: "Delete…", onclick: act("remove") });
    parts.actions.replaceChildren(...[stop, same, again, compare, remove].filter(Boolean));
    if (run.hasEnded) app.notices.announce(`The run is ${handler.status}`);
  }

  function tick() {
    if (!parts || !run.handler) return;
    const waiting = run.handler.status === "running" && (run.waits || run.questions.length > 0);
    const key = waiting ? "waiting" : run.handler.status;
    if (parts.status.dataset.status !== key) {
      parts.status.dataset.status = key;
      parts.status.replaceChildren(statusLabel(key, waiting ? "waiting for an answer" : key));
    }
    parts.time.textContent = `${duration(elapsed(run.handler, run.now))} · ${moment(run.handler.started_at)}`;
  }

  function connect() {
    const [text, title] = CONNECTIONS[run.connection];
    parts.connection.dataset.state = run.connection;
    parts.connection.title = title;
    parts.connection.textContent = text;
    parts.connection.hidden = !text;
    if (run.connection === "reconnecting") app.notices.announce(title);
    tellWhy();
    // What could not be loaded meanwhile can be now.
    soon();
  }

  /** Show why the server gives no connection, while it does not. */
  async function tellWhy() {
    const words = run.reason && (await need(() => import("./errors.js")));
    if (!parts) return;
    parts.refused.textContent = run.reason && words ? words.interruption(run.reason) : "";
    if (parts.refused.textContent) app.notices.announce(parts.refused.textContent);
  }

  /** Draw what is computed from all events, not more often than can be seen. */
  function soon() {
    drawing ??= setTimeout(() => {
      drawing = null;
      if (parts) draw();
    }, DRAW);
    // The state changes with the steps, of which these events tell.
    if (app.state.tab === "state") lookSoon();
  }

  function draw() {
    if (parts.representation) {
      const { nodes, edges } = progress(run.events, parts.representation, run.handler.status);
      parts.graph.mark(nodes, edges);
    }
    parts.tabs.badge("events", run.events.length ? String(run.events.filter((one) => !one.internal).length) : "");
    showPrompt();
    // A run that has failed says why in its events, which may come after its record.
    if (!parts.values || run.hasEnded) showValues();
    if (app.state.tab === "answer") showAnswers();
    if (app.state.tab === "timeline") drawTimeline();
    select(app.state);
    tick();
  }

  /** Show the list of events, which is loaded when it is first looked at. */
  async function showEvents() {
    const module = parts.log ? null : await need(() => import("./eventpanel.js"));
    if (!module || parts.log) return;
    parts.log = module.createEventPanel(parts.panels.events, { name: id, notices: app.notices,
      onSelect: (event) => event !== app.state.event && app.change({ event, step: stepOf(event) }, { replace: true }) });
    parts.log.add(run.events);
    parts.selected = null;
    select(app.state);
  }

  /** Draw the timeline, which is loaded when it is first looked at. */
  async function drawTimeline() {
    const module = await need(() => import("./timeline.js"));
    if (!module) return;
    if (!parts.timeline) {
      parts.timeline = module.createTimeline(parts.panels.timeline, { onSelect: (bar) => app.change({ event: bar?.id ?? null, step: bar?.step ?? null }, { replace: true }) });
      const known = app.state.event === null ? null : recordOf(app.state.event);
      parts.timeline.select(known ? barOf(known) : null);
    }
    parts.timeline.show(run.events, { from: Date.parse(run.handler.started_at), now: run.now });
    parts.timeline.resize?.();
  }

  /** Load a module when it is first needed; null when that fails, which the next drawing tries again. */
  async function need(load) {
    try {
      const module = await load();
      return closed || !parts ? null : module;
    } catch {
      if (run.connection !== "reconnecting") app.notices.warn("A part of the page could not be loaded. Check your connection, then load the page again.");
      return null;
    }
  }

  const send = (event, step) => app.api.answer(id, event, step);

  async function showPrompt() {
    if (!parts.prompt && !run.waits && !run.questions.length) return;
    const module = await need(() => import("./answers.js"));
    if (!module) return;
    if (!parts.prompt) {
      parts.prompt = module.createPrompt({ send, onSent: sent, notices: app.notices });
      parts.place.replaceWith(parts.prompt.element);
    }
    parts.prompt.show(run, parts.accepted, graphOf(parts));
  }

  async function showAnswers() {
    if (run.hasEnded) {
      parts.answers?.destroy();
      parts.answers = null;
      parts.panels.answer.replaceChildren(empty("The run has ended", "It takes no events any more. Run it again to send it some."));
    } else if (!parts.answers) {
      const module = await need(() => import("./sendtab.js"));
      if (!module || parts.answers) return;
      parts.panels.answer.replaceChildren();
      parts.answers = module.createSendTab(parts.panels.answer, { accepted: parts.accepted, graph: graphOf(parts), send, onSent: sent });
    }
  }

  // --- input, state and outcome ---

  function lookSoon() {
    looking ??= setTimeout(() => {
      looking = null;
      lookedAt = Date.now();
      if (!closed && parts) run.look();
    }, Math.max(0, lookedAt + LOOK - Date.now()));
  }

  /** Show the run's values from when they are first to be seen: in their tabs, and when it has ended. */
  async function showValues() {
    if (!parts.values && !run.hasEnded && !["state", "input"].includes(app.state.tab)) return;
    const module = await need(() => import("./values.js"));
    if (!module) return;
    parts.values ??= module.createValues({ input: parts.panels.input, state: parts.panels.state, outcome: parts.outcome }, app.notices);
    parts.values.show(run);
  }

  // --- what is selected ---

  const recordOf = (sequence) => run.events.find((one) => one.sequence === sequence);

  /** The node of the graph that an event belongs to. */
  function stepOf(sequence) {
    const event = recordOf(sequence)?.event;
    if (!event) return null;
    const node = event.value?.step_state ? event.value.name : event.type;
    return parts.representation?.graph.nodes.some((one) => one.id === node) ? node : null;
  }

  /** Show what is selected, once it is there: an event of the URL may still be on its way. */
  function select({ event, step }) {
    const known = event === null ? (step && lastOf(step)) : recordOf(event);
    const key = `${event} ${step} ${known ? known.sequence : ""}`;
    if (key === parts.selected || (event === null && step && parts.selected?.startsWith(`null ${step}`))) return;
    parts.selected = key;
    parts.graph.select(step ?? (event === null ? null : stepOf(event)));
    parts.log?.select(known?.sequence ?? null);
    parts.timeline?.select(known ? barOf(known) : null);
  }

  const belongsTo = (step) => ({ event }) => event.type === step || (event.value?.step_state && event.value.name === step);
  const lastOf = (step) => run.events.findLast(belongsTo(step)) ?? null;

  /** The bar of the timeline that an event begins or ends. */
  function barOf({ sequence }) {
    const { bars } = executions(run.events);
    return bars.find((bar) => bar.id === sequence || bar.endSequence === sequence)?.id ?? null;
  }

  function update(next) {
    if (!parts) return;
    parts.tabs.choose(next.tab);
    if (next.tab === "events") showEvents();
    if (next.tab === "timeline") drawTimeline();
    if (next.tab === "state") lookSoon();
    showValues();
    if (next.tab === "answer") showAnswers();
    select(next);
  }

  // --- what can be done ---

  function sent(type) {
    app.notices.tell(`${type} is sent: it is stored, and the run gets it once.`);
  }

  /** Do one of actions.js, which is loaded when something is to be done. */
  const act = (name) => async () => (await need(() => import("./actions.js")))?.[name](app, run);

  return {
    element,
    update,
    destroy() {
      closed = true;
      clearInterval(clock);
      run.close();
      drop();
      for (const one of forget) one();
    },
  };
}
