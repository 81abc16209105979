import assert from "node:assert/strict";
import { test } from "node:test";
import { fixture, load } from "./parts.mjs";

const { initialValue, optionName, optionOf, shapeOf } = await load("schema.js");
const { validate } = await load("validation.js");
const { parse } = await load("json.js");

// Written by pydantic, from models with a field of each kind.
const { Order, Node, Free, DigestRequested, EditorDecision, HumanResponseEvent } = fixture("schemas.json");
const order = { name: "Ada", amount: 2.5, agreed: true, colour: "red", day: "2026-03-31", ship_to: { street: "Main" },
  pet: { kind: "cat" } };
const kindOf = (name) => shapeOf(Order.properties[name], Order);
const problems = (changes) => validate(Order, { ...order, ...changes }).map(({ path, message }) => `${path}: ${message}`);

test("each field of a model is recognised", () => {
  const kinds = Object.fromEntries(Object.keys(Order.properties).map((name) => [name, kindOf(name).kind]));
  assert.deepEqual(kinds, { name: "string", amount: "number", count: "integer", price: "choice", express: "boolean", agreed: "boolean",
    colour: "enum", size: "enum", day: "string", at: "string", clock: "string", wait: "string", id: "string", link: "string",
    ship_to: "object", bill_to: "object", tags: "array", lines: "array", point: "tuple", scores: "object", extra: "object",
    anything: "any", either: "choice", pet: "choice", tree: "object", fixed: "const", note: "string" });
  const nullable = Object.keys(Order.properties).filter((name) => kindOf(name).nullable);
  assert.deepEqual(nullable, ["at", "wait", "id", "link", "bill_to", "either", "tree"]);
  assert.equal(kindOf("at").format, "date-time");
  assert.deepEqual(kindOf("colour").options, ["red", "green"]);
  assert.equal(kindOf("bill_to").description, "When it differs.");
  assert.equal(kindOf("ship_to").description, "Where something is sent to.");
  assert.equal(kindOf("scores").extra.type, "integer");
  assert.equal(kindOf("ship_to").extra, null);
});

test("a model without fields takes any", () => {
  for (const schema of [Free, HumanResponseEvent]) {
    assert.deepEqual(shapeOf(schema).extra, {});
    assert.deepEqual(initialValue(schema), {});
    assert.deepEqual(validate(schema, { response: "yes" }), []);
  }
});

test("a form begins with the defaults, and with nothing where it is the reader who says it", () => {
  const begin = initialValue(Order);
  assert.deepEqual(begin.ship_to, { country: "DE", zip: null });
  assert.deepEqual([begin.express, begin.note, begin.count, begin.size, begin.bill_to], [false, "", 1, 2, null]);
  assert.deepEqual(begin.pet, { kind: "cat", lives: 9 });
  // Yes or no, a text, a number, a day or one of several; what has a default that JSON cannot tell is left out.
  for (const name of ["agreed", "name", "amount", "day", "colour", "lines"]) assert.ok(!(name in begin), name);
  assert.deepEqual(initialValue(DigestRequested), { title: "Digest", documents: [], sentences: 3 });
  assert.deepEqual(initialValue(EditorDecision), { note: "" });
});

test("what nobody has said is required, in lists and tuples as well", () => {
  assert.deepEqual(validate(EditorDecision, initialValue(EditorDecision)), [{ path: "approve", message: "This is required." }]);
  const items = { type: "object", properties: { flags: { type: "array", items: { type: "boolean" } },
    pair: { type: "array", prefixItems: [{ type: "string" }, { type: "boolean" }] } } };
  assert.deepEqual(validate(items, { flags: [false, undefined], pair: ["", undefined] }).map(({ path, message }) => `${path}: ${message}`),
    ["flags.1: This is required.", "pair.1: This is required."]);
});

test("a default is copied, not shared", () => {
  const schema = { type: "object", properties: { list: { type: "array", default: [1] } } };
  initialValue(schema).list.push(2);
  assert.deepEqual(initialValue(schema), { list: [1] });
});

test("a type that contains itself does not loop", () => {
  assert.deepEqual(initialValue(Node), { children: [], parent: null });
  assert.deepEqual(validate(Node, { name: "a", children: [{ name: "b", children: [{ children: [] }] }] }),
    [{ path: "children.0.children.0.name", message: "This is required." }]);
  const endless = { $ref: "#/$defs/A", $defs: { A: { type: "object", properties: { a: { $ref: "#/$defs/A" } }, required: ["a"] } } };
  assert.deepEqual(initialValue(endless), {});
  const round = { $ref: "#/$defs/A", $defs: { A: { $ref: "#/$defs/B" }, B: { $ref: "#/$defs/A" } } };
  assert.equal(shapeOf(round).kind, "any");
  assert.deepEqual(validate(round, 1), []);
});

test("a good value has no errors", () => {
  assert.deepEqual(problems({}), []);
  assert.deepEqual(problems({ at: "2026-03-31T14:30:00Z", clock: "09:30:00", id: "123e4567-e89b-12d3-a456-426614174000",
    link: "https://example.org/", bill_to: null, tags: ["a", "b"], point: [2, "b"], scores: { a: 1 }, extra: { a: [] }, anything: [1, null],
    either: "x", price: 2, tree: { name: "a", children: [{ name: "b" }] }, pet: { kind: "dog", tricks: ["sit"] } }), []);
});

test("what is wrong is told with its place", () => {
  const cases = [
    [{ name: "" }, "name: This is required."],
    [{ name: "A" }, "name: Needs 2 characters or more."],
    [{ name: "A".repeat(21) }, "name: Takes 20 characters at most."],
    [{ name: 1 }, "name: Must be text."],
    [{ amount: 0 }, "amount: Must be more than 0."],
    [{ amount: "1" }, "amount: Must be a number."],
    [{ amount: Infinity }, "amount: Must be a number."],
    [{ count: 1.5 }, "count: Must be a whole number."],
    [{ count: 101 }, "count: Must be 100 or less."],
    [{ agreed: "yes" }, "agreed: Must be true or false."],
    [{ colour: "blue" }, 'colour: Choose one of "red", "green".'],
    [{ day: "2026-02-30" }, "day: Must be a date, for instance 2026-03-31."],
    [{ at: "2026-03-31" }, "at: Must be a date and time, for instance 2026-03-31T14:30:00Z."],
    [{ clock: "25:00" }, "clock: Must be a time, for instance 14:30:00."],
    [{ id: "1" }, "id: Must be a UUID."],
    [{ link: "example" }, "link: Must be an address, for instance https://example.org/."],
    [{ ship_to: { street: "" } }, "ship_to.street: This is required."],
    [{ ship_to: { street: "x", zip: "1" } }, "ship_to.zip: Must match ^\\d{5}$."],
    [{ ship_to: null }, "ship_to: Must be an object."],
    [{ tags: ["a", "a"] }, "tags: Each item may be there once."],
    [{ tags: "a" }, "tags: Must be a list."],
    [{ lines: [{ street: "a" }, {}] }, "lines.1.street: This is required."],
    [{ point: [1] }, "point: Must be a list of 2 items."],
    [{ point: [1, 2] }, "point.1: Must be text."],
    [{ scores: { a: "x" } }, "scores.a: Must be a number."],
    [{ pet: { kind: "cat", lives: 10 } }, "pet.lives: Must be 9 or less."],
    [{ pet: { kind: "dog", tricks: "sit" } }, "pet.tricks: Must be a list."],
    [{ fixed: "v2" }, 'fixed: Must be "v1".'],
  ];
  for (const [changes, message] of cases) assert.deepEqual(problems(changes), [message]);
  const { day: _, ...without } = order;
  assert.deepEqual(validate(Order, without), [{ path: "day", message: "This is required." }]);
  assert.deepEqual(validate(Order, []), [{ path: "", message: "Must be an object." }]);
});

test("a value of a union is judged as the option that it is nearest to", () => {
  const pet = kindOf("pet");
  assert.equal(optionOf(pet, { kind: "dog" }, Order), 1);
  assert.equal(optionOf(pet, { kind: "cat", lives: 99 }, Order), 0);
  assert.equal(optionOf(kindOf("either"), "x", Order), 1);
  assert.deepEqual(pet.options.map((option) => optionName(option, Order)), ["Cat", "Dog"]);
  assert.deepEqual(kindOf("either").options.map((option) => optionName(option, Order)), ["integer", "text"]);
});

test("allOf is put together, type may be a list, enum may have null", () => {
  const both = { allOf: [{ type: "object", properties: { a: { type: "string" } }, required: ["a"] }, { properties: { b: {} }, required: ["b"] }] };
  assert.deepEqual(shapeOf(both).required, ["a", "b"]);
  assert.deepEqual(validate(both, {}).map(({ path }) => path), ["a", "b"]);
  assert.equal(shapeOf({ type: ["string", "null"] }).nullable, true);
  assert.equal(shapeOf({ enum: ["a", null] }).nullable, true);
  assert.deepEqual(validate({ type: ["string", "null"] }, null), []);
  assert.equal(shapeOf({ type: ["string", "integer"] }).kind, "choice");
  assert.deepEqual(validate({ type: "object", properties: { a: {} }, additionalProperties: false }, { b: 1 }),
    [{ path: "b", message: "Is not expected here." }]);
});

test("names that every object has are no properties", () => {
  assert.deepEqual(validate({ type: "object", properties: {}, required: ["toString"] }, {}),
    [{ path: "toString", message: "This is required." }]);
  assert.equal(shapeOf({ $ref: "#/constructor" }).kind, "any");
});

test("a pattern that JavaScript does not know is left to the server", () => {
  assert.deepEqual(validate({ type: "string", pattern: "(?P<a>x)" }, "y"), []);
});

test("a mistake in JSON is told with its place", () => {
  assert.deepEqual(parse(' {"a": [1, -2.5e3, "\\u00e4\\n", true, null, {}, []]} ').value.a.length, 7);
  const cases = [["", 1, 1, "a value"], ["{", 1, 2, "a name"], ['{"a":1,}', 1, 8, "a name"], ['{"a" 1}', 1, 6, "“:”"], ["[1 2]", 1, 4, "“,”"],
    ["[1,\n 2,\n]", 3, 1, "a value"], ['{"a":"x', 1, 8, "closing quote"], ['"a\\x"', 1, 3, "closing quote"], ["[1] x", 1, 5, "the end"],
    ["nul", 1, 1, "a value"], ["{a:1}", 1, 2, "a name"], ["01", 1, 2, "the end"], ["[[1]", 1, 5, "“,”"], ["'a'", 1, 1, "a value"]];
  for (const [text, line, column, expected] of cases) {
    const { error } = parse(text);
    assert.deepEqual([error.line, error.column], [line, column], text);
    assert.ok(error.message.includes(`expected ${expected}`) || error.message.includes(expected), error.message);
  }
  const deep = `${"[".repeat(100000)}x`;
  assert.equal(parse(deep).error.column, 100001);
});
