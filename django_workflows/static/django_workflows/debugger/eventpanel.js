// The event log with its filter, and ways to take it along.

import { h, uid } from "./dom.js";
import { createLog } from "./loglist.js";

/**
 * Make the panel.
 *
 * @param {HTMLElement} element
 * @param {{name: string, onSelect: (sequence: number | null) => void, notices}} options name: of the file that is saved
 * @returns {{add, clear, refresh, select, destroy}}
 */
export function createEventPanel(element, { name, onSelect, notices }) {
  const text = h("input", { type: "search", placeholder: "Filter by text", "aria-label": "Filter by text", oninput: filter });
  const type = h("select", { "aria-label": "Type", onchange: filter }, h("option", { value: "", text: "All types" }));
  const internal = h("input", { type: "checkbox", id: uid("internal"), onchange: filter });
  internal.checked = true;
  const count = h("span", { class: "hint", role: "status" });
  const tool = (label, text, onclick) => h("button", { type: "button", class: "button small", "aria-label": label, title: label, text, onclick });
  const bar = h("div", { class: "log-tools" }, text, type,
    h("label", { class: "check", for: internal.id, title: "What the engine tells of its steps" }, internal, h("span", { text: "Engine’s" })), count,
    tool("Copy all events as NDJSON", "Copy", copy), tool("Download all events as NDJSON", "Save", save));
  const place = h("div", { class: "log-place" });
  element.append(bar, place);
  const log = createLog(place, { onSelect: (record) => onSelect(record?.sequence ?? null) });

  function filter() {
    log.setFilter({ types: type.value ? [type.value] : [], text: text.value, internal: internal.checked });
    tell();
  }

  function tell() {
    const { shown, total } = log.count();
    count.textContent = shown === total ? `${total}` : `${shown} of ${total}`;
    const types = log.types();
    for (const [one, number] of types) {
      const option = [...type.options].find((other) => other.value === one) ?? type.appendChild(h("option", { value: one }));
      option.textContent = `${one} (${number})`;
    }
    for (const option of [...type.options].slice(1)) if (!types.has(option.value)) option.remove();
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(log.toText());
      notices.tell("All events are copied, one on each line.");
    } catch {
      notices.warn("The browser does not let this page copy. Download the events instead.");
    }
  }

  function save() {
    const url = URL.createObjectURL(new Blob([log.toText()], { type: "application/x-ndjson" }));
    h("a", { href: url, download: `${name}.ndjson` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  return {
    add(records) {
      log.add(records);
      tell();
    },
    clear() {
      log.clear();
      type.value = "";
      tell();
    },
    refresh: () => log.refresh(),
    select: (sequence) => log.select(sequence),
    destroy: () => log.destroy(),
  };
}
