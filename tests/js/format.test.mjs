import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, elapsed, moment, short } from "../../django_workflows/static/django_workflows/debugger/format.js";
import { since } from "../../django_workflows/static/django_workflows/debugger/runspage.js";

test("lengths of time are as short as they can be", () => {
  const [second, minute, hour, day] = [1000, 60_000, 3_600_000, 86_400_000];
  assert.equal(duration(0), "0 ms");
  assert.equal(duration(340.4), "340 ms");
  assert.equal(duration(2.44 * second), "2.4 s");
  assert.equal(duration(3 * minute + 5 * second), "3 min 05 s");
  assert.equal(duration(2 * hour + 9 * minute), "2 h 09 min");
  assert.equal(duration(4 * day + 3 * hour), "4 d 3 h");
  assert.equal(duration(-1), "–");
  assert.equal(duration(NaN), "–");
});

test("a run that has ended took what it took, another counts on", () => {
  const run = { started_at: "2026-01-01T00:00:00Z", completed_at: null };
  assert.equal(elapsed(run, Date.parse("2026-01-01T00:01:00Z")), 60_000);
  assert.equal(elapsed({ ...run, completed_at: "2026-01-01T00:00:02Z" }, Date.parse("2026-01-01T00:01:00Z")), 2000);
});

test("a moment of another day has its date", () => {
  const now = new Date("2026-05-05T12:00:00");
  assert.equal(moment("2026-05-05T20:00:08.411", now), "20:00:08");
  assert.match(moment("2026-05-04T20:00:08", now), /2026.*, 20:00:08$/);
  assert.equal(moment(null), "–");
});

test("a long id is shortened in the middle", () => {
  assert.equal(short("0SElsXXdlh6QZbe98XKpD2"), "0SElsX…KpD2");
  assert.equal(short("batch-1"), "batch-1");
});

test("a span begins at a full minute, and nonsense is no filter", () => {
  const now = Date.parse("2026-01-01T10:30:31Z");
  assert.equal(since("15m", now), "2026-01-01T10:15:00.000Z");
  assert.equal(since("1h", now), "2026-01-01T09:30:00.000Z");
  assert.equal(since("7d", now), "2025-12-25T10:30:00.000Z");
  for (const span of ["", null, "h", "1y", "99999d", "<1h"]) assert.equal(since(span, now), null);
});
