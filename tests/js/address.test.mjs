import assert from "node:assert/strict";
import { test } from "node:test";

import { read, write } from "../../django_workflows/static/django_workflows/debugger/address.js";

test("a state is the same after it was written and read", () => {
  for (const query of [
    "",
    "?workflow=greet",
    "?workflow=greet&step=work",
    "?workflow=greet&again=r-1",
    "?run=r-1&tab=timeline&event=12&step=work",
    "?run=r-1&event=0",
    "?view=runs&workflow=a%26b&status=failed&status=running&since=1h&q=x&cursor=abc",
    "?view=compare&a=r-1&b=r-2",
  ]) {
    assert.equal(write(read(query)), query);
  }
});

test("the view follows from what is named", () => {
  assert.equal(read("").view, "workflow");
  assert.equal(read("?run=r-1").view, "run");
  assert.equal(read("?a=r-1").view, "compare");
  assert.equal(read("?view=runs&workflow=x").view, "runs");
  assert.equal(read("?view=nonsense").view, "workflow");
});

test("what makes no sense is left out", () => {
  const state = read("?run=r-1&tab=nonsense&event=x1&status=odd&status=failed");
  assert.equal(state.tab, "events");
  assert.equal(state.event, null);
  assert.deepEqual(state.status, ["failed"]);
});
