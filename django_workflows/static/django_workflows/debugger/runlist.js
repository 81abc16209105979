// Pages of the list of runs. Those that wait for an answer are told from those that work, which their records do not.

/**
 * Ask for a page of runs, newest first. One that waits for an answer has the status "waiting" here, by which they can be
 * asked for as well, alone.
 *
 * @param {Api} api
 * @param {{status?: string[], workflow?, since?, q?, cursor?, limit?: number}} filter
 * @param {AbortSignal} signal
 * @returns {Promise<{handlers, next_cursor}>}
 */
export async function listRuns(api, { status = [], workflow, since, q, cursor, limit = 50 } = {}, signal) {
  const list = (idle, statuses) => {
    const wanted = { limit, workflow_name: workflow, started_since: since, handler_id: q, cursor, idle };
    return api.handlers([...statuses.map((one) => ["status", one]), ...Object.entries(wanted).filter(([, value]) => value)], signal);
  };
  const onlyWaiting = status.includes("waiting");
  const page = await list(onlyWaiting, onlyWaiting ? [] : status);
  if (!page.handlers.some((one) => one.status === "running")) return page;
  // A cursor is a place in the same order, whatever the filter.
  const waiting = new Set((onlyWaiting ? page : await list(true, [])).handlers.map((one) => one.handler_id));
  const mark = (one) => (one.status === "running" && waiting.has(one.handler_id) ? { ...one, status: "waiting" } : one);
  return { ...page, handlers: page.handlers.map(mark) };
}
