// The page's state and its URL: everything that a colleague should see from a link is in it. Pure.

// What stands in the URL, in this order; `status` may be repeated.
const NAMES = ["view", "workflow", "run", "tab", "event", "step", "again", "a", "b", "status", "since", "q", "cursor"];
export const TABS = ["events", "timeline", "state", "answer", "input"];
const STATUSES = ["waiting", "running", "completed", "failed", "cancelled"];

/**
 * Read a URL's query.
 *
 * @param {string} query
 * @returns {object} `view` is workflow, run, runs or compare; what is not there is null, `status` is a list
 */
export function read(query) {
  const found = new URLSearchParams(query);
  const get = (name) => found.get(name) || null;
  const event = get("event");
  return {
    view: viewOf(get("view"), get("run"), get("a")),
    workflow: get("workflow"),
    run: get("run"),
    tab: TABS.includes(get("tab")) ? get("tab") : "events",
    event: event !== null && /^\d{1,10}$/.test(event) ? Number(event) : null,
    step: get("step"),
    again: get("again"),
    a: get("a"),
    b: get("b"),
    status: found.getAll("status").filter((one) => STATUSES.includes(one)),
    since: get("since"),
    q: get("q"),
    cursor: get("cursor"),
  };
}

function viewOf(named, run, a) {
  if (named === "runs" || named === "compare") return named;
  if (run) return "run";
  return a ? "compare" : "workflow";
}

/** Write a state as a URL's query, "" for the start page. */
export function write(state) {
  const query = new URLSearchParams();
  for (const name of NAMES) {
    const value = state[name];
    if (value === null || value === undefined || value === "") continue;
    if (name === "view" && (value === "run" || value === "workflow")) continue;
    if (name === "tab" && value === "events") continue;
    for (const one of [value].flat()) query.append(name, one);
  }
  const text = query.toString();
  return text && `?${text}`;
}
