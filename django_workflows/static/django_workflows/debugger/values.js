// The values of a run: what it began from, what its steps have stored, and what came of it.

import { h } from "./dom.js";
import { copyButton, empty } from "./pieces.js";
import { createTree } from "./tree.js";

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
  function show({ handler, context }) {
    showState(context);
    const key = `${handler.run_id} ${handler.status}`;
    if (key === shown) return;
    shown = key;
    showInput(context.start_event);
    showOutcome(handler);
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

  function showOutcome({ error, result }) {
    places.outcome.replaceChildren();
    if (error) places.outcome.append(h("section", { class: "panel outcome is-failed", "aria-label": "Error" }, h("h2", { text: "Error" }), h("pre", { text: error })));
    if (!result) return;
    const place = h("div", {});
    createTree(place, result.value, { label: "Result", open: 2 });
    places.outcome.append(h("section", { class: "panel outcome", "aria-label": "Result" }, h("header", {}, h("h2", { text: "Result" }), h("span", { class: "hint", text: result.type }),
      copyButton(() => JSON.stringify(result.value, null, 2), "Copy the result", notices)), place));
  }

  return { show };
}
