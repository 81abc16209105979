import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./parts.mjs";

const { route } = await load("route.js");

test("a moved node's edges lead from border to border, whatever its place", () => {
  const box = (x, y) => ({ x, y, width: 100, height: 40 });
  const edge = { kind: "down", via: [{ x: 999, y: 999 }], lane: null };
  assert.doesNotMatch(route(box(0, 0), box(0, 200), edge, true).path, /999/);
  assert.match(route(box(0, 0), box(0, 200), edge, true).path, /^M50 40L50 200$/);
  assert.match(route(box(0, 0), box(300, 0), edge, true).path, /^M100 20.* 300 20$/);
  assert.match(route(box(300, 0), box(0, 0), edge, true).path, /^M300 20.* 100 20$/);
  assert.match(route(box(0, 200), box(0, 0), edge, true).path, /^M100 220.*L100 20$/);
  assert.doesNotMatch(route(box(0, 200), box(0, 0), { kind: "back", via: [], lane: 999 }, true).path, /999/);
});
