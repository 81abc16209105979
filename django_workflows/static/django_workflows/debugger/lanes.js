// A run's executions in lanes, as a timeline shows them. Pure.

import { executions, timeOf } from "./executions.js";

/**
 * Order a run's executions into lanes, one for each step in the order of their first execution.
 *
 * @param {{sequence, time, event}[]} records ordered, with internal ones
 * @returns {{lanes: {step, bars, rows, busy}[], from: number | null, to: number | null, outcome}} each bar as in
 *   executions(), with the row that it has to itself in its lane; busy is the sum of the
 *   lane's bars in ms. from and to are the first and the last time in the log.
 */
export function lanes(records) {
  const { bars, outcome } = executions(records);
  const times = records.map(timeOf).filter((time) => time !== null);
  const byStep = new Map();
  for (const bar of bars) {
    if (!byStep.has(bar.step)) byStep.set(bar.step, []);
    byStep.get(bar.step).push(bar);
  }
  const found = [...byStep].map(([step, own]) => {
    const rows = [];
    for (const bar of own) {
      const free = rows.findIndex((end) => end !== null && end <= bar.start);
      bar.row = free === -1 ? rows.length : free;
      rows[bar.row] = bar.end;
    }
    return { step, bars: own, rows: rows.length, busy: own.reduce((sum, bar) => sum + (bar.end ?? bar.start) - bar.start, 0) };
  });
  const extreme = (choose) => (times.length ? times.reduce((a, b) => choose(a, b)) : null);
  return { lanes: found, from: extreme(Math.min), to: extreme(Math.max), outcome };
}
