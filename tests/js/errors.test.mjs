import assert from "node:assert/strict";
import { test } from "node:test";

import { explain } from "../../django_workflows/static/django_workflows/debugger/api.js";
import { fieldErrors } from "../../django_workflows/static/django_workflows/debugger/errors.js";

const DETAIL = `Validation error for 'start_event': 2 validation errors for Order
name
  String should have at least 2 characters [type=string_too_short, input_value='A', input_type=str]
    For further information visit https://errors.pydantic.dev/2.12/v/string_too_short
lines.0.amount
  Input should be a valid integer, unable to parse string as an integer [type=int_parsing, input_value='x', input_type=str]
    For further information visit https://errors.pydantic.dev/2.12/v/int_parsing`;

test("a validation message is taken apart by field", () => {
  assert.deepEqual(fieldErrors(DETAIL), {
    name: "String should have at least 2 characters",
    "lines.0.amount": "Input should be a valid integer, unable to parse string as an integer",
  });
});

test("a message that names no field stays whole", () => {
  for (const text of ["Handler 'x' is already running", "1 validation error for Order", ""]) assert.equal(fieldErrors(text), text);
});

test("a refusal says what to do", () => {
  assert.match(explain(401, ""), /Reload the page to log in/);
  assert.match(explain(403, "Authentication credentials were not provided."), /Reload the page to log in/);
  assert.match(explain(403, "CSRF Failed: CSRF token incorrect."), /Reload the page/);
  assert.equal(explain(403, "Only editors may."), "Only editors may.");
  assert.match(explain(503, "stopping"), /Try again in a moment/);
  assert.match(explain(500, null), /Its log says why/);
  assert.equal(explain(409, "It runs."), "It runs.");
  assert.match(explain(418, null), /418/);
});
