// The field of values under names that a schema does not know; as those of fields.js, to which it adds it.

import { rowsOf } from "./compound.js";
import { h, uid } from "./dom.js";
import { builders, createField, problemsOf } from "./fields.js";
import { initialValue } from "./schema.js";

Object.assign(builders, { entries });

/** Values under names that the schema does not know. */
function entries({ root, label }, schema, initial) {
  const { rows, holder, adder, insert } = rowsOf("Add a field", label || "the object", () => make("", initialValue(schema, root)));

  function make(key, value) {
    const control = h("input", { id: uid("name"), class: "wf-code", autocomplete: "off" });
    control.value = key;
    const part = createField(root, schema, { label: "Value", value });
    const named = h("div", { class: "wf-field" }, h("label", { for: control.id, text: "Name" }), control);
    return [{ control, part, element: h("div", { class: "wf-item is-entry" }, named, part.element) }];
  }

  for (const entry of initial) insert(...make(...entry));
  const names = () => rows.map(({ control }) => control.value);
  const problems = () => names().flatMap((name, index, all) => {
    const message = name === "" ? "Give this field a name." : all.indexOf(name) < index ? "This name is there twice." : null;
    // What the value lacks inside, the form finds itself.
    const [missing] = rows[index].part.get() === undefined ? problemsOf(rows[index].part) : [];
    return message ? [{ path: name, message }] : missing ? [{ ...missing, path: name }] : [];
  });
  return { element: h("div", {}, holder, adder), control: adder, parts: () => rows.map(({ control, part }) => [control.value, part]), problems };
}
