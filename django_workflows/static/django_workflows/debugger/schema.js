// JSON schemas as pydantic writes them: what a value looks like, where it begins, what is wrong with it. Pure.

export const plain = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
export const has = (object, key) => Object.prototype.hasOwnProperty.call(object, key);
/** What is said of a value that is not there. */
export const REQUIRED = "This is required.";

/** Follow a schema's references, and merge what it puts together with allOf. A reference that leads round is free-form. */
export function resolve(schema, root) {
  const seen = new Set();
  let found = plain(schema) ? schema : {};
  while (has(found, "$ref")) {
    const { $ref: reference, ...own } = found;
    if (seen.has(reference)) return own;
    seen.add(reference);
    found = { ...lookUp(reference, root), ...own };
  }
  if (!Array.isArray(found.allOf)) return found;
  const { allOf, ...own } = found;
  return [...allOf.map((part) => resolve(part, root)), own].reduce((all, part) => ({
    ...all, ...part,
    ...(all.properties || part.properties ? { properties: { ...all.properties, ...part.properties } } : {}),
    ...(all.required || part.required ? { required: [...(all.required ?? []), ...(part.required ?? [])] } : {}),
  }), {});
}

function lookUp(reference, root) {
  if (!reference.startsWith("#")) return {};
  const path = reference.slice(1).split("/").slice(1);
  const names = path.map((part) => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~"));
  const found = names.reduce((at, name) => (plain(at) && has(at, name) ? at[name] : undefined), root);
  return plain(found) ? found : {};
}

/**
 * Say what a value of a schema looks like, one level deep, so that recursive schemas do not loop.
 *
 * @returns {{kind, nullable, title, description, format, options, items, prefix, properties, required, extra, schema}}
 *   kind is one of string, number, integer, boolean, enum, const, array, tuple, object, choice, null, any. options are
 *   values (enum) or schemas (choice); extra is the schema of further properties, or null where there are none.
 */
export function shapeOf(schema, root = schema) {
  const found = resolve(schema, root);
  const base = { schema: found, title: found.title ?? null, description: found.description ?? null,
    format: found.format ?? null, nullable: false };
  const options = found.anyOf ?? found.oneOf;
  if (options) return choiceOf(found, options, base, root);
  if (has(found, "const")) return { ...base, kind: "const" };
  if (found.enum) {
    const values = found.enum.filter((value) => value !== null);
    return { ...base, kind: "enum", options: values, nullable: values.length < found.enum.length };
  }
  const types = [found.type ?? (found.properties ? "object" : found.items || found.prefixItems ? "array" : null)].flat();
  const [type, ...others] = types.filter((name) => name !== "null");
  const nullable = types.includes("null") && type !== undefined;
  if (others.length) {
    const each = types.filter((name) => name !== "null").map((name) => ({ ...found, type: name, title: name }));
    return { ...base, kind: "choice", options: each, nullable };
  }
  if (type === "object") {
    const properties = found.properties ?? {};
    // Whoever declares fields and says nothing of others is not offered any.
    const more = found.additionalProperties ?? !Object.keys(properties).length;
    const extra = more === true ? {} : more || null;
    return { ...base, kind: "object", properties, required: found.required ?? [], extra, nullable };
  }
  if (type === "array") {
    const { prefixItems: prefix, items } = found;
    return { ...base, nullable, ...(prefix ? { kind: "tuple", prefix } : { kind: "array", items: plain(items) ? items : {} }) };
  }
  return { ...base, kind: type ?? (types.includes("null") ? "null" : "any"), nullable };
}

function choiceOf(found, options, base, root) {
  const isNull = (option) => resolve(option, root).type === "null";
  const others = options.filter((option) => !isNull(option));
  const nullable = others.length < options.length;
  if (others.length !== 1) return { ...base, kind: others.length ? "choice" : "null", options: others, nullable };
  const only = shapeOf(others[0], root);
  // What the property says of itself goes before what its type says.
  return { ...only, title: base.title ?? only.title, description: base.description ?? only.description,
    nullable: nullable || only.nullable };
}

/** A name for one option of a choice. */
export function optionName(schema, root) {
  const shape = shapeOf(schema, root);
  if (shape.title) return shape.title;
  if (shape.kind === "const") return JSON.stringify(shape.schema.const);
  if (shape.kind === "array") return `list of ${optionName(shape.items, root)}`;
  return shape.format ?? { string: "text", any: "anything" }[shape.kind] ?? shape.kind;
}

/** Find the option of a choice that a value belongs to: by its discriminator, or the first that it fits best. */
export function optionOf(shape, value, root) {
  const tag = shape.schema.discriminator?.propertyName;
  const costs = shape.options.map((option) => {
    const own = shapeOf(option, root).properties?.[tag];
    return own && plain(value) && !distance(own, value[tag], root) ? -1 : distance(option, value, root);
  });
  return costs.indexOf(Math.min(...costs));
}

const FORMS = { date: /^[\d-]{10}$/, time: /^\d\d:/, "date-time": /^[\d-]{10}[T ]/i, email: /@/, uri: /:\/\//, uuid: /^[\da-f-]{32,36}$/i };

/** How far a value is from a schema: another type is further than anything inside of it. */
function distance(schema, value, root) {
  const shape = shapeOf(schema, root);
  const { kind, options, properties } = shape;
  const isOne = { string: typeof value === "string", boolean: value === true || value === false, number: typeof value === "number",
    integer: Number.isInteger(value), array: Array.isArray(value), tuple: Array.isArray(value), object: plain(value), null: value === null,
    const: value === shape.schema.const, enum: options?.includes(value), choice: true, any: true }[kind];
  if (value === null && shape.nullable) return 0;
  if (!isOne || (kind === "string" && FORMS[shape.format]?.test(value) === false)) return 1000;
  if (kind === "choice") return Math.min(...options.map((option) => distance(option, value, root)));
  const sum = (list) => list.reduce((all, one) => all + Math.min(one, 1), 0);
  if (kind === "array") return sum(value.map((item) => distance(shape.items, item, root)));
  if (kind === "tuple") return value.length === shape.prefix.length ? sum(value.map((item, at) => distance(shape.prefix[at], item, root))) : 1000;
  if (kind !== "object") return 0;
  const missing = shape.required.filter((name) => !has(value, name)).length;
  return missing + sum(Object.entries(value).map(([name, item]) => (properties[name] ? distance(properties[name], item, root) : shape.extra ? 0 : 1)));
}

/** The value that a form begins with: defaults, and otherwise what is empty; undefined where it is the reader who says it. */
export function initialValue(schema, root = schema, open = []) {
  const found = resolve(schema, root);
  if (has(found, "default")) return structuredClone(found.default);
  const shape = shapeOf(schema, root);
  if (shape.nullable) return null;
  const empty = { array: [], null: null };
  if (has(empty, shape.kind)) return structuredClone(empty[shape.kind]);
  // A type that contains itself goes no deeper by itself.
  if (open.includes(shape.schema.properties ?? found)) return undefined;
  const inside = [...open, shape.schema.properties ?? found];
  if (shape.kind === "const") return structuredClone(shape.schema.const);
  if (shape.kind === "tuple") return shape.prefix.map((item) => initialValue(item, root, inside) ?? null);
  if (shape.kind === "choice") return initialValue(shape.options[0], root, inside);
  if (shape.kind !== "object") return undefined;
  const wanted = Object.entries(shape.properties).filter(([name, property]) =>
    shape.required.includes(name) || has(resolve(property, root), "default"));
  const values = wanted.map(([name, property]) => [name, initialValue(property, root, inside)]);
  return Object.fromEntries(values.filter(([, value]) => value !== undefined));
}
