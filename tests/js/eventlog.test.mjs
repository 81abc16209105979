import assert from "node:assert/strict";
import { test } from "node:test";
import { fixture, load, random } from "./parts.mjs";

const { isInternal, merge, preview, searchText, select, toNDJSON } = await load("eventlog.js");
const { completed } = fixture("runs.json");

function shuffled(list, next) {
  const copy = [...list];
  for (let i = copy.length - 1; i > 0; i -= 1) {
    const j = Math.floor(next() * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

test("pages in any order, overlapping and repeated, make the log", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const next = random(seed);
    const pages = [];
    for (let at = 0; at < completed.length; ) {
      const size = 1 + Math.floor(next() * 9);
      // A page may begin before the end of the last one.
      pages.push(completed.slice(Math.max(0, at - Math.floor(next() * 5)), at + size));
      at += size;
    }
    const log = [];
    for (const page of shuffled([...pages, ...pages.slice(0, 2)], next)) merge(log, shuffled(page, next));
    assert.deepEqual(log.map(({ sequence }) => sequence), completed.map(({ sequence }) => sequence), `seed ${seed}`);
  }
});

test("merging says whether all came at the end, and keeps the records that are there", () => {
  const log = [];
  assert.equal(merge(log, completed.slice(3, 6)), true);
  const third = log[0];
  assert.equal(merge(log, completed.slice(6, 8)), true);
  assert.equal(merge(log, [{ ...completed[3] }]), true);
  assert.equal(merge(log, completed.slice(0, 4)), false);
  assert.equal(merge(log, [completed[8], completed[8]]), true);
  assert.equal(log.length, 9);
  assert.equal(log[3], third);
});

test("ten thousand events are merged one by one in no time", () => {
  const log = [];
  const begin = performance.now();
  for (let sequence = 0; sequence < 10000; sequence += 1) merge(log, [{ sequence, event: { type: "T", value: {} } }]);
  assert.equal(log.length, 10000);
  assert.ok(performance.now() - begin < 1000);
});

test("records are chosen by type, text and whether they are internal", () => {
  const types = (filter) => new Set(select(completed, filter).map((record) => record.event.type));
  assert.equal(select(completed, {}).length, completed.length);
  assert.deepEqual(types({ types: ["Tick", "Ask"] }), new Set(["Tick", "Ask"]));
  assert.equal(select(completed, { types: ["Tick"] }).length, 5);
  assert.deepEqual(types({ internal: false }), new Set(["Tick", "Ask", "InputRequiredEvent", "StopEvent"]));
  assert.equal(select(completed, { text: "ITEM 3" }).length, 1);
  assert.equal(select(completed, { text: " stop yes " }).length, 1);
  assert.equal(select(completed, { text: "nothing of the kind" }).length, 0);
  assert.match(searchText(completed.at(-1)), /stopevent.*"more":"ok"/);
});

test("what does not say whether it is internal is judged by its types", () => {
  assert.equal(isInternal({ event: { type: "WorkflowIdleEvent", types: ["InternalDispatchEvent"] } }), true);
  assert.equal(isInternal({ event: { type: "Tick", types: null } }), false);
});

test("an event is told in one line", () => {
  assert.equal(preview(completed[1]), "fan not running: Go → Item");
  assert.equal(preview({ event: { type: "T", value: { _data: { a: 1 } } } }), '{"a":1}');
  assert.equal(preview({ event: { type: "T" } }), "");
  assert.ok(preview({ event: { type: "T", value: "x".repeat(5000) } }).length < 310);
});

test("the log is written as NDJSON, with sequences and times", () => {
  const lines = toNDJSON(completed).split("\n");
  assert.equal(lines.pop(), "");
  assert.equal(lines.length, completed.length);
  const { sequence, time, type } = JSON.parse(lines[7]);
  assert.deepEqual([sequence, time, type], [7, completed[7].time, "Tick"]);
});
