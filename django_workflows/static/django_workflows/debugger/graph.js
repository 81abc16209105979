// A workflow's graph in SVG, with the state of its steps.

import { h, set, svg, uid } from "./dom.js";
import { KINDS, kindOf, outline } from "./shapes.js";
import { edgeKey } from "./progress.js";
import { createViewport } from "./viewport.js";

const LONGEST = 32;
// The scale below which a graph is hardly shrunk unasked, to show all of it.
const READABLE = 0.6;
const GLYPHS = { running: "▶", done: "✓", failed: "✕", retrying: "↻", waiting: "?" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const shorten = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text);
const centre = (box) => ({ x: box.x + box.width / 2, y: box.y + box.height / 2 });

/** The line between two boxes when route.js cannot be loaded. */
function straight(...boxes) {
  const [from, to] = boxes.map(centre);
  return { path: `M${from.x} ${from.y}L${to.x} ${to.y}`, middle: { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 } };
}

/**
 * Draw a workflow's graph into an element.
 *
 * @param {HTMLElement} element
 * @param {{onSelect?: (id: string | null) => void, storageKey?: string}} options under storageKey the browser
 *   keeps where nodes have been moved to
 * @returns {{show, mark, select, fit, reset, destroy}}
 */
export function createGraph(element, { onSelect = () => {}, storageKey = null } = {}) {
  const marker = uid("arrow");
  const edgeLayer = svg("g", { class: "wf-edges" });
  const nodeLayer = svg("g", { class: "wf-nodes" });
  const world = svg("g", {}, edgeLayer, nodeLayer);
  const arrow = svg("marker", { id: marker, viewBox: "0 0 8 8", refX: 7.5, refY: 4, markerWidth: 7, markerHeight: 7,
    orient: "auto-start-reverse" }, svg("path", { d: "M0 0L8 4L0 8Z", class: "wf-arrow" }));
  const canvas = svg("svg", { class: "wf-canvas", tabindex: 0, role: "group", onkeydown: onCanvasKey,
    "aria-label": "Graph of the workflow. Arrow keys move the view, plus and minus zoom, 0 shows all." },
  svg("defs", {}, arrow), world);
  const legend = h("ul", { class: "wf-legend", "aria-label": "Shapes" });
  const zoom = (factor) => () => viewport.zoom(factor);
  const fit = () => viewport.fit();
  const button = (text, label, onclick) =>
    h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, text, onclick });
  const tools = h("div", { class: "wf-graph-tools", role: "group", "aria-label": "View of the graph" }, button("+", "Zoom in", zoom(1.25)),
    button("−", "Zoom out", zoom(0.8)), button("⤢", "Show all", fit), button("↺", "Put the nodes back", reset));
  const frame = h("div", { class: "wf-graph" }, h("div", { class: "wf-graph-view" }, canvas, tools), legend);
  element.append(frame);

  let shown = null;
  let nodes = new Map();
  let edges = [];
  let laidOut = { nodes: {}, width: 0 };
  // Leads the lines of nodes that have been moved; route.js has it, which is loaded when the first one is.
  let route = null;
  let loading = null;
  let selected = null;
  const viewport = createViewport(canvas, world, bounds);

  // --- drawing ---

  /** Show a workflow's `{graph, layout}`, as GET /workflows/{name}/representation and /layout give them. */
  function show(representation) {
    const key = JSON.stringify(representation);
    if (key === shown) return;
    shown = key;
    draw(representation);
    viewport.fit(READABLE);
  }

  function draw({ graph, layout }) {
    laidOut = layout;
    nodes = new Map(graph.nodes.map((node) => [node.id, newNode(node, { ...layout.nodes[node.id] })]));
    for (const [id, [x, y]] of Object.entries(stored())) {
      const node = nodes.get(id);
      if (node) Object.assign(node, { moved: true, box: { ...node.box, x, y } });
    }
    const labels = new Map(graph.edges.map((edge) => [edgeKey(edge.source, edge.target), edge.label]));
    edges = layout.edges.map((edge) => newEdge({ ...edge, label: labels.get(edgeKey(edge.source, edge.target)) }));
    edgeLayer.replaceChildren(...edges.map((edge) => edge.group));
    nodeLayer.replaceChildren(...[...nodes.values()].map((node) => node.group));
    for (const node of nodes.values()) place(node);
    edges.forEach(lead);
    // One node takes part in the order of the tab key; the arrow keys lead to the others.
    const first = [...nodes.values()].find((node) => node.kind === "start") ?? nodes.values().next().value;
    if (first) set(first.group, { tabindex: 0 });
    drawLegend();
    select(nodes.has(selected) ? selected : null);
  }

  function newNode(node, box) {
    const kind = kindOf(node);
    const text = shorten(node.label);
    const { width, height } = box;
    const status = svg("text", { class: "wf-badge-text", "text-anchor": "middle", y: 4 });
    const plate = svg("rect", { class: "wf-badge-plate", y: -9, height: 18, rx: 9 });
    const badge = svg("g", { class: "wf-badge", transform: `translate(${width - 4} 0)` }, plate, status);
    const shape = svg("path", { class: "wf-shape", d: outline(kind, width, height) });
    const middle = kind === "human" ? height / 2 - 3 : height / 2;
    const group = svg("g", { class: `wf-node wf-kind-${kind}`, tabindex: -1, role: "button", "aria-pressed": "false" },
      svg("title", { text: [node.label, KINDS[kind].name, node.description].filter(Boolean).join("\n") }),
      shape, svg("text", { class: "wf-label", x: width / 2, y: middle + 4.5, "text-anchor": "middle", text }), badge);
    const item = { id: node.id, label: node.label, kind, group, plate, status, moved: false, box };
    group.addEventListener("pointerdown", (event) => startDrag(event, item));
    group.addEventListener("keydown", (event) => onNodeKey(event, item));
    group.addEventListener("focus", () => focusable(item));
    describe(item);
    return item;
  }

  function newEdge(edge) {
    const line = svg("path", { class: "wf-line", "marker-end": `url(#${marker})` });
    const text = svg("text", { class: "wf-edge-text", "text-anchor": "middle", y: 4 });
    const plate = svg("rect", { class: "wf-edge-plate", y: -8, height: 16, rx: 8 });
    const note = svg("g", { class: "wf-edge-note" }, plate, text);
    const resource = nodes.get(edge.target).kind === "resource";
    const group = svg("g", { class: resource ? "wf-edge is-resource" : "wf-edge", visibility: "hidden" }, line, note);
    const item = { ...edge, group, line, note, text, plate };
    setNote(item, "");
    return item;
  }

  function setNote(edge, count) {
    const text = count || edge.label || "";
    edge.text.textContent = text;
    const width = text.length * 6.6 + 12;
    set(edge.plate, { x: -width / 2, width });
    edge.note.classList.toggle("is-empty", !text);
  }

  const shift = ({ x, y }) => ({ transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` });
  const place = (node) => set(node.group, shift(node.box));

  /** Draw an edge's line where it leads now: as the layout has it, while its nodes stand there. */
  function lead(edge) {
    const [from, to] = [nodes.get(edge.source), nodes.get(edge.target)];
    const moved = from.moved || to.moved;
    if (moved && !route) return loadRoute();
    const { path, middle } = moved ? route(from.box, to.box) : edge;
    set(edge.line, { d: path });
    set(edge.note, shift(middle));
    set(edge.group, { visibility: null });
  }

  function loadRoute() {
    loading ??= import("./route.js").catch(() => ({ route: straight })).then((module) => {
      route = module.route;
      edges.forEach(lead);
    });
  }

  function bounds() {
    const boxes = [...nodes.values()].map((node) => node.box);
    const [x, y] = [Math.min(...boxes.map((box) => box.x)), Math.min(...boxes.map((box) => box.y)) - 10];
    const rights = [laidOut.width + 4, ...boxes.map((box) => box.x + box.width + 14)];
    return { x, y, width: Math.max(...rights) - x, height: Math.max(...boxes.map((box) => box.y + box.height)) - y + 2 };
  }

  function drawLegend() {
    const present = new Set([...nodes.values()].map((node) => node.kind));
    legend.replaceChildren(...Object.keys(KINDS).filter((kind) => present.has(kind)).map((kind) =>
      h("li", {}, svg("svg", { class: `wf-kind-${kind}`, width: 30, height: 18, viewBox: "-1 -1 32 20", "aria-hidden": "true" },
        svg("path", { class: "wf-shape", d: outline(kind, 30, 18) })), KINDS[kind].name)));
  }

  // --- state ---

  /**
   * Show the state of a run, as progress() gives it.
   *
   * @param {Object<string, {status, count?, running?}>} marks of nodes, by id; a node that is not named is idle
   * @param {Object<string, {count, active?}>} edgeMarks by edgeKey(source, target)
   */
  function mark(marks, edgeMarks = {}) {
    const before = new Set([...nodes.values()].filter((node) => node.isBusy));
    for (const node of nodes.values()) describe(node, marks[node.id]);
    // Whoever has not chosen a view of their own is led along.
    const started = [...nodes.values()].findLast((node) => node.isBusy && !before.has(node));
    if (started) viewport.lead(started.box);
    for (const edge of edges) {
      const { count = 0, active = false } = edgeMarks[edgeKey(edge.source, edge.target)] ?? {};
      edge.group.classList.toggle("is-used", count > 0);
      edge.group.classList.toggle("is-active", active);
      setNote(edge, count > 1 && `×${count}`);
    }
  }

  function describe(node, { status = "idle", count = 0 } = {}) {
    node.isBusy = status === "running" || status === "waiting";
    const text = count > 1 ? `${GLYPHS[status]} ${count}` : (GLYPHS[status] ?? "");
    const width = text.length * 7 + 10;
    for (const name of ["idle", ...Object.keys(GLYPHS)]) node.group.classList.toggle(`is-${name}`, name === status);
    node.status.textContent = text;
    set(node.status, { x: -width / 2 + 6 });
    set(node.plate, { x: -width + 6, width });
    const times = count > 1 ? ` ${count} times` : "";
    set(node.group, { "aria-label": `${KINDS[node.kind].name} ${node.label}${times}${status === "idle" ? "" : `, ${status}`}` });
  }

  /** Select a node, or none, without telling onSelect. */
  function select(id) {
    selected = nodes.has(id) ? id : null;
    for (const node of nodes.values()) {
      node.group.classList.toggle("is-selected", node.id === selected);
      set(node.group, { "aria-pressed": String(node.id === selected) });
    }
    for (const edge of edges) {
      edge.group.classList.toggle("is-near", selected !== null && [edge.source, edge.target].includes(selected));
    }
    if (selected !== null) viewport.reveal(nodes.get(selected).box);
  }

  function choose(id) {
    select(id);
    onSelect(selected);
  }

  const toggle = (node) => choose(node.id === selected ? null : node.id);

  // --- moving nodes ---

  function startDrag(event, node) {
    if (event.button !== 0) return;
    event.stopPropagation();
    const { x, y } = node.box;
    let dragged = false;
    node.group.setPointerCapture(event.pointerId);
    // A new drag takes the place of an old one's listeners.
    node.group.onpointermove = (now) => {
      const [dx, dy] = [now.clientX - event.clientX, now.clientY - event.clientY];
      dragged ||= Math.hypot(dx, dy) > 4;
      if (dragged) moveTo(node, x + dx / viewport.scale(), y + dy / viewport.scale());
    };
    node.group.onpointerup = node.group.onpointercancel = (now) => {
      node.group.onpointermove = node.group.onpointerup = node.group.onpointercancel = null;
      if (dragged) store();
      else if (now.type === "pointerup") toggle(node);
    };
  }

  function moveTo(node, x, y) {
    node.moved = true;
    Object.assign(node.box, { x, y });
    place(node);
    for (const edge of edges) if (edge.source === node.id || edge.target === node.id) lead(edge);
  }

  function stored() {
    try {
      const value = JSON.parse(localStorage.getItem(storageKey) ?? "{}");
      return Object.fromEntries(Object.entries(value).filter(([, at]) => at?.length === 2 && at.every(Number.isFinite)));
    } catch {
      return {}; // Another page's value, or a browser that keeps nothing: the nodes stand where the layout puts them.
    }
  }

  function store() {
    if (storageKey === null) return;
    const moved = [...nodes.values()].filter((node) => node.moved).map(({ id, box }) => [id, [box.x, box.y]]);
    try {
      if (moved.length) localStorage.setItem(storageKey, JSON.stringify(Object.fromEntries(moved)));
      else localStorage.removeItem(storageKey);
    } catch {
      // The nodes stay where they are until the page is left.
    }
  }

  /** Put all nodes back to where the layout has them. */
  function reset() {
    for (const node of nodes.values()) node.moved = false;
    store();
    for (const [id, { x, y }] of Object.entries(laidOut.nodes)) Object.assign(nodes.get(id).box, { x, y });
    for (const node of nodes.values()) place(node);
    edges.forEach(lead);
    fit();
  }

  // --- keys ---

  function onCanvasKey(event) {
    if (event.ctrlKey || event.metaKey) return;
    const actions = { "+": zoom(1.25), "=": zoom(1.25), "-": zoom(0.8), 0: fit, Escape: () => choose(null) };
    const arrow = ARROWS[event.key];
    const action = arrow ? () => viewport.pan(-arrow[0] * 60, -arrow[1] * 60) : actions[event.key];
    if (!action) return;
    action();
    event.preventDefault();
  }

  function onNodeKey(event, node) {
    const direction = ARROWS[event.key];
    if (event.key === "Enter" || event.key === " ") toggle(node);
    else if (direction && event.shiftKey) {
      moveTo(node, node.box.x + direction[0] * 16, node.box.y + direction[1] * 16);
      store();
    } else if (direction) neighbour(node, direction)?.group.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The nearest node in a direction: what lies aside counts as further away. */
  function neighbour(node, [dx, dy]) {
    const from = centre(node.box);
    const found = [...nodes.values()].map((other) => {
      const [right, down] = [centre(other.box).x - from.x, centre(other.box).y - from.y];
      const ahead = right * dx + down * dy;
      return { other, ahead, cost: ahead + 2 * (Math.abs(right * dy) + Math.abs(down * dx)) };
    });
    return found.filter(({ ahead }) => ahead > 4).sort((a, b) => a.cost - b.cost)[0]?.other;
  }

  function focusable(node) {
    for (const other of nodes.values()) set(other.group, { tabindex: other === node ? 0 : -1 });
    viewport.reveal(node.box);
  }

  function destroy() {
    viewport.destroy();
    frame.remove();
  }

  return { show, mark, select, fit, reset, destroy };
}
