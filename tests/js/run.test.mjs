import assert from "node:assert/strict";
import { test } from "node:test";
import { fixture, load } from "./parts.mjs";

const { executions } = await load("executions.js");
const { lanes } = await load("lanes.js");
const { edgeKey, progress } = await load("progress.js");
const { describe, ticks } = await load("timeline.js");
const { kindOf, outline, KINDS } = await load("shapes.js");
const { failureOf } = await load("values.js");
const { coverage, differences, firstDifference, timeDifferences } = await load("compare.js");

// Recorded from a workflow that fans out to two workers, collects, fails twice, asks, and waits in a step.
const { graph, completed, failed } = fixture("runs.json");
const upTo = (type, nth = 0) => completed.slice(0, completed.filter((record) => record.event.type === type)[nth].sequence + 1);
const statuses = (records, step) => executions(records).bars.filter((bar) => bar.step === step).map((bar) => bar.status);
let clock = 0;
const record = (type, value, types = []) => ({ sequence: clock, time: (clock += 1) * 1000, event: { type, value, types } });
const change = (name, state, { input = "Go", output = null, worker = "0" } = {}) => record("StepStateChanged", { name, step_state: state,
  worker_id: worker, input_event_name: state === "not_running" ? `<class 'shop.${input}'>` : input, output_event_name: output });

test("a lane for each step, in the order of their first execution", () => {
  const run = lanes(completed);
  assert.deepEqual(run.lanes.map((lane) => [lane.step, lane.bars.length, lane.rows]),
    [["fan", 1, 1], ["work", 5, 2], ["gather", 1, 1], ["flaky", 4, 1], ["answered", 2, 1]]);
  assert.equal(run.outcome, "completed");
  assert.equal(run.from, Date.parse(completed[0].time));
  assert.equal(run.to, Date.parse(completed.at(-1).time));
  for (const lane of run.lanes) {
    for (const bar of lane.bars) assert.ok(bar.start <= bar.end);
    for (const [i, one] of lane.bars.entries()) {
      for (const other of lane.bars.slice(i + 1)) assert.ok(one.row !== other.row || one.end <= other.start, "bars overlap");
    }
  }
});

test("retries, waits and queues are told apart", () => {
  assert.deepEqual(statuses(completed, "flaky"), ["retrying", "retrying", "done", "done"]);
  assert.deepEqual(statuses(completed, "answered"), ["waiting", "done"]);
  const { bars } = executions(completed);
  assert.deepEqual(bars.filter((bar) => bar.step === "flaky").map((bar) => bar.attempt), [1, 2, 3, 1]);
  assert.equal(bars.filter((bar) => bar.step === "work" && bar.queuedAt !== null).length, 3);
  assert.equal(bars.find((bar) => bar.step === "gather").input, "CollectionReleaseEvent");
});

test("the last attempt of a run that failed has failed", () => {
  assert.deepEqual(statuses(failed, "flaky"), ["retrying", "retrying", "retrying", "failed"]);
  assert.equal(executions(failed).outcome, "failed");
});

test("why a run has failed is in its events", () => {
  assert.deepEqual(failureOf(failed), { type: "RuntimeError", step: "flaky", message: "not yet 3" });
  assert.equal(failureOf(completed), null);
});

test("a run that is going on has open bars", () => {
  const begun = completed.slice(0, 4);
  assert.deepEqual(statuses(begun, "work"), ["running", "running"]);
  assert.equal(executions(begun).bars.at(-1).end, null);
  assert.deepEqual(executions(completed.slice(0, 7)).queued.map(({ step, input }) => `${step} ${input}`), Array(3).fill("work Item"));
  assert.equal(executions(begun).outcome, null);
});

test("a step between two attempts is retrying, and one that asks is waiting before the run is idle", () => {
  const first = completed.find((one) => one.event.value.name === "flaky" && one.event.value.step_state === "not_running");
  assert.deepEqual(statuses(completed.slice(0, first.sequence + 1), "flaky"), ["retrying"]);
  assert.deepEqual(statuses(upTo("InputRequiredEvent"), "answered"), ["waiting"]);
});

test("a process that died leaves an attempt that is repeated", () => {
  clock = 0;
  const run = [change("a", "running"), change("a", "running"), change("a", "not_running", { output: "<class 'shop.Done'>" })];
  assert.deepEqual(executions(run).bars.map((bar) => [bar.status, bar.attempt, bar.start, bar.end]),
    [["retrying", 1, 1000, 2000], ["done", 2, 2000, 3000]]);
});

test("a step whose failure is caught by another has failed; what a cancelled run was doing is cancelled", () => {
  clock = 0;
  const caught = [change("a", "running"), change("a", "not_running"), change("rescue", "running", { input: "StepFailedEvent" })];
  assert.deepEqual(statuses(caught, "a"), ["failed"]);
  clock = 0;
  const cancelled = [change("a", "running"), change("b", "running"), change("b", "not_running"), record("WorkflowIdleEvent", {}),
    record("WorkflowCancelledEvent", {}, ["StopEvent"])];
  assert.deepEqual([statuses(cancelled, "a"), statuses(cancelled, "b"), executions(cancelled).outcome],
    [["cancelled"], ["cancelled"], "cancelled"]);
});

test("records without times have lanes too, and none make none", () => {
  const run = lanes(completed.map(({ time: _, ...other }) => other));
  assert.deepEqual([run.from, run.to], [null, null]);
  assert.deepEqual(lanes([]), { lanes: [], from: null, to: null, outcome: null });
});

// --- progress -------------------------------------------------------------------------------------------

test("a completed run marks its nodes done, with counts for the fan-out", () => {
  const { nodes, edges } = progress(completed, { graph });
  assert.deepEqual(nodes.work, { status: "done", count: 5, running: 0 });
  assert.deepEqual([nodes.Go, nodes.Item, nodes.Done, nodes.Flaky, nodes.Ask, nodes.Answer, nodes.StopEvent].map((node) => node.count),
    [1, 5, 5, 2, 1, 1, 1]);
  assert.equal(nodes.external_step.status, "done");
  assert.equal(nodes.flaky.count, 2);
  const count = (source, target) => edges[edgeKey(source, target)]?.count;
  assert.deepEqual([count("Go", "fan"), count("fan", "Item"), count("Item", "work"), count("work", "Done"), count("Done", "gather"),
    count("gather", "Flaky"), count("Flaky", "flaky"), count("flaky", "Flaky"), count("flaky", "Ask"), count("Ask", "external_step"),
    count("external_step", "Answer"), count("Answer", "answered")], [1, 5, 5, 5, 5, 1, 2, 1, 1, 1, 1, 1]);
  assert.ok(!Object.keys(nodes).some((id) => id.startsWith("resource")));
});

test("steps light up as they run, retry, wait and fail", () => {
  const begun = progress(completed.slice(0, 7), graph);
  assert.deepEqual(begun.nodes.work, { status: "running", count: 5, running: 2 });
  assert.equal(begun.nodes.StopEvent, undefined);
  assert.deepEqual(begun.edges[edgeKey("Item", "work")], { count: 5, active: true });
  assert.equal(begun.nodes.Item.count, 5);
  assert.equal(progress(upTo("WorkflowIdleEvent"), graph).nodes.external_step.status, "waiting");
  assert.equal(progress(upTo("WorkflowIdleEvent", 1), graph).nodes.answered.status, "waiting");
  const end = progress(failed, graph).nodes;
  assert.deepEqual([end.flaky.status, end.StopEvent.status, end.work.status], ["failed", "failed", "done"]);
});

test("nothing has happened in an empty log", () => {
  assert.deepEqual(progress([], graph), { nodes: {}, edges: {} });
});

test("ten thousand events are judged in no time", () => {
  clock = 0;
  const many = Array.from({ length: 3400 }, () => [change("fan", "running"), record("Tick", {}), change("fan", "not_running", { output: "<class 'x.Item'>" })]).flat();
  const begin = performance.now();
  progress(many, graph);
  assert.ok(performance.now() - begin < 500);
});

// --- timeline, shapes -----------------------------------------------------------------------------------

test("the ticks of the axis are round, and as many as there is room for", () => {
  assert.deepEqual(ticks(5200, 6), [0, 1000, 2000, 3000, 4000, 5000]);
  assert.deepEqual(ticks(95_000, 5), [0, 30_000, 60_000, 90_000]);
  for (const span of [10, 999, 4e4, 7e6, 3e8, 9e11]) assert.ok(ticks(span, 8).length <= 9, `${span}`);
});

test("a bar says what it was", () => {
  const bar = executions(completed).bars.find((one) => one.step === "flaky" && one.attempt === 2);
  assert.match(describe(bar, 0), /^flaky · failed, was tried again · \d+ ms · attempt 2 · Flaky$/);
});

test("each kind of node has an outline of its own", () => {
  const kinds = Object.fromEntries(graph.nodes.map((node) => [node.id, kindOf(node)]));
  assert.deepEqual([kinds.fan, kinds.Go, kinds.Item, kinds.Ask, kinds.Answer, kinds.external_step, kinds.StopEvent],
    ["step", "start", "event", "human", "external", "outside", "stop"]);
  assert.equal(kindOf({ node_type: "agent" }), "other");
  const outlines = Object.keys(KINDS).map((kind) => outline(kind, 100, 38));
  assert.equal(new Set(outlines).size, outlines.length);
});

// --- comparison -----------------------------------------------------------------------------------------

test("a run is the same as itself an hour later, under other ids", () => {
  const later = completed.map((one) => ({ ...one, sequence: one.sequence + 5, time: "2027-01-01T00:00:00Z" }));
  assert.equal(firstDifference(completed, later), null);
  const withId = (id, at) => [{ sequence: 0, event: { type: "Paid", value: { order_id: id, at, amount: 3 } } }];
  assert.equal(firstDifference(withId("a1", "2026-01-01T10:00:00Z"), withId("b2", "2026-01-01T11:00:00Z")), null);
});

test("the first difference is found, with its place in the event", () => {
  const other = structuredClone(completed);
  other.find((one) => one.event.value.what === "item 3").event.value.what = "item X";
  const found = firstDifference(completed, other);
  assert.deepEqual(found.differences, [{ path: "value.what", a: "item 3", b: "item X" }]);
  assert.equal(found.index, 3);
  const shorter = firstDifference(completed, completed.slice(0, -1));
  assert.deepEqual([shorter.a.event.type, shorter.b], ["StopEvent", null]);
  assert.equal(firstDifference(completed, failed).index, 3);
});

test("results are compared in all places, kinds of containers included", () => {
  assert.deepEqual(differences({ a: 1, b: [1, 2], c: {} }, { a: 1, b: [1, 3, 4], c: [] }), [
    { path: "b.1", a: 2, b: 3 }, { path: "b.2", a: undefined, b: 4 }, { path: "c", a: {}, b: [] }]);
  assert.deepEqual(differences("x", "y"), [{ path: "", a: "x", b: "y" }]);
  assert.deepEqual(differences({ id: 1 }, { id: 2 }), []);
  assert.equal(differences({ id: 1 }, { id: 2 }, { strict: true }).length, 1);
  assert.deepEqual(differences(null, null), []);
});

test("coverage and times of two runs are set side by side", () => {
  const nodes = new Map(coverage(completed, failed, graph).map((node) => [node.id, node]));
  assert.deepEqual([nodes.get("work").a, nodes.get("work").b], [5, 3]);
  assert.deepEqual([nodes.get("Ask").a, nodes.get("Ask").b], [1, 0]);
  const times = timeDifferences(completed, failed);
  assert.equal(times[0].step, "work");
  assert.ok(times[0].difference < 0);
  assert.equal(times.find(({ step }) => step === "answered").b, null);
  assert.deepEqual([times.find(({ step }) => step === "flaky").a.retries, times.find(({ step }) => step === "flaky").b.retries], [2, 3]);
});
