// The fields of a form: one for each value of a JSON schema, nested as the schema is.
//
// A field is {element, control, get(), parts(), problems(), showError(message)}: control takes the focus, get() is the value
// or undefined, parts() the inner fields by name, problems() what a value cannot say (text that is no number).

import { h, set, uid } from "./dom.js";
import { initialValue, REQUIRED, shapeOf } from "./schema.js";

const LONG = /text|body|content|note|message|prompt|query|comment|answer|response|instruction/i;
const INPUTS = { date: "date", time: "time", "date-time": "datetime-local", email: "email", uri: "url" };

const humanise = (name) => (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");

/**
 * Make the field of a schema.
 *
 * @param {object} root the schema that holds the definitions
 * @param {{name?: string, label?: string, required?: boolean, value?: any}} options value undefined is "not given"
 */
export function createField(root, schema, { name = "", label = schema.title ?? humanise(name), required = true, value }) {
  const shape = shapeOf(schema, root);
  // The rest of a docstring is for programmers.
  shape.description = shape.description?.split("\n\n")[0];
  const field = { root, shape, label, name, required, value };
  if (shape.nullable) return switchable(field, null);
  const isOff = !required && value === undefined && ["object", "tuple", "choice", "boolean", "const"].includes(shape.kind);
  return isOff ? switchable(field, undefined) : builders[shape.kind](field);
}

// --- the label, the description and the error of a field --------------------------------------------------

function notes({ shape }) {
  const error = h("p", { class: "wf-error", id: uid("error"), hidden: true });
  const hint = shape.description ? h("p", { class: "wf-hint", id: uid("hint"), text: shape.description }) : null;
  return { error, hint, describedBy: [hint?.id, error.id].filter(Boolean).join(" ") };
}

/** What is wrong with a field that shall have a value: that it has none, too. */
export const problemsOf = (field) => {
  const found = field.problems();
  return found.length || field.get() !== undefined ? found : [{ path: "", message: REQUIRED }];
};

export function frame(field, control, { inline = false, extra = null } = {}) {
  const { error, hint, describedBy } = notes(field);
  const mark = field.required && !inline ? h("span", { class: "wf-required", "aria-hidden": "true", text: " *" }) : null;
  set(control, { id: uid("field"), "aria-describedby": describedBy, "aria-required": mark && "true" });
  const label = h("label", { for: control.id }, field.label, mark);
  const element = h("div", { class: inline ? "wf-field is-inline" : "wf-field" }, ...(inline ? [control, label] : [label, control]), extra, hint, error);
  const showError = (message) => {
    set(error, { text: message ?? "", hidden: !message });
    set(control, { "aria-invalid": message && "true" });
  };
  control.addEventListener("input", () => showError(null));
  const problems = () => (control.validity?.badInput ? [{ path: "", message: "This cannot be read." }] : []);
  return { element, control, showError, parts: () => [], problems };
}

export function group(field, parts, ...children) {
  const { error, hint, describedBy } = notes(field);
  const legend = field.label ? h("legend", { text: field.label }) : null;
  const element = h("fieldset", { class: "wf-group", tabindex: -1, "aria-describedby": describedBy }, legend, hint, ...children, error);
  return { element, control: element, parts, problems: () => inside(parts()), showError: (message) => set(error, { text: message ?? "", hidden: !message }) };
}

const inside = (parts) => parts.flatMap(([name, part]) =>
  part.problems().map(({ path, message }) => ({ path: path === "" ? String(name) : `${name}.${path}`, message })));

/** A value that may be missing: a switch, and the field once it is on. */
function switchable(field, off) {
  const { shape, root } = field;
  // The default of a nullable value is no beginning for what is not null.
  const { default: _, anyOf, oneOf, type, ...schema } = shape.schema;
  const begin = () => initialValue(shape.kind === "choice" ? shape.options[0] : { ...schema, type: [type].flat().find((one) => one !== "null") }, root);
  const place = h("div");
  let inner = null;
  const box = h("input", { type: "checkbox", onchange: () => turn(begin() ?? emptyOf(shape.kind)) });
  const outer = frame({ ...field, required: false }, box, { inline: true, extra: place });
  outer.element.querySelector("label").append(h("span", { class: "wf-aside", text: ` (${off === null ? "null" : "left out"} unless ticked)` }));
  const turn = (value) => {
    inner = box.checked ? builders[shape.kind]({ ...field, shape: { ...shape, description: null }, required: true, value }) : null;
    inner?.element.classList.add("is-switched");
    place.replaceChildren(...(inner ? [inner.element] : []));
  };
  box.checked = field.value !== null && field.value !== undefined;
  turn(field.value);
  return { ...outer, get: () => (inner ? inner.get() : off), parts: () => inner?.parts() ?? [], problems: () => (inner ? problemsOf(inner) : []),
    showError: (message) => (inner ?? outer).showError(message) };
}

/** What somebody begins with who says that there is a value: a text may be empty then. */
const emptyOf = (kind) => ({ object: {}, tuple: [], string: "" })[kind];

// --- one value ------------------------------------------------------------------------------------------

/** What makes a field of each kind; compound.js adds more. */
export const builders = { string: text, number: numeric, integer: numeric, boolean, enum: select, const: constant, null: constant, object };

function text(field) {
  const { shape, value = "", required, name } = field;
  const type = INPUTS[shape.format] ?? "text";
  const isLong = !shape.format && (LONG.test(name) || shape.schema.maxLength > 200 || value.includes("\n"));
  const control = isLong ? h("textarea", { rows: 3 }) : h("input", { type, step: /time/.test(type) && 1, autocomplete: "off" });
  const isMoment = type === "datetime-local";
  control.value = isMoment ? toLocal(value) : value;
  // An empty text is a value for whom it was one, or where the schema says so; an empty date is none.
  const mayBeEmpty = required ? field.value === "" || shape.schema.minLength === 0 : field.value !== undefined;
  const emptied = type === "text" && mayBeEmpty ? "" : undefined;
  const read = () => (isMoment ? new Date(control.value).toISOString() : control.value);
  return { ...frame(field, control), get: () => (control.value === "" ? emptied : read()) };
}

/** A moment as its field shows it: in the reader's time. */
function toLocal(value) {
  const moment = new Date(value);
  return Number.isNaN(moment.getTime()) ? "" : new Date(moment - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

function numeric(field) {
  const { schema, kind } = field.shape;
  const control = h("input", { type: "number", step: schema.multipleOf ?? (kind === "integer" ? 1 : "any"), min: schema.minimum, max: schema.maximum });
  control.value = field.value ?? "";
  return { ...frame(field, control), get: () => (control.value === "" ? undefined : Number(control.value)) };
}

/** Nobody says no by forgetting to tick a box. */
function boolean(field) {
  return field.required && typeof field.shape.schema.default !== "boolean" ? yesOrNo(field) : tick(field);
}

function yesOrNo(field) {
  const name = uid("answer");
  const radios = [true, false].map((value) => Object.assign(h("input", { type: "radio", name }), { checked: field.value === value }));
  const control = h("div", { role: "radiogroup", class: "wf-radios" }, ...radios.map((one, at) => h("label", {}, one, at ? "No" : "Yes")));
  const outer = frame(field, control);
  const label = set(outer.element.firstChild, { id: uid("label"), for: null });
  set(control, { "aria-labelledby": label.id });
  return { ...outer, control: radios[0], get: () => [true, false].find((_, at) => radios[at].checked) };
}

function tick(field) {
  const control = h("input", { type: "checkbox" });
  control.checked = field.value === true;
  return { ...frame(field, control, { inline: true }), get: () => control.checked };
}

function select(field) {
  const { options } = field.shape;
  const at = options.findIndex((option) => option === field.value);
  const empty = at === -1 || !field.required ? h("option", { value: "", text: field.required ? "Choose …" : "(left out)" }) : null;
  const control = h("select", {}, empty, ...options.map((option, index) => h("option", { value: index, text: String(option) })));
  control.value = at === -1 ? "" : String(at);
  return { ...frame(field, control), get: () => options[control.value || -1] };
}

/** There is nothing to choose, so there is nothing to see. */
function constant(field) {
  const element = h("div", { hidden: true });
  const value = field.shape.kind === "null" ? null : field.shape.schema.const;
  return { element, control: element, get: () => value, parts: () => [], problems: () => [], showError() {} };
}

function object(field) {
  const { shape: { properties, required, extra }, root, value = {} } = field;
  const given = (name, property) => (Object.hasOwn(value, name) ? value[name] : structuredClone(property.default));
  const fields = Object.entries(properties).map(([name, property]) =>
    [name, createField(root, property, { name, required: required.includes(name), value: given(name, property) })]);
  const others = Object.entries(value).filter(([name]) => !Object.hasOwn(properties, name));
  const more = extra || others.length ? builders.entries(field, extra ?? {}, others) : null;
  const parts = () => [...fields, ...(more?.parts() ?? [])];
  const outer = group(field, parts, ...fields.map(([, part]) => part.element), more?.element);
  return { ...outer, control: (fields[0]?.[1] ?? more ?? outer).control, problems: () => [...inside(parts()), ...(more?.problems() ?? [])],
    get: () => Object.fromEntries(parts().map(([name, part]) => [name, part.get()]).filter(([, item]) => item !== undefined)) };
}
