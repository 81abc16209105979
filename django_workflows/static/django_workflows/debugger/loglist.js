// The list of a run's events. Only the rows in sight are in the page, so that ten thousand events cost as little as ten.

import { h, set, uid } from "./dom.js";
import { isInternal, merge, preview, select as choose, toNDJSON } from "./eventlog.js";
import { clock } from "./format.js";
import { createTree } from "./tree.js";

const ROW = 30;
const SPARE = 8;

const exactly = (time) => {
  const date = new Date(time ?? NaN);
  return Number.isNaN(date.getTime()) ? "" : `${clock(date)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
};

/** Where a row begins, with what is unfolded above it. */
const topOf = (index, details) => details.reduce((sum, [at, height]) => (at < index ? sum + height : sum), index * ROW);

/** The colour of a record's dot, by what is known of its type. */
function kindOf({ event: { type, types } }) {
  const is = (name) => type === name || (types ?? []).includes(name);
  if (/Failed|TimedOut|Cancelled|Unhandled/.test(type)) return "failed";
  if (is("StopEvent")) return "stop";
  if (is("StartEvent")) return "start";
  if (is("InputRequiredEvent")) return "human";
  if (is("HumanResponseEvent")) return "external";
  return is("InternalDispatchEvent") ? "internal" : "step";
}

/**
 * Make a list of events.
 *
 * @param {HTMLElement} element needs a height: the list scrolls in it
 * @param {{onSelect?: (record | null) => void}} options
 * @returns {{add, clear, refresh, setFilter, select, types, count, toText, destroy}}
 */
export function createLog(element, { onSelect = () => {} } = {}) {
  const records = [];
  let shown = [];
  let filter = {};
  let active = -1;
  // Heights of what is unfolded, by sequence.
  const open = new Map();
  const rows = new Map();
  let atEnd = true;
  let scheduled = false;

  const id = uid("log");
  const space = h("div", { class: "wf-log-space", role: "rowgroup" });
  const empty = h("p", { class: "wf-log-empty", role: "status" });
  const list = h("div", { class: "wf-log", role: "treegrid", tabindex: 0, "aria-label": "Events", onkeydown: onKey, onscroll: () => {
    atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - ROW;
    schedule();
  } }, space);
  const frame = h("div", { class: "wf-log-frame" }, list, empty);
  element.append(frame);
  const resized = new ResizeObserver(schedule);
  resized.observe(list);
  const measured = new ResizeObserver((entries) => {
    for (const { target } of entries) if (target.isConnected) open.set(Number(target.dataset.sequence), target.offsetHeight);
    schedule();
  });
  render();

  // --- what is shown ---

  /** Add records, in any order and as often as they come. */
  function add(more) {
    const before = records.length;
    const appended = merge(records, more);
    if (records.length === before) return;
    if (appended) shown.push(...choose(records.slice(before), filter));
    else refilter();
    schedule();
  }

  function clear() {
    records.length = 0;
    open.clear();
    atEnd = true;
    refilter();
  }

  /** Show at once what has changed within the records. */
  function refresh() {
    for (const sequence of rows.keys()) drop(sequence);
    schedule();
  }

  function setFilter(next) {
    filter = next;
    refilter();
  }

  function refilter() {
    const sequence = shown[active]?.sequence;
    shown = choose(records, filter);
    active = shown.findIndex((record) => record.sequence === sequence);
    refresh();
  }

  // --- drawing ---

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      render();
    });
  }

  function indexOf(sequence) {
    return shown.findIndex((record) => record.sequence === sequence);
  }

  /** What is unfolded: [index, height]. */
  function unfolded() {
    return [...open].map(([sequence, height]) => [indexOf(sequence), height]).filter(([index]) => index !== -1);
  }

  function render() {
    const details = unfolded();
    const top = (index) => topOf(index, details);
    space.style.height = `${top(shown.length)}px`;
    if (atEnd) list.scrollTop = list.scrollHeight;
    const [from, to] = [list.scrollTop, list.scrollTop + list.clientHeight];
    // What is unfolded above can only make it an earlier one.
    let index = Math.max(0, Math.min(Math.floor(from / ROW), shown.length - 1));
    while (index > 0 && top(index) > from) index -= 1;
    index = Math.max(0, index - SPARE);
    const wanted = new Map();
    for (let y = top(index); index < shown.length && y < to + SPARE * ROW; index += 1) {
      const { sequence } = shown[index];
      wanted.set(sequence, [index, y]);
      y += ROW + (open.get(sequence) ?? 0);
    }
    for (const sequence of rows.keys()) if (!wanted.has(sequence)) drop(sequence);
    for (const [sequence, [at, y]] of wanted) {
      if (!rows.has(sequence)) rows.set(sequence, space.appendChild(newRow(shown[at])));
      const row = rows.get(sequence);
      row.style.top = `${y}px`;
      set(row, { "aria-rowindex": at + 1, "aria-selected": String(at === active) });
    }
    const current = shown[active]?.sequence;
    set(list, { "aria-rowcount": shown.length, "aria-activedescendant": rows.has(current) ? `${id}-${current}` : null });
    empty.textContent = shown.length ? "" : records.length ? "No event matches. Change or clear the filter." : "No events yet. They appear here as the run goes on.";
  }

  function drop(sequence) {
    rows.get(sequence)?.remove();
    rows.delete(sequence);
  }

  function newRow(record) {
    const { sequence, time, event } = record;
    const cell = (name, ...content) => h("span", { class: `wf-log-${name}`, role: "gridcell" }, ...content);
    const row = h("div", { class: `wf-log-row is-${kindOf(record)}`, role: "row", id: `${id}-${sequence}`, "aria-expanded": String(open.has(sequence)) },
      h("div", { class: "wf-log-line", role: "presentation", onclick: () => { activate(indexOf(sequence)); toggle(sequence); } },
        cell("sequence", String(sequence)), cell("time", exactly(time)), cell("type", h("i", { class: "wf-dot" }), event.type),
        cell("preview", preview(record))));
    if (isInternal(record)) row.classList.add("is-internal");
    if (open.has(sequence)) row.append(newDetail(record));
    return row;
  }

  function newDetail(record) {
    const copy = h("button", { type: "button", class: "button quiet", text: "Copy", onclick: async () => {
      try {
        await navigator.clipboard.writeText(JSON.stringify(record.event, null, 2));
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Not allowed by the browser";
      }
    } });
    const place = h("div", { class: "wf-log-detail", role: "gridcell", "data-sequence": record.sequence }, copy);
    createTree(place, record.event.value ?? null, { open: 2, label: record.event.type });
    measured.observe(place);
    return place;
  }

  // --- what the reader does ---

  function activate(index) {
    active = index;
    onSelect(shown[index] ?? null);
    schedule();
  }

  function toggle(sequence, wanted = !open.has(sequence)) {
    if (wanted === open.has(sequence)) return;
    // A reader who opens the last event wants to read it, not to follow.
    if (wanted) open.set(sequence, 0);
    else open.delete(sequence);
    atEnd = false;
    drop(sequence);
    schedule();
  }

  function reveal(index) {
    const y = topOf(index, unfolded());
    if (y < list.scrollTop) list.scrollTop = y;
    else if (y + ROW > list.scrollTop + list.clientHeight) list.scrollTop = y + ROW - list.clientHeight;
    atEnd = index === shown.length - 1;
  }

  /** Select the event of a sequence and bring it into sight, or none; onSelect is not told. */
  function select(sequence) {
    active = sequence === null ? -1 : indexOf(sequence);
    if (active !== -1) {
      space.style.height = `${Math.max(space.offsetHeight, (active + 1) * ROW)}px`;
      reveal(active);
    }
    schedule();
  }

  function onKey(event) {
    if (event.target !== list || !shown.length) return;
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
    const moves = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: shown.length - 1 };
    const folds = { Enter: undefined, " ": undefined, ArrowRight: true, ArrowLeft: false };
    if (event.key in moves) {
      activate(Math.min(Math.max(moves[event.key], 0), shown.length - 1));
      reveal(active);
    } else if (event.key in folds && active !== -1) toggle(shown[active].sequence, folds[event.key]);
    else return;
    event.preventDefault();
  }

  /** How often each type occurs, whatever the filter. */
  function types() {
    const found = new Map();
    for (const { event } of records) found.set(event.type, (found.get(event.type) ?? 0) + 1);
    return found;
  }

  function destroy() {
    resized.disconnect();
    measured.disconnect();
    frame.remove();
  }

  return { add, clear, refresh, setFilter, select, types, count: () => ({ shown: shown.length, total: records.length }),
    toText: () => toNDJSON(records), destroy };
}
