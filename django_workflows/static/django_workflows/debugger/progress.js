// From a run's event log to the state of the nodes and edges of its workflow's graph. Pure.

import { executions, isA } from "./executions.js";
import { kindOf } from "./shapes.js";

/** The name of an edge in progress() and in the graph's mark(). */
export const edgeKey = (source, target) => JSON.stringify([source, target]);

const URGENCY = ["failed", "running", "retrying", "waiting", "done", "cancelled"];

/**
 * Compute what a graph shows of a run.
 *
 * @param {{sequence, event}[]} records ordered, with internal ones
 * @param {object} representation as GET /workflows/{name}/representation gives it, or its inner graph
 * @returns {{nodes: Object<string, {status, count, running?}>, edges: Object<string, {count, active}>}} nodes that nothing
 *   has happened to are not in it; for steps, count is that of their inputs: repeated attempts do not count
 */
export function progress(records, representation) {
  const graph = representation.graph ?? representation;
  const { bars, outcome, queued } = executions(records);
  const byId = new Map(graph.nodes.map((node) => [node.id, node]));
  const nodes = {};

  const steps = new Map();
  for (const bar of bars) (steps.get(bar.step) ?? steps.set(bar.step, []).get(bar.step)).push(bar);
  for (const [step, own] of steps) {
    const repeated = new Set(own.map((bar) => bar.previous));
    const latest = own.filter((bar) => !repeated.has(bar));
    const status = URGENCY.find((name) => latest.some((bar) => bar.status === name));
    const running = latest.filter((bar) => bar.status === "running").length;
    nodes[step] = { status: status === "cancelled" ? "failed" : status, running, count: 0 };
  }

  const taken = new Map();
  const made = new Map();
  const add = (map, ...key) => map.set(edgeKey(...key), (map.get(edgeKey(...key)) ?? 0) + 1);
  for (const { step, input } of [...bars, ...queued].filter(({ previous }) => !previous)) {
    add(taken, input, step);
    if (nodes[step]) nodes[step].count += 1;
  }
  for (const bar of bars) {
    if (bar.output && bar.output !== "NoneType") add(made, bar.step, bar.output);
  }
  const countEvent = (id) => {
    const ends = (map, at) => [...map].filter(([key]) => JSON.parse(key)[at] === id).map(([, count]) => count);
    return Math.max(0, ...ends(taken, 0), ends(made, 1).reduce((a, b) => a + b, 0));
  };
  for (const node of graph.nodes.filter((other) => other.node_type === "event")) {
    const published = records.filter((record) => record.event.type === node.id).length;
    const count = Math.max(countEvent(node.id), published);
    if (count) nodes[node.id] = { status: "done", count };
  }
  settleEnds();

  const edges = {};
  for (const { source, target } of graph.edges) {
    const count = countEdge(source, target);
    if (count) edges[edgeKey(source, target)] = { count, active: isActive(source, target) };
  }
  return { nodes, edges };

  function settleEnds() {
    if (outcome === "failed" || outcome === "cancelled") {
      for (const node of graph.nodes) if (kindOf(node) === "stop") nodes[node.id] = { status: "failed", count: 1 };
    }
    const outside = graph.nodes.find((node) => kindOf(node) === "outside");
    const asked = records.filter((record) => isA(record, "InputRequiredEvent")).length;
    if (!outside || !asked) return;
    // The run waits for somebody as long as nothing has happened since it went idle.
    const idle = records.findLast((record) => record.internal !== false && record.event.type === "WorkflowIdleEvent");
    const resumed = records.findLast((record) => record.event.value?.step_state === "running");
    const waiting = outcome === null && idle && idle.sequence > (resumed?.sequence ?? -1);
    nodes[outside.id] = { status: waiting ? "waiting" : "done", count: asked };
  }

  function countEdge(source, target) {
    const [from, to] = [byId.get(source), byId.get(target)];
    if (!from || !to || kindOf(to) === "resource") return 0;
    if (from.node_type === "step") {
      // A list that a step returns is one output in the log, and as many inputs of the next.
      const alone = graph.edges.filter((edge) => edge.target === target).length === 1;
      const count = made.get(edgeKey(source, target)) ?? 0;
      return alone && count ? Math.max(count, nodes[target]?.count ?? 0) : count;
    }
    if (to.node_type !== "step") return Math.min(nodes[source]?.count ?? 0, nodes[target]?.count ?? 0);
    const direct = taken.get(edgeKey(source, target)) ?? 0;
    if (direct || !nodes[target]) return direct;
    // A step that collects is told of one release, whatever it contains.
    return taken.has(edgeKey("CollectionReleaseEvent", target)) ? countEvent(source) : 0;
  }

  function isActive(source, target) {
    return nodes[target]?.status === "running" || (nodes[target]?.status === "waiting" && nodes[source]?.status === "done");
  }
}
