// A form for a value of a JSON schema, with its raw JSON as another way to write it.

import { h, set, uid } from "./dom.js";
import { builders, createField } from "./fields.js";
import { initialValue, shapeOf } from "./schema.js";

const LOST = [{ path: "", message: "A part of the form could not be loaded. Check your connection, then load the page again." }];

/**
 * Load the builders that few forms need, where a schema has something for them: those of lists, choices and free values,
 * and that of names that a schema does not know, which a given value may have. Tells whether all are there.
 */
async function prepare(schema, isGiven) {
  const seen = new Set();
  const kinds = new Set();
  const look = (part) => {
    if (seen.has(part)) return;
    seen.add(part);
    const { kind, properties = {}, extra, items, prefix = [], options = [] } = shapeOf(part, schema);
    kinds.add(extra ? "entries" : kind);
    for (const one of [...Object.values(properties), items, ...prefix, ...(kind === "choice" ? options : [])]) if (one) look(one);
  };
  look(schema);
  const missing = [...kinds].filter((kind) => !(kind in builders));
  const module = isGiven || missing.includes("entries") ? import("./entries.js") : missing.length && import("./compound.js");
  return module ? module.then(() => true, () => false) : true;
}

/**
 * Make a form.
 *
 * @param {HTMLElement} element
 * @param {object} schema of the value, normally of an object
 * @param {{initial?: any, onSubmit: (value) => void, submitLabel: string}} options
 * @returns {{setErrors, setBusy, destroy}}
 */
export function createForm(element, schema, { initial, onSubmit, submitLabel }) {
  const rawId = uid("raw");
  const summary = h("div", { class: "wf-form-errors", role: "alert", hidden: true });
  const place = h("div", { class: "wf-form-fields" });
  const text = h("textarea", { class: "wf-code", id: rawId, rows: 14, spellcheck: "false", autocapitalize: "off", oninput: () => setErrors([]) });
  const rawPlace = h("div", { class: "wf-field", hidden: true }, h("label", { for: rawId, text: "JSON" }), text);
  const modes = ["Form", "JSON"].map((name, index) => h("button", { type: "button", class: "wf-mode", "aria-pressed": String(index === 0),
    text: name, onclick: () => setMode(index === 1) }));
  const submit = h("button", { type: "submit", class: "button primary", text: submitLabel });
  const controls = h("fieldset", { class: "wf-form-controls" }, place, rawPlace);
  const form = h("form", { class: "wf-form", novalidate: true, onsubmit: send },
    h("div", { class: "wf-modes", role: "group", "aria-label": "Way of writing" }, ...modes), summary, controls,
    h("div", { class: "wf-form-actions" }, submit));
  element.append(form);

  let isRaw = false;
  // Whoever writes no JSON needs no parser of it.
  let parse = null;
  let field = null;
  const ready = build(initial);

  /** Make the fields, and tell whether they are there. */
  async function build(given) {
    if (!(await prepare(schema, given !== undefined))) return setErrors(LOST);
    const value = given === undefined ? initialValue(schema) : given;
    field = createField(schema, { ...schema, title: "" }, { label: "", value });
    place.replaceChildren(field.element);
    return true;
  }

  async function setMode(toRaw) {
    if (toRaw === isRaw) return;
    await ready;
    const json = field && (await import("./json.js").catch(() => null));
    if (!json) return setErrors(LOST);
    parse = json.parse;
    setErrors([]);
    if (toRaw) text.value = JSON.stringify(field.get() ?? null, null, 2);
    else {
      const parsed = parse(text.value);
      if (parsed.error) return failAt(parsed.error);
      if (!(await build(parsed.value))) return;
    }
    isRaw = toRaw;
    modes.forEach((mode, index) => set(mode, { "aria-pressed": String((index === 1) === isRaw) }));
    place.hidden = isRaw;
    rawPlace.hidden = !isRaw;
  }

  function failAt(error) {
    setErrors([{ path: "", message: error.message }]);
    text.focus();
    text.setSelectionRange(error.position, error.position + 1);
  }

  async function send(event) {
    event.preventDefault();
    await ready;
    if (!field) return;
    if (isRaw) {
      const parsed = parse(text.value);
      // What a person writes as JSON is theirs: the server is the judge of it.
      if (parsed.error) failAt(parsed.error);
      else onSubmit(parsed.value);
      return;
    }
    const problems = field.problems();
    // What cannot be looked at here, the server looks at.
    const invalid = (await import("./validation.js").catch(() => null))?.validate(schema, field.get()) ?? [];
    const errors = [...problems, ...invalid.filter(({ path }) => problems.every((one) => one.path !== path))];
    setErrors(errors);
    if (!errors.length) onSubmit(field.get());
  }

  // --- errors ---

  /** Show what is wrong, as a list of `{path, message}`: by the field that a path names where that is to be seen. */
  async function setErrors(errors) {
    if (field) clear(field);
    const module = errors.length && field && !isRaw && (await import("./problems.js").catch(() => null));
    const lines = module ? module.placeProblems(errors, field) : errors.map(({ path, message }) => (path ? `${path}: ${message}` : message));
    summary.replaceChildren(...lines.map((line) => h("p", { text: line })));
    summary.hidden = !lines.length;
  }

  function clear(part) {
    part.showError(null);
    for (const [, inner] of part.parts()) clear(inner);
  }

  // --- the rest ---

  function setBusy(busy) {
    controls.disabled = busy;
    submit.disabled = busy;
    set(form, { "aria-busy": String(busy) });
  }

  return { setErrors, setBusy, destroy: () => form.remove() };
}
