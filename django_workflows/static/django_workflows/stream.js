/** A run over Server-Sent Events, read with fetch: EventSource tells no status and sends no credentials. */

import {address, headers, isPassing, refusal} from "./request.js";
import {Silence} from "./silence.js";

/**
 * Follow until the run ends or the connection is lost; resolves to an outcome as that of a socket.
 */
export async function openStream(target, {cursor, signal, live, event}) {
  const found = {};
  const dead = new AbortController();
  const leave = () => dead.abort();
  signal.addEventListener("abort", leave);
  const silence = new Silence(leave);
  const options = {headers: headers(target), cache: "no-store", signal: dead.signal};
  try {
    for (;;) {
      const url = address(target, `events/${encodeURIComponent(target.handlerId)}`, {
        ...target.query,
        after_sequence: cursor,
      });
      const response = await fetch(url, options);
      if (!response.ok) {
        found[isPassing(response.status) ? "passing" : "refused"] = await refusal(response);
        break;
      }
      found.opened = true;
      if (response.status === 204) {
        found.handler = await handlerOf(target, options);
        break;
      }
      live();
      for await (const message of messages(response.body)) {
        found.lasted = true;
        silence.broken(message === null);
        if (message !== null) {
          cursor = Number(message.id);
          event(cursor, JSON.parse(message.data));
        }
      }
      // That was the end of the run, or of the server.
      const handler = await handlerOf(target, options);
      if (!handler || handler.status === "running") {
        break;
      }
    }
  } catch {
    // The server cannot be reached, the connection was lost, or nobody wants it any more.
  } finally {
    silence.end();
    dead.abort();
    signal.removeEventListener("abort", leave);
  }
  return found;
}

async function handlerOf(target, options) {
  const response = await fetch(address(target, `handlers/${encodeURIComponent(target.handlerId)}`), options);
  // Its status is that of the run: a failed one is answered 500.
  const handler = await response.json();
  return handler.handler_id ? handler : undefined;
}

/**
 * Yield the messages of an event stream as {id, data}, and null for a comment.
 *
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* messages(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let message = {};
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      const lines = (rest + decoder.decode(read.value, {stream: true})).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (message.data !== undefined) {
            yield message;
          }
          message = {};
        } else if (line.startsWith(":")) {
          yield null;
        } else {
          const colon = line.indexOf(":");
          message[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
