// From a run's event log to the executions of its steps.
//
// Pure. The engine tells of each step when it is queued ("preparing"), starts ("running") and ends ("not_running");
// what came of it is read from what follows: a step that ended without an output failed or waits.

const STOPS = { WorkflowFailedEvent: "failed", WorkflowTimedOutEvent: "failed", WorkflowCancelledEvent: "cancelled" };

/** A record's event is of a type, itself or by inheritance. */
export const isA = (record, name) => record.event.type === name || (record.event.types ?? []).includes(name);

/** The time of a record in ms, or null. */
export const timeOf = (record) => {
  const time = typeof record.time === "string" ? Date.parse(record.time) : record.time;
  return Number.isFinite(time) ? time : null;
};

/** "<class 'shop.events.Paid'>" is Paid; null stays null. */
const className = (text) => (text ? text.replace(/^<class '|'>$/g, "").split(".").at(-1) : null);

/**
 * Find the executions of a run's steps.
 *
 * @param {{sequence, time, event}[]} records ordered, with internal ones
 * @returns {{bars: object[], outcome: string | null, queued: {step, input, at, previous}[]}} each bar is {id, step, worker,
 *   input, output, start, end, endSequence, status, attempt, queuedAt, previous}; start and end are ms or null; status is
 *   running, done, failed, retrying, waiting or cancelled; previous is the bar that this one repeats. outcome is
 *   completed, failed or cancelled once the run has ended; queued are the inputs that wait for a worker.
 */
export function executions(records) {
  const bars = [];
  const open = new Map();
  const queues = new Map();
  let suspended = [];
  let outcome = null;
  let last = null;
  const queueOf = (key) => queues.get(key) ?? queues.set(key, []).get(key);
  const takeSuspended = (step, input) => {
    const found = suspended.find((bar) => bar.step === step && bar.input === input);
    suspended = suspended.filter((bar) => bar !== found);
    return found ?? null;
  };

  const changes = {
    preparing({ name, input_event_name: input }, record) {
      queueOf(`${name} ${input}`).push({ step: name, input, at: timeOf(record), previous: takeSuspended(name, input) });
    },
    running({ name, input_event_name: input, worker_id: worker }, record) {
      const place = `${name} ${worker}`;
      const interrupted = open.get(place) ?? null;
      // The process died; the step runs again.
      if (interrupted) Object.assign(interrupted, { status: "retrying", end: timeOf(record), endSequence: record.sequence });
      if (input === "StepFailedEvent") for (const bar of suspended) if (bar.status !== "waiting") bar.status = "failed";
      const queued = queueOf(`${name} ${input}`).shift();
      const previous = interrupted ?? (queued ? queued.previous : takeSuspended(name, input));
      const bar = { id: record.sequence, step: name, worker, input, output: null, start: timeOf(record), end: null,
        endSequence: null, status: "running", attempt: (previous?.attempt ?? 0) + 1, queuedAt: queued?.at ?? null, previous };
      bars.push(bar);
      open.set(place, bar);
    },
    not_running({ name, worker_id: worker, output_event_name: output }, record) {
      const bar = open.get(`${name} ${worker}`);
      if (!bar) return;
      open.delete(`${name} ${worker}`);
      const ended = { end: timeOf(record), endSequence: record.sequence, output: className(output) };
      Object.assign(bar, ended, { status: output ? "done" : "retrying" });
      if (!output) suspended.push(bar);
    },
  };

  for (const record of records) {
    const { type, value } = record.event;
    if (type === "StepStateChanged") changes[value?.step_state]?.(value, record);
    else if (type === "WorkflowIdleEvent") for (const bar of suspended) bar.status = "waiting";
    else if (isA(record, "InputRequiredEvent")) {
      // What a step asks while it waits comes right after its end.
      const asking = suspended.find((bar) => bar.endSequence === last?.sequence);
      if (asking) asking.status = "waiting";
    } else if (isA(record, "StopEvent")) {
      outcome = STOPS[type] ?? "completed";
      finish(record);
    }
    last = record;
  }

  function finish(record) {
    const failed = record.event.type === "WorkflowFailedEvent" ? record.event.value?.step_name : null;
    for (const bar of suspended) {
      if (bar.step === failed || bar.status === "retrying") bar.status = "failed";
      else if (bar.status === "waiting") bar.status = "cancelled";
    }
    for (const bar of open.values()) Object.assign(bar, { status: "cancelled", end: timeOf(record), endSequence: record.sequence });
    open.clear();
    queues.clear();
  }

  return { bars, outcome, queued: [...queues.values()].flat() };
}
