import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./parts.mjs";

const { explain, interruption, problems } = await load("errors.js");
const { Api } = await load("api.js");

const DETAIL = `Validation error for 'start_event': 2 validation errors for Order
name
  String should have at least 2 characters [type=string_too_short, input_value='A', input_type=str]
    For further information visit https://errors.pydantic.dev/2.12/v/string_too_short
lines.0.amount
  Input should be a valid integer, unable to parse string as an integer [type=int_parsing, input_value='x', input_type=str]
    For further information visit https://errors.pydantic.dev/2.12/v/int_parsing`;

test("a validation message is taken apart by field", () => {
  assert.deepEqual(problems(DETAIL), [
    { path: "name", message: "String should have at least 2 characters" },
    { path: "lines.0.amount", message: "Input should be a valid integer, unable to parse string as an integer" },
  ]);
});

test("a message that names no field stays whole", () => {
  const whole = "Failed to deserialize event: 1 validation error for Order\n  Input should be a valid dictionary [type=dict_type]";
  for (const message of ["Handler 'x' is already running", "1 validation error for Order", whole, ""]) {
    assert.deepEqual(problems(message), [{ path: "", message }]);
  }
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

test("whoever waits for the server reads what it says, as a sentence", () => {
  const about = (said) => `The run cannot be followed at present: ${said} It is tried again by itself.`;
  assert.equal(interruption({ status: 503, detail: "The runtime is not running" }), about("The runtime is not running."));
  assert.equal(interruption({ status: 429, detail: "Wait 5 seconds." }), about("Wait 5 seconds."));
  assert.equal(interruption({ status: 502, detail: "" }), about("the server answers 502."));
});

test("an error tells a person what to do, and a form which field is meant", async () => {
  const api = new Api("/", { header: "X-CSRFToken", token: "t" });
  const answer = async (respond) => {
    globalThis.fetch = respond;
    return api.start("order", {}).catch((error) => error);
  };

  const refused = await answer(async () => Response.json({ detail: DETAIL }, { status: 400 }));
  assert.equal(refused.status, 400);
  assert.deepEqual(refused.problems.map(({ path }) => path), ["name", "lines.0.amount"]);

  const away = await answer(() => Promise.reject(new TypeError("Failed to fetch")));
  assert.equal(away.status, 0);
  assert.match(away.message, /The server does not answer/);
  assert.deepEqual(away.problems, [{ path: "", message: away.message }]);
});
