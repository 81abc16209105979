// The values of a run: what it began from, what its steps have stored, and what came of it.

import { h } from "./dom.js";
import { copyButton, empty } from "./pieces.js";
import { createTree } from "./tree.js";

/** Why a run has failed, as far as its events say: `{type, step, message}`; null where none does. */
export function failureOf(events) {
  const { step_name: step, exception } = events.findLast((one) => one.event.type === "WorkflowFailedEvent")?.event.value ?? {};
  return exception ? { type: exception.exception_type.replace(/^builtins\./, ""), step, message: exception.exception_message } : null;
}

/**
 * Show a run's values.
 *
 * @param {{input: HTMLElement, state: HTMLElement, outcome: HTMLElement}} places
 * @returns {{show: (run) => void}}
 */
export function createValues(places, notices) {
  let shown = null;
  let shownState = null;
  let tree = null;

  /** Show them as they are now; what has not changed stays as the reader has unfolded it. */
  function show({ handler, context, events }) {
    showState(context);
    const failure = handler.status === "failed" ? failureOf(events) : null;
    const key = `${handler.run_id} ${handler.status} ${failure !== null}`;
    if (key === shown) return;
    shown = key;
    showInput(context.start_event);
    showOutcome(handler, failure);
  }

  function showInput({ type, value }) {
    const place = h("div", {});
    createTree(place, value ?? {}, { label: "Input", open: 2 });
    places.input.replaceChildren(h("p", { class: "hint", text: `${type ?? "The start event"}, from which the run began.` }), place);
  }

  function showState({ state, state_type: type }) {
    const text = JSON.stringify(state);
    if (text === shownState) return;
    shownState = text;
    if (state === null) {
      tree = null;
      places.state.replaceChildren(empty("No state yet", "Steps keep what they want to remember in ctx.store; this run has stored nothing so far."));
    } else if (tree) {
      tree.update(state);
    } else {
      const place = h("div", {});
      tree = createTree(place, state, { label: "State", open: 2 });
      places.state.replaceChildren(h("p", { class: "hint", text: `${type ?? "The state"}, as the steps have stored it; it changes as they do.` }), place);
    }
  }

  function showOutcome({ status, error, result }, failure) {
    places.outcome.replaceChildren();
    if (error || status === "failed") {
      // Where the exception had no text, the handler has the name of its type.
      const message = failure ? failure.message : error;
      places.outcome.append(h("section", { class: "panel outcome is-failed", "aria-label": "Error" },
        h("header", {}, h("h2", { text: "Error" }), failure && h("span", { class: "hint", text: failure.step ? `${failure.type} in the step ${failure.step}` : failure.type })),
        message ? h("pre", { text: message }) : h("p", { class: "hint", text: "It came without a message." })));
    }
    if (!result) return;
    const place = h("div", {});
    createTree(place, result.value, { label: "Result", open: 2 });
    places.outcome.append(h("section", { class: "panel outcome", "aria-label": "Result" }, h("header", {}, h("h2", { text: "Result" }), h("span", { class: "hint", text: result.type }),
      copyButton(() => JSON.stringify(result.value, null, 2), "Copy the result", notices)), place));
  }

  return { show };
}
