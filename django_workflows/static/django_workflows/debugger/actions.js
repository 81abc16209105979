// What can be done with a run besides answering it: cancel, run again, delete.

import { ask } from "./dialogs.js";

async function attempt(app, what) {
  try {
    await what();
  } catch (error) {
    app.notices.warn(error.message);
  }
}

export const cancel = (app, run) => attempt(app, async () => {
  const text = "Steps that run are interrupted, and no other is started. This cannot be undone; you can run it again.";
  if (!(await ask({ title: "Cancel this run?", text, action: "Cancel the run", danger: true }))) return;
  await app.api.cancel(run.id);
  app.notices.tell("The run is cancelled.");
});

export const remove = (app, run) => attempt(app, async () => {
  const text = `${run.hasEnded ? "" : "It still runs and is cancelled first. "}Its events, state and result are deleted for good.`;
  if (!(await ask({ title: "Delete this run?", text, action: "Delete the run", danger: true }))) return;
  await app.api.delete(run.id);
  app.notices.tell("The run is deleted.");
  app.go({ view: "runs" }, { replace: true });
});

/** Start another with the same input. */
export const repeat = (app, run) => attempt(app, async () => {
  const handler = await app.api.start(run.handler.workflow_name, run.context.start_event.value);
  app.notices.tell("Started again with the same input.");
  app.go({ view: "run", run: handler.handler_id });
});
