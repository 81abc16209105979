// The tab from which any event can be sent into a run, for one step alone as well.

import { createSender } from "./answers.js";
import { h, uid } from "./dom.js";
import { empty } from "./pieces.js";

/**
 * Fill the tab.
 *
 * @param {HTMLElement} element
 * @param {{accepted: object[], graph: object, send: (event, step) => Promise, onSent: (type) => void}} options accepted: the
 *   events as GET accepted-events gives them
 * @returns {{destroy: () => void}}
 */
export function createSendTab(element, { accepted, graph, send, onSent }) {
  if (!accepted.length) {
    element.append(empty("This workflow takes no events", "Its steps wait for nothing from outside: no event is declared in a step's signature or in additional_events."));
    return { destroy() {} };
  }
  const id = uid("step");
  const steps = graph.nodes.filter((node) => node.node_type === "step").map((node) => h("option", { value: node.id, text: node.id }));
  const only = h("select", { id }, h("option", { value: "", text: "every step that accepts it" }), ...steps);
  element.append(h("p", { class: "hint", text: "Sends an event into the run, as a person or another program would. Those that are meant for it come first." }));
  return createSender(element, accepted, { send: (event) => send(event, only.value || null), onSent, label: "Send event",
    more: h("div", { class: "field" }, h("label", { for: id, text: "For" }), only) });
}
