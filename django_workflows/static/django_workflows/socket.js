/** A run over a WebSocket. */

import {address, isPassing, Refused} from "./request.js";
import {Silence} from "./silence.js";

const PROTOCOL = "django-workflows";
// Milliseconds that a connection may take to open: a proxy may swallow what it does not know.
const OPENING = 10_000;
// Milliseconds after opening when a handshake that was to be refused would have been.
const SETTLING = 100;

/**
 * Open one.
 *
 * @returns {{outcome: Promise, command: function}} The outcome is one of {handler}, {refused}, {passing} (a refusal
 *     of what may succeed later) and, when the connection was lost, {}; with `opened` and `lasted` when there was a
 *     connection.
 */
export function openSocket(target, {cursor, signal, live, event}) {
  const url = address(target, `ws/events/${encodeURIComponent(target.handlerId)}`, {
    ...target.query,
    after_sequence: cursor,
  });
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const commands = new Map();
  let numbers = 0;
  let socket;

  function command(message) {
    if (socket?.readyState !== WebSocket.OPEN) {
      return Promise.reject(new Refused(0, "There is no connection at the moment; try again"));
    }
    const id = `c${++numbers}`;
    return new Promise((resolve, reject) => {
      commands.set(id, {resolve, reject});
      socket.send(JSON.stringify({...message, id}));
    });
  }

  const outcome = new Promise((resolve) => {
    const found = {};
    let settling;
    try {
      socket = new WebSocket(url, protocols(target.authorization));
    } catch {
      // Forbidden by a Content-Security-Policy, for instance.
      resolve(found);
      return;
    }
    const opening = setTimeout(() => finish(), OPENING);
    const silence = new Silence(() => finish());

    function finish(refusals = {}) {
      clearTimeout(opening);
      clearTimeout(settling);
      silence.end();
      signal.removeEventListener("abort", leave);
      const lost = found.handler
        ? new Refused(409, "Workflow already completed")
        : new Refused(0, "The connection was lost before an answer came");
      for (const {reject} of commands.values()) {
        reject(lost);
      }
      commands.clear();
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
      resolve({...found, ...refusals});
    }

    const leave = () => finish();
    signal.addEventListener("abort", leave);

    function settled() {
      if (!found.lasted) {
        found.lasted = true;
        live();
      }
    }

    let refusal = null;
    socket.onopen = () => {
      clearTimeout(opening);
      found.opened = true;
      settling = setTimeout(settled, SETTLING);
    };
    socket.onmessage = ({data}) => {
      const message = JSON.parse(data);
      silence.broken(message.type === "heartbeat");
      if (message.type === "error" && message.id === null && !commands.size) {
        refusal = message;
        // It closes in a moment, however long that takes.
        clearTimeout(settling);
        return;
      }
      settled();
      if (message.type === "event") {
        event(message.sequence, message.event);
      } else if (message.type === "end") {
        found.handler = message.handler;
        finish();
      } else {
        // They are answered in order; one that could not be read is answered without its id.
        const id = message.id ?? commands.keys().next().value;
        const waiting = commands.get(id);
        commands.delete(id);
        if (message.type === "ack") {
          waiting?.resolve();
        } else if (message.type === "error") {
          waiting?.reject(new Refused(message.status, message.detail));
        }
      }
    };
    socket.onclose = ({code, reason}) => {
      const status = code - 4000;
      const refused = status >= 400 && status < 600 ? new Refused(status, refusal?.detail ?? reason) : null;
      finish(refused && {[isPassing(status) ? "passing" : "refused"]: refused});
    };
  });
  return {outcome, command};
}

function protocols(authorization) {
  if (!authorization) {
    return [PROTOCOL];
  }
  const bytes = Array.from(new TextEncoder().encode(authorization), (byte) => String.fromCharCode(byte));
  const text = btoa(bytes.join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [PROTOCOL, `authorization.${text}`];
}
