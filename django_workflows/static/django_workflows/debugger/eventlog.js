// A run's events in order: merged, searched, written out. Pure.

/** Whether a record is one of the engine's own. */
export const isInternal = (record) => record.internal ?? (record.event.types ?? []).includes("InternalDispatchEvent");

/**
 * Merge records into an ordered list, in place; those of a sequence that is there already are left out.
 *
 * @returns {boolean} whether all that is new came at the end
 */
export function merge(records, more) {
  const last = records.at(-1)?.sequence ?? -1;
  // Most come one by one, in order.
  const known = new Set(more.every((record) => record.sequence > last) ? [] : records.map((record) => record.sequence));
  const fresh = more.filter((record) => !known.has(record.sequence) && known.add(record.sequence));
  fresh.sort((a, b) => a.sequence - b.sequence);
  for (const record of fresh) records.push(record);
  if (!fresh.length || fresh[0].sequence > last) return true;
  records.sort((a, b) => a.sequence - b.sequence);
  return false;
}

const texts = new WeakMap();

/** The text in which a record is searched: its type and its value, in lower case. */
export function searchText({ event }) {
  if (!texts.has(event)) texts.set(event, `${event.type} ${JSON.stringify(event.value)}`.toLowerCase());
  return texts.get(event);
}

/**
 * Choose records.
 *
 * @param {{types?: string[], text?: string, internal?: boolean}} filter no types: all of them; all words of the text have to
 *   be in the record; internal false hides the engine's own events
 */
export function select(records, { types = [], text = "", internal = true } = {}) {
  const wanted = new Set(types);
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return records.filter((record) => (internal || !isInternal(record)) && (!wanted.size || wanted.has(record.event.type)) &&
    words.every((word) => searchText(record).includes(word)));
}

/** Say in one line what a record is about. */
export function preview({ event: { type, value } }) {
  if (type === "StepStateChanged" && value) {
    const name = (text) => text.replace(/^<class '(?:.*\.)?|'>$/g, "");
    const output = value.output_event_name ? ` → ${name(value.output_event_name)}` : "";
    return `${value.name} ${value.step_state.replaceAll("_", " ")}: ${name(value.input_event_name)}${output}`;
  }
  const text = JSON.stringify(value?._data ?? value) ?? "";
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

/** One line of JSON for each record. */
export const toNDJSON = (records) =>
  records.map(({ sequence, time, event }) => `${JSON.stringify({ sequence, time, ...event })}\n`).join("");
