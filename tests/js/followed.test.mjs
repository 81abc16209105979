import assert from "node:assert/strict";
import { test } from "node:test";

import { answersTo, wording } from "../../django_workflows/static/django_workflows/debugger/answers.js";
import { Run } from "../../django_workflows/static/django_workflows/debugger/run.js";

const record = (sequence, type, value = {}, types = null) => ({
  sequence, time: "2026-01-01T00:00:00Z", internal: (types ?? []).includes("InternalDispatchEvent"), event: { type, value, types },
});
const step = (sequence, state) => record(sequence, "StepStateChanged", { name: "ask", step_state: state }, ["InternalDispatchEvent"]);
const idle = (sequence) => record(sequence, "WorkflowIdleEvent", {}, ["InternalDispatchEvent"]);
const question = (sequence) => record(sequence, "Question", { prompt: "Well?" }, ["InputRequiredEvent"]);

function run(...events) {
  const made = new Run({}, "r-1");
  made.handler = { status: "running", run_id: "1" };
  made.events = events;
  return made;
}

const asked = (made) => made.questions.map((one) => one.sequence);

test("a run waits when it is idle and nothing has begun since", () => {
  assert.equal(run().waits, false);
  assert.equal(run(step(0, "running")).waits, false);
  assert.equal(run(step(0, "running"), step(1, "not_running"), idle(2)).waits, true);
  assert.equal(run(idle(0), step(1, "running")).waits, false);
  const ended = run(idle(0));
  ended.handler.status = "completed";
  assert.equal(ended.waits, false);
});

test("the question is the one that was asked before the run began to wait", () => {
  assert.deepEqual(asked(run(step(0, "running"), question(1), step(2, "not_running"), idle(3))), [1]);
  // Answered, and at work again.
  assert.deepEqual(asked(run(question(0), idle(1), step(2, "running"))), []);
  // A second one, and then both at once.
  assert.deepEqual(asked(run(question(0), idle(1), step(2, "running"), question(3), idle(4))), [3]);
  assert.deepEqual(asked(run(question(0), question(1), idle(2))), [0, 1]);
});

test("a question is shown while other steps still work, and after a release from memory", () => {
  assert.deepEqual(asked(run(step(0, "running"), question(1))), [1]);
  assert.deepEqual(asked(run(question(0), idle(1), idle(2))), [0]);
});

test("pages are read to the end before the stream is followed", async () => {
  const log = Array.from({ length: 5 }, (_, sequence) => record(sequence, "Progress"));
  const api = {
    base: "/",
    context: async () => ({ handler: { status: "completed", run_id: "1" } }),
    events: async (id, after) => ({ run_id: "1", now: new Date().toISOString(), last_sequence: 4, events: log.slice(after + 1, after + 3) }),
  };
  const made = new Run(api, "r-1");
  const told = [];
  made.addEventListener("events", ({ detail }) => told.push(detail.length));
  await made.open();
  assert.deepEqual(made.events.map((one) => one.sequence), [0, 1, 2, 3, 4]);
  assert.deepEqual(told, [2, 2, 1]);
  assert.equal(made.connection, "ended");
});

test("a run that is not there is told so, and any other error with its words", async () => {
  for (const [status, expected] of [[404, "gone"], [503, "error"]]) {
    const made = new Run({ context: async () => { throw Object.assign(new Error("words"), { status }); } }, "r-1");
    const told = [];
    for (const type of ["gone", "error"]) made.addEventListener(type, () => told.push(type));
    await made.open();
    assert.deepEqual(told, [expected]);
    assert.equal(made.connection, "lost");
  }
});

test("a question's words are its prompt, and the rest is shown below", () => {
  assert.deepEqual(wording({ value: { prompt: "Well?", issue: 3 } }), { text: "Well?", rest: { issue: 3 } });
  assert.deepEqual(wording({ value: { _data: { prefix: "Name?" } } }), { text: "Name?", rest: null });
  assert.deepEqual(wording({ value: { issue: 3 } }), { text: null, rest: { issue: 3 } });
});

test("answers are those that the graph leads to; else what is expected; else what is additional", () => {
  const graph = {
    nodes: [{ id: "external_step", node_type: "external" }],
    edges: [{ source: "Question", target: "external_step" }, { source: "external_step", target: "Answer" }],
  };
  const accepted = [{ type: "Answer", expected: true }, { type: "Other", expected: true }, { type: "Extra", expected: false, additional: true }];
  const types = (found) => found.map((one) => one.type);
  assert.deepEqual(types(answersTo(question(0), accepted, graph)), ["Answer"]);
  assert.deepEqual(types(answersTo(record(0, "Elsewhere"), accepted, graph)), ["Answer", "Other"]);
  assert.deepEqual(types(answersTo(null, [accepted[2]], { nodes: [], edges: [] })), ["Extra"]);
});
