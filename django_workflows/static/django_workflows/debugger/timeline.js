// When each step of a run was executed: a lane for each step, a bar for each execution.

import { h, set } from "./dom.js";
import { duration } from "./format.js";
import { lanes as lanesOf } from "./lanes.js";

const ROW = 22;
const [SECOND, MINUTE, HOUR, DAY] = [1000, 60_000, 3_600_000, 86_400_000];
const STEPS = [...[1, 2, 5, 10, 20, 50, 100, 200, 500], ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE), ...[1, 2, 3, 6, 12].map((n) => n * HOUR), ...[1, 2, 7, 14, 28].map((n) => n * DAY)];
const WORDS = { retrying: "failed, was tried again", waiting: "waited" };

/** Round times for an axis: multiples of a step that people know, about `count` of them. */
export function ticks(span, count) {
  const step = STEPS.find((one) => span / one <= count) ?? Math.ceil(span / count / (28 * DAY)) * 28 * DAY;
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step);
}

const tickLabel = (time) => (time === 0 ? "0" : duration(time).replace(/\.0 s$/, " s").replace(" 00 s", "").replace(" 0 min", ""));

/** What a bar says of itself, in one line. */
export function describe(bar, now) {
  const length = bar.start === null ? null : (bar.end ?? now) - bar.start;
  return [bar.step, WORDS[bar.status] ?? bar.status, length !== null && duration(length), bar.attempt > 1 && `attempt ${bar.attempt}`,
    bar.queuedAt !== null && bar.start > bar.queuedAt && `queued for ${duration(bar.start - bar.queuedAt)}`,
    `${bar.input}${bar.output && bar.output !== "NoneType" ? ` → ${bar.output}` : ""}`].filter(Boolean).join(" · ");
}

/**
 * Make a timeline.
 *
 * @param {HTMLElement} element
 * @param {{onSelect?: (bar | null) => void}} options
 * @returns {{show, select, resize, destroy}}
 */
export function createTimeline(element, { onSelect = () => {} } = {}) {
  const axis = h("div", { class: "wf-time-axis", "aria-hidden": "true" });
  const body = h("div", { class: "wf-time-body", role: "group", "aria-label": "Executions of the steps. Arrow keys go from one to the next.", onkeydown: onKey }, axis);
  const scroll = h("div", { class: "wf-time-scroll", tabindex: -1, onwheel: (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * 0.01));
  } }, body);
  const info = h("p", { class: "wf-time-info" });
  const tool = (text, label, onclick) => h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, text, onclick });
  const frame = h("div", { class: "wf-timeline" }, h("div", { class: "wf-time-head" }, info, tool("−", "Zoom out", () => zoomBy(1 / 1.5)),
    tool("+", "Zoom in", () => zoomBy(1.5)), tool("⤢", "Show all", () => zoomBy(0))), scroll);
  element.append(frame);

  const bars = new Map();
  const tracks = new Map();
  let lanes = [];
  let from = 0;
  let end = 0;
  let shownAt = 0;
  let isOpen = false;
  let zoom = 1;
  let selected = null;
  const observer = new ResizeObserver(drawAxis);
  observer.observe(scroll);
  const clock = setInterval(() => isOpen && frame.offsetParent && grow(), 250);

  const now = () => (isOpen ? end + Date.now() - shownAt : end);
  const span = () => Math.max(now() - from, 10);

  /**
   * Show a run.
   *
   * @param {{sequence, time, event}[]} records ordered, with internal ones
   * @param {{from?: number, now?: number}} times in ms: when the run began, and the present by the server's clock
   */
  function show(records, times = {}) {
    const run = lanesOf(records);
    isOpen = run.outcome === null && run.lanes.length > 0;
    from = Math.min(times.from ?? Infinity, run.from ?? Infinity);
    if (!Number.isFinite(from)) from = 0;
    end = isOpen ? Math.max(times.now ?? Date.now(), run.to) : (run.to ?? from);
    shownAt = Date.now();
    lanes = run.lanes;
    const known = new Set(lanes.map((lane) => lane.step));
    for (const [step, track] of tracks) if (!known.has(step)) tracks.delete(step) && track.lane.remove();
    const living = new Set();
    for (const lane of lanes) drawLane(lane, living);
    for (const [id, item] of bars) if (!living.has(id)) bars.delete(id) && item.remove();
    if (!body.querySelector("[tabindex='0']")) set(bars.values().next().value ?? scroll, { tabindex: 0 });
    if (!lanes.length) info.textContent = "No step has run yet.";
    else if (selected === null) tell(null);
    grow();
  }

  function drawLane(lane, living) {
    if (!tracks.has(lane.step)) {
      const track = { total: h("small"), place: h("div", { class: "wf-time-track" }) };
      track.lane = h("div", { class: "wf-time-lane" }, h("div", { class: "wf-time-name", title: lane.step }, h("span", { text: lane.step }), track.total), track.place);
      tracks.set(lane.step, track);
      body.append(track.lane);
    }
    const { place, total } = tracks.get(lane.step);
    total.textContent = lane.bars.length > 1 ? `${lane.bars.length} × · ${duration(lane.busy)}` : duration(lane.busy);
    place.style.height = `${lane.rows * ROW + 6}px`;
    const repeated = new Map(lane.bars.filter((bar) => bar.previous).map((bar) => [bar.previous, bar]));
    for (const bar of lane.bars) {
      const next = repeated.get(bar);
      const waits = ["retrying", "waiting"].includes(bar.status) && (next || isOpen);
      draw(`${bar.id}`, "button", bar, bar.start, bar.end, place, living);
      if (waits) draw(`${bar.id} wait`, "span", bar, bar.end, next ? next.start : null, place, living);
    }
  }

  function draw(id, name, bar, start, until, place, living) {
    living.add(id);
    if (!bars.has(id)) {
      const isBar = name === "button";
      const item = h(name, isBar ? { type: "button", tabindex: -1, "data-id": id, onclick: () => choose(bar.id), onfocus: () => focusOn(item),
        onmouseenter: () => tell(item.bar) } : {});
      bars.set(id, item);
    }
    const item = bars.get(id);
    // The same number may be another step's, in another run of the handler.
    if (item.parentNode !== place) place.append(item);
    const kind = name === "button" ? "wf-bar" : "wf-bar-wait";
    const isSelected = selected === bar.id && name === "button";
    item.className = `${kind} is-${bar.status}${isSelected ? " is-selected" : ""}`;
    Object.assign(item, { bar, from: start, until });
    item.style.top = `${bar.row * ROW + 3}px`;
    item.style.setProperty("--from", start - from);
    item.style.setProperty("--for", Math.max((until ?? now()) - start, 0));
    set(item, name === "button" ? { "aria-label": describe(bar, now()), "aria-pressed": String(isSelected) } : { "aria-hidden": "true" });
  }

  /** Let the scale, and what goes on, reach the present. */
  function grow() {
    body.style.setProperty("--span", span());
    if (isOpen) for (const item of bars.values()) if (item.until === null) item.style.setProperty("--for", now() - item.from);
    drawAxis();
  }

  function drawAxis() {
    axis.hidden = !lanes.length;
    if (!scroll.clientWidth) return;
    body.style.setProperty("--zoom", zoom);
    const times = ticks(span(), Math.max(2, ((scroll.clientWidth - 140) * zoom) / 90));
    const texts = times.map(tickLabel);
    while (axis.children.length > times.length) axis.lastChild.remove();
    while (axis.children.length < times.length) axis.append(h("span"));
    times.forEach((time, index) => {
      const mark = axis.children[index];
      if (mark.textContent !== texts[index]) mark.textContent = texts[index];
      mark.style.setProperty("--from", time);
    });
  }

  function zoomBy(factor) {
    const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / scroll.scrollWidth;
    zoom = Math.min(200, Math.max(1, zoom * factor));
    drawAxis();
    scroll.scrollLeft = middle * scroll.scrollWidth - scroll.clientWidth / 2;
  }

  // --- what the reader does ---

  function tell(bar) {
    const total = `${duration(now() - from)} in all, ${lanes.length} ${lanes.length === 1 ? "step" : "steps"}`;
    info.textContent = bar ? describe(bar, now()) : total;
  }

  function focusOn(item) {
    for (const other of body.querySelectorAll("[tabindex='0']")) set(other, { tabindex: -1 });
    set(item, { tabindex: 0 });
    tell(item.bar);
  }

  /** Select the bar of an id, or none; onSelect is not told. */
  function select(id) {
    selected = id;
    for (const item of bars.values()) {
      const isSelected = item.bar.id === id && item.dataset.id !== undefined;
      item.classList.toggle("is-selected", isSelected);
      if (item.dataset.id !== undefined) set(item, { "aria-pressed": String(isSelected) });
    }
    const item = bars.get(String(id));
    item?.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (lanes.length) tell(item?.bar ?? null);
  }

  function choose(id) {
    select(id === selected ? null : id);
    onSelect(bars.get(String(selected))?.bar ?? null);
  }

  function onKey(event) {
    const keys = { "+": 1.5, "-": 1 / 1.5, 0: 0 };
    if (event.key in keys) return zoomBy(keys[event.key]);
    const bar = event.target.bar;
    if (!bar) return;
    const at = lanes.findIndex((lane) => lane.step === bar.step);
    const own = lanes[at].bars;
    const nearest = (lane) => lane?.bars.reduce((best, other) => Math.abs(other.start - bar.start) < Math.abs(best.start - bar.start) ? other : best);
    const goals = { ArrowRight: own[own.indexOf(bar) + 1], ArrowLeft: own[own.indexOf(bar) - 1], ArrowDown: nearest(lanes[at + 1]),
      ArrowUp: nearest(lanes[at - 1]), Home: own[0], End: own.at(-1), Escape: null };
    if (!(event.key in goals)) return;
    event.preventDefault();
    if (event.key === "Escape" && selected !== null) choose(selected);
    bars.get(String(goals[event.key]?.id))?.focus();
  }

  function destroy() {
    clearInterval(clock);
    observer.disconnect();
    frame.remove();
  }

  return { show, select, resize: drawAxis, destroy };
}
