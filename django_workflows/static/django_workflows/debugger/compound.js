// The fields of lists, choices and values of any kind; as those of fields.js, to which it adds them.

import { h, set } from "./dom.js";
import { builders, createField, frame, group, problemsOf } from "./fields.js";
import { initialValue, optionName, optionOf, shapeOf } from "./schema.js";

const button = (text, label, onclick) => h("button", { type: "button", class: "button quiet", "aria-label": label, title: label, text, onclick });

Object.assign(builders, { any: free, array: list, tuple, choice });

/** Anything: JSON where it is JSON, and otherwise the text itself. */
function free(field) {
  const { value } = field;
  const control = h("textarea", { rows: 1, spellcheck: "false", class: "wf-code", oninput: tell });
  const kind = h("p", { class: "wf-aside" });
  const read = (written) => {
    try {
      return JSON.parse(written);
    } catch {
      return written;
    }
  };
  const get = () => (control.value.trim() === "" ? undefined : read(control.value));
  function tell() {
    const now = get();
    kind.textContent = now === undefined ? "Text, or JSON." : typeof now === "string" ? "Sent as text." : "Sent as JSON.";
  }
  // A text that would be read as JSON is shown in its quotes.
  if (value !== undefined) control.value = typeof value === "string" && read(value) === value ? value : JSON.stringify(value, null, 2);
  tell();
  return { ...frame(field, control, { extra: kind }), get };
}

/** What the reader adds and removes: rows of {part, element, rename?}, and the button for one more. */
export function rowsOf(text, what, add) {
  const rows = [];
  const holder = h("div", { class: "wf-items" });
  const adder = button(`+ ${text}`, `${text} to ${what}`, () => insert(...add()).control.focus());
  const redraw = () => {
    holder.replaceChildren(...rows.map((row) => row.element));
    rows.forEach((row, index) => row.rename?.(index));
  };
  function insert(row, ...tools) {
    const remove = button("✕", "Remove", () => {
      rows.splice(rows.indexOf(row), 1);
      redraw();
      adder.focus();
    });
    row.element.append(h("div", { class: "wf-item-tools" }, ...tools, remove));
    rows.push(row);
    redraw();
    return row;
  }
  return { rows, holder, adder, insert, redraw };
}

function list(field) {
  const { shape: { items }, root } = field;
  const label = (index) => `${shapeOf(items, root).title ?? (field.label || "Item")} ${index + 1}`;
  const { rows, holder, adder, insert, redraw } = rowsOf("Add", field.label || "the list", () => make(initialValue(items, root)));

  function make(value) {
    const part = createField(root, items, { label: label(rows.length), name: field.name, value: value ?? undefined });
    const up = button("↑", "Move up", () => {
      const at = rows.indexOf(row);
      [rows[at - 1], rows[at]] = [row, rows[at - 1]];
      redraw();
      up.focus();
    });
    const row = { part, control: part.control, element: h("div", { class: "wf-item" }, part.element), rename(index) {
      const shown = part.element.querySelector("legend, label")?.firstChild;
      if (shown) shown.textContent = label(index);
      for (const tool of row.element.lastChild.children) set(tool, { "aria-label": `${tool.title} ${label(index)}` });
      up.disabled = index === 0;
    } };
    return [row, up];
  }

  for (const value of Array.isArray(field.value) ? field.value : []) insert(...make(value));
  const get = () => (rows.length || field.required || field.value !== undefined ? rows.map(({ part }) => part.get()) : undefined);
  return { ...group(field, () => rows.map(({ part }, index) => [String(index), part]), holder, adder), get };
}

function tuple(field) {
  const values = Array.isArray(field.value) ? field.value : [];
  const fields = field.shape.prefix.map((item, index) =>
    createField(field.root, item, { label: item.title ?? `${index + 1}.`, value: values[index] ?? initialValue(item, field.root) }));
  const parts = () => fields.map((part, index) => [String(index), part]);
  return { ...group(field, parts, ...fields.map((part) => part.element)), get: () => fields.map((part) => part.get()) };
}

function choice(field) {
  const { shape: { options }, root, name } = field;
  const titles = options.map((option) => optionName(option, root));
  const control = h("select", { onchange: () => show(initialValue(options[control.value], root)) },
    ...titles.map((title, index) => h("option", { value: index, text: title })));
  const place = h("div", { class: "wf-choice" });
  let inner;
  function show(value) {
    inner = createField(root, options[control.value], { label: titles[control.value], name, value });
    inner.element.classList.add("is-switched");
    place.replaceChildren(inner.element);
  }
  control.value = field.value === undefined ? 0 : optionOf(field.shape, field.value, root);
  show(field.value);
  return { ...frame(field, control, { extra: place }), get: () => inner.get(), parts: () => inner.parts(), problems: () => problemsOf(inner),
    showError: (message) => inner.showError(message) };
}
