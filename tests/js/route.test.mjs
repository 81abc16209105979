import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./parts.mjs";

const { route } = await load("route.js");
const box = (x, y) => ({ x, y, width: 100, height: 40 });

test("a moved node's edges lead from border to border, whatever its place", () => {
  assert.match(route(box(0, 0), box(0, 200)).path, /^M50 34L50 40C.* 50 200$/);
  assert.match(route(box(0, 0), box(300, 0)).path, /^M100 20.* 300 20$/);
  assert.match(route(box(300, 0), box(0, 0)).path, /^M300 20.* 100 20$/);
  assert.match(route(box(0, 200), box(0, 0)).path, /^M100 220.*L100 20$/);
});

test("a line round the side is beside both of its nodes, up and down", () => {
  for (const [from, to] of [[box(0, 200), box(30, 0)], [box(30, 10), box(0, 0)], [box(0, 0), box(10, 30)], [box(0, 0), box(10, 0)]]) {
    const { path, middle } = route(from, to);
    assert.doesNotMatch(path, /NaN/);
    assert.equal(middle.x, Math.max(from.x, to.x) + 122);
  }
});

test("a node's line to itself stays beside it", () => {
  const moved = box(40, 60);
  assert.match(route(moved, moved).path, /^M140 92C.* 140 68$/);
});
