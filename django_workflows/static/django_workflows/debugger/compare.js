// What is different between two runs. Pure.

import { isInternal } from "./eventlog.js";
import { lanes } from "./lanes.js";
import { progress } from "./progress.js";

const isBranch = (value) => value !== null && typeof value === "object";
// What differs from run to run by its nature: moments, and ids.
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d/;
const ID = /^([\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}|[\da-f]{32}|[\w-]{22})$/i;
const NAMES = /(^|_)(id|uuid|key|time|timestamp|at|elapsed|elapsed_seconds|duration)$/i;

/** Whether two values under a name count as the same moment or id: both are one, whichever. */
function isIncidental(name, a, b) {
  if (typeof a !== typeof b || isBranch(a)) return false;
  const alike = (pattern) => typeof a === "string" && pattern.test(a) && pattern.test(b);
  return alike(MOMENT) || alike(ID) && /\d/.test(a) || NAMES.test(name);
}

/**
 * List where two values differ.
 *
 * @param {{strict?: boolean, limit?: number}} options strict also compares moments and ids
 * @returns {{path: string, a: any, b: any}[]} "" is the path of the whole; a or b is undefined where it has none
 */
export function differences(a, b, { strict = false, limit = 100 } = {}) {
  const found = [];
  const walk = (left, right, path, name) => {
    if (found.length >= limit) return;
    if (isBranch(left) && isBranch(right) && Array.isArray(left) === Array.isArray(right)) {
      for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
        walk(left[key], right[key], path ? `${path}.${key}` : key, key);
      }
    } else if (left !== right && (strict || !isIncidental(name, left, right))) found.push({ path, a: left, b: right });
  };
  walk(a, b, "", "");
  return found;
}

/**
 * Find the first event in which two runs differ; the engine's own events, times and ids are left out.
 *
 * @returns {{index: number, a: record | null, b: record | null, differences: object[]} | null} null when there is none; a or
 *   b is null when that run has no more events
 */
export function firstDifference(a, b) {
  const [left, right] = [a, b].map((records) => records.filter((record) => !isInternal(record)));
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const [one, other] = [left[index] ?? null, right[index] ?? null];
    if (!one || !other) return { index, a: one, b: other, differences: [] };
    const found = differences({ type: one.event.type, value: one.event.value }, { type: other.event.type, value: other.event.value });
    if (found.length) return { index, a: one, b: other, differences: found };
  }
  return null;
}

/** Say which nodes of the graph the runs came by: {id, label, a, b} with how often, in the order of the graph. */
export function coverage(a, b, representation) {
  const [left, right] = [progress(a, representation).nodes, progress(b, representation).nodes];
  return (representation.graph ?? representation).nodes.filter((node) => !(node.node_type ?? "").startsWith("resource"))
    .map(({ id, label }) => ({ id, label, a: left[id]?.count ?? 0, b: right[id]?.count ?? 0 }));
}

/**
 * Compare where the time went.
 *
 * @returns {{step, a, b, difference}[]} a and b are {count, busy, retries, waits}, or null; difference is b's ms more than
 *   a's; the largest comes first
 */
export function timeDifferences(a, b) {
  const [left, right] = [a, b].map((records) => new Map(lanes(records).lanes.map((lane) => [lane.step, summary(lane)])));
  const steps = [...new Set([...left.keys(), ...right.keys()])];
  return steps.map((step) => {
    const [one, other] = [left.get(step) ?? null, right.get(step) ?? null];
    return { step, a: one, b: other, difference: (other?.busy ?? 0) - (one?.busy ?? 0) };
  }).sort((one, other) => Math.abs(other.difference) - Math.abs(one.difference));
}

function summary({ bars, busy }) {
  const count = (status) => bars.filter((bar) => bar.status === status).length;
  return { count: bars.length, busy, retries: count("retrying"), waits: count("waiting") };
}
