// Answering a run: what it asks for, and a form for the events that answer it.

import { h, uid } from "./dom.js";
import { createForm } from "./form.js";
import { createTree } from "./tree.js";

// The engine's own answer has no fields, and by custom this one.
const RESPONSE = { type: "object", title: "HumanResponseEvent", properties: { response: { type: "string", title: "Response" } } };

const schemaOf = (one) => (one.type === "HumanResponseEvent" && !Object.keys(one.schema.properties ?? {}).length ? RESPONSE : one.schema);

/** The text of a question: its prefix or the like, and the fields that are more than a text. */
export function wording(event) {
  const fields = { ...event.value, ...event.value?._data };
  delete fields._data;
  const name = ["prompt", "prefix", "question", "message", "msg", "text"].find((one) => typeof fields[one] === "string" && fields[one]);
  const text = name ? fields[name] : null;
  if (name) delete fields[name];
  return { text, rest: Object.keys(fields).length ? fields : null };
}

/**
 * The events that answer a question: those that the graph leads to from outside after it; all expected ones when
 * it does not say.
 */
export function answersTo(question, accepted, graph) {
  const expected = accepted.filter((one) => one.expected);
  const outside = new Set(graph.nodes.filter((node) => node.node_type === "external").map((node) => node.id));
  const reached = graph.edges.filter((edge) => outside.has(edge.source)).map((edge) => edge.target);
  const isDrawn = graph.edges.some((edge) => edge.source === question?.event.type && outside.has(edge.target));
  const drawn = isDrawn ? expected.filter((one) => reached.includes(one.type)) : [];
  return drawn.length ? drawn : expected.length ? expected : accepted.filter((one) => one.additional);
}

/**
 * One event to send, chosen among several, with its form.
 *
 * @param {HTMLElement} element
 * @param {object[]} events as GET accepted-events gives them
 * @param {{send: (event) => Promise, onSent: (type) => void, label: string, more?: HTMLElement}} options more: what stands
 *   between the choice and the form
 */
export function createSender(element, events, { send, onSent, label, more = "" }) {
  let form = null;
  const place = h("div", {});
  const name = uid("event");
  const select = h("select", { id: name, onchange: show }, ...events.map((one) => h("option", { value: one.type, text: one.type })));
  const chooser = h("div", { class: "field" }, h("label", { for: name, text: "Event" }), select);
  chooser.hidden = events.length < 2;
  element.append(chooser, more, place);
  show();

  function show() {
    form?.destroy();
    place.replaceChildren();
    const chosen = events.find((one) => one.type === select.value) ?? events[0];
    form = createForm(place, schemaOf(chosen), { submitLabel: label, onSubmit: (value) => submit(chosen.type, value) });
  }

  async function submit(type, value) {
    form.setBusy(true);
    try {
      await send({ type, value });
      onSent(type);
      show();
    } catch (error) {
      form.setErrors(error.problems);
    } finally {
      form?.setBusy(false);
    }
  }

  return {
    destroy() {
      form?.destroy();
      form = null;
    },
  };
}

/**
 * The card that comes up by itself while a run waits for an answer.
 *
 * @param {{send, onSent, notices}} options
 * @returns {{element, show: (run, accepted, graph) => void, destroy}}
 */
export function createPrompt({ send, onSent, notices }) {
  const element = h("section", { class: "panel prompt", "aria-labelledby": "prompt-title", hidden: true });
  let shown = null;
  let sender = null;
  let answered = null;

  function show(run, accepted, graph) {
    const questions = run.questions;
    const key = run.waits || questions.length ? `${run.handler.run_id} ${questions.map((one) => one.sequence)} ${run.waits && !questions.length}` : null;
    // While an answer is under way, the question still stands in the log.
    if (key === answered && key !== null && !run.waits) return;
    if (answered !== null && key !== answered) answered = null;
    if (answered !== null || key === shown) return;
    shown = key;
    sender?.destroy();
    sender = null;
    element.hidden = key === null;
    element.replaceChildren();
    if (key === null) return;
    const question = questions.at(-1) ?? null;
    const choices = answersTo(question, accepted, graph);
    const { text, rest } = question ? wording(question.event) : { text: null, rest: null };
    element.append(h("header", {}, h("span", { class: "status is-waiting" }, h("span", { "aria-hidden": "true", text: "?" }), h("span", { text: "waits for you" })),
      h("h2", { id: "prompt-title", text: text ?? question?.event.type ?? "The run waits for an event from outside" })));
    const content = h("div", { class: "prompt-content" });
    element.append(content);
    if (rest) {
      const tree = h("div", { class: "prompt-details" });
      createTree(tree, rest, { label: "What is asked" });
      content.append(tree);
    }
    if (choices.length) {
      const place = h("div", { class: "prompt-form" });
      content.append(place);
      sender = createSender(place, choices, { send, label: "Answer", onSent(type) {
        answered = key;
        shown = null;
        element.hidden = true;
        onSent(type);
      } });
    } else {
      element.append(h("p", { class: "hint", text: "The workflow declares no event for an answer: name its class in a step's signature or in additional_events." }));
    }
    notices.announce(`The run waits: ${text ?? question?.event.type ?? "for an event from outside"}`);
  }

  return { element, show, destroy: () => sender?.destroy() };
}
