// What a node of the graph is, and the outline by which its kind is known without its colour.

export const KINDS = {
  start: { name: "Start event", shape: startShape },
  step: { name: "Step", shape: (w, h) => box(w, h, 6) },
  event: { name: "Event", shape: (w, h) => box(w, h, h / 2) },
  human: { name: "Asks a person", shape: bubble },
  external: { name: "Event from outside", shape: flag },
  outside: { name: "Outside", shape: hexagon },
  stop: { name: "Stop event", shape: octagon },
  resource: { name: "Resource", shape: drum },
  other: { name: "Other", shape: (w, h) => `M10 0H${w}V${h - 10}L${w - 10} ${h}H0V10Z` },
};

/** Name the kind of a node of a workflow's representation: a key of KINDS. */
export function kindOf(node) {
  const is = (name) => (node.event_types ?? []).includes(name);
  if (node.node_type === "step") return "step";
  if (node.node_type === "external") return "outside";
  if ((node.node_type ?? "").startsWith("resource")) return "resource";
  if (node.node_type !== "event") return "other";
  if (is("StartEvent")) return "start";
  if (is("StopEvent")) return "stop";
  if (is("InputRequiredEvent")) return "human";
  if (is("HumanResponseEvent")) return "external";
  return "event";
}

/** The outline of a kind as the data of an SVG path that fills w by h px. */
export const outline = (kind, w, h) => KINDS[kind].shape(w, h);

function box(w, h, r) {
  return `M${r} 0H${w - r}A${r} ${r} 0 0 1 ${w} ${r}V${h - r}A${r} ${r} 0 0 1 ${w - r} ${h}` +
    `H${r}A${r} ${r} 0 0 1 0 ${h - r}V${r}A${r} ${r} 0 0 1 ${r} 0Z`;
}

function startShape(w, h) {
  const r = h / 2;
  return `M${r} 0H${w - 14}L${w} ${r}L${w - 14} ${h}H${r}A${r} ${r} 0 0 1 ${r} 0Z`;
}

function octagon(w, h) {
  const cut = h * 0.3;
  return `M${cut} 0H${w - cut}L${w} ${cut}V${h - cut}L${w - cut} ${h}H${cut}L0 ${h - cut}V${cut}Z`;
}

function hexagon(w, h) {
  const cut = h / 2;
  return `M${cut} 0H${w - cut}L${w} ${h / 2}L${w - cut} ${h}H${cut}L0 ${h / 2}Z`;
}

function bubble(w, h) {
  const [base, tail] = [h - 6, Math.min(22, w * 0.3)];
  return `M8 0H${w - 8}A8 8 0 0 1 ${w} 8V${base - 8}A8 8 0 0 1 ${w - 8} ${base}H${tail + Math.min(12, w / 5)}L${tail} ${h}V${base}H8` +
    `A8 8 0 0 1 0 ${base - 8}V8A8 8 0 0 1 8 0Z`;
}

function flag(w, h) {
  return `M0 0H${w}V${h}H0L12 ${h / 2}Z`;
}

function drum(w, h) {
  return `M0 5C0 -1.5 ${w} -1.5 ${w} 5V${h - 5}C${w} ${h + 1.5} 0 ${h + 1.5} 0 ${h - 5}Z` +
    `M0 5C0 11.5 ${w} 11.5 ${w} 5`;
}
