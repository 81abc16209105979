// What is wrong with a value by its schema, by the field; loaded when a form is first sent. Pure.

import { has, optionOf, plain, REQUIRED, shapeOf } from "./schema.js";

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/**
 * List what is wrong with a value.
 *
 * @returns {{path: string, message: string}[]} paths as pydantic names places: "documents.0.title", "" for the whole
 */
export function validate(schema, value, root = schema, path = "") {
  const shape = shapeOf(schema, root);
  const wrong = (...messages) => messages.filter(Boolean).map((message) => ({ path, message }));
  const at = (name) => (path === "" ? String(name) : `${path}.${name}`);
  const inner = (part, item, name) => validate(part, item, root, at(name));
  if (value === undefined) return wrong(REQUIRED);
  if (value === null && shape.nullable) return [];
  switch (shape.kind) {
    case "null": return wrong(value !== null && "Must be null.");
    case "const": return wrong(!same(value, shape.schema.const) && `Must be ${JSON.stringify(shape.schema.const)}.`);
    case "enum": return wrong(!shape.options.some((option) => same(option, value)) &&
      `Choose one of ${shape.options.map((option) => JSON.stringify(option)).join(", ")}.`);
    case "boolean": return wrong(typeof value !== "boolean" && "Must be true or false.");
    case "number": case "integer": return wrong(...numberProblems(shape, value));
    case "string": return wrong(textProblem(shape, value));
    case "choice": return validate(shape.options[optionOf(shape, value, root)], value, root, path);
    case "array": return !Array.isArray(value) ? wrong("Must be a list.")
      : [...wrong(...listProblems(shape.schema, value)), ...value.flatMap((item, index) => inner(shape.items, item, index))];
    case "tuple": return !Array.isArray(value) || value.length !== shape.prefix.length
      ? wrong(`Must be a list of ${plural(shape.prefix.length, "item")}.`)
      : value.flatMap((item, index) => inner(shape.prefix[index], item, index));
    case "object": {
      if (!plain(value)) return wrong("Must be an object.");
      const missing = shape.required.filter((name) => !has(value, name) || value[name] === undefined);
      const given = Object.entries(value).filter(([, item]) => item !== undefined);
      return [...missing.map((name) => ({ path: at(name), message: REQUIRED })), ...given.flatMap(([name, item]) => {
        if (has(shape.properties, name)) return inner(shape.properties[name], item, name);
        return shape.schema.additionalProperties === false ? [{ path: at(name), message: "Is not expected here." }]
          : inner(shape.extra ?? {}, item, name);
      })];
    }
    default: return [];
  }
}

function numberProblems({ schema, kind }, value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return ["Must be a number."];
  if (kind === "integer" && !Number.isInteger(value)) return ["Must be a whole number."];
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema;
  const steps = value / multipleOf;
  return [
    value < minimum && `Must be ${minimum} or more.`,
    value > maximum && `Must be ${maximum} or less.`,
    value <= exclusiveMinimum && `Must be more than ${exclusiveMinimum}.`,
    value >= exclusiveMaximum && `Must be less than ${exclusiveMaximum}.`,
    Math.abs(steps - Math.round(steps)) > 1e-9 && `Must be a multiple of ${multipleOf}.`,
  ];
}

const listProblems = ({ minItems, maxItems, uniqueItems }, value) => [
  value.length < minItems && `Needs ${plural(minItems, "item")} or more.`,
  value.length > maxItems && `Takes ${plural(maxItems, "item")} at most.`,
  uniqueItems && new Set(value.map((item) => JSON.stringify(item))).size < value.length && "Each item may be there once.",
];

const DAY = /^\d{4}-\d\d-\d\d$/;
const CLOCK = /^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$/i;
const isDay = (text) => DAY.test(text) && new Date(`${text}T00:00Z`).toJSON()?.startsWith(text) === true;

const formats = {
  date: [isDay, "a date, for instance 2026-03-31"],
  time: [(text) => CLOCK.test(text), "a time, for instance 14:30:00"],
  "date-time": [(text) => /^.{10}[T ]/i.test(text) && isDay(text.slice(0, 10)) && CLOCK.test(text.slice(11)),
    "a date and time, for instance 2026-03-31T14:30:00Z"],
  email: [(text) => /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(text), "an e-mail address"],
  uri: [(text) => URL.canParse(text), "an address, for instance https://example.org/"],
  uuid: [(text) => /^[\da-f]{8}-?([\da-f]{4}-?){3}[\da-f]{12}$/i.test(text), "a UUID"],
};

function textProblem({ schema, format }, value) {
  if (typeof value !== "string") return "Must be text.";
  const length = [...value].length;
  if (length < schema.minLength) return length ? `Needs ${plural(schema.minLength, "character")} or more.` : REQUIRED;
  if (length > schema.maxLength) return `Takes ${plural(schema.maxLength, "character")} at most.`;
  if (has(formats, format ?? "") && !formats[format][0](value)) return `Must be ${formats[format][1]}.`;
  return schema.pattern !== undefined && !matches(schema.pattern, value) && `Must match ${schema.pattern}.`;
}

function matches(pattern, value) {
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    return true; // Python's dialect: the server decides.
  }
}
