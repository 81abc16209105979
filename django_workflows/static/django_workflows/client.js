/**
 * Follow a run (the module exports `follow`): its events in order, each once, over reconnects; answer and cancel it.
 *
 *     const run = follow("/workflows", handlerId);
 *     run.addEventListener("event", ({detail}) => console.log(detail.sequence, detail.event));
 *     run.addEventListener("end", ({detail}) => console.log(detail.handler.status));
 *     await run.sendEvent({type: "Answer", value: {text: "yes"}});
 *
 * It speaks over a WebSocket, and where none can be opened over Server-Sent Events and POST requests.
 */

import {Refused} from "./request.js";
import {openSocket} from "./socket.js";

// Milliseconds before the first reconnection; doubled for each that fails, up to the longest.
const FIRST_DELAY = 500;
const LONGEST_DELAY = 30_000;

/**
 * Follow a run from now on.
 *
 * @param {string} baseUrl The prefix of the API, for instance "/workflows".
 * @param {string} handlerId The run's handler.
 * @param {object} [options]
 * @param {number|"now"} [options.after=-1] Begin after the event of this sequence.
 * @param {boolean} [options.includeInternal=false] With the engine's own events.
 * @param {boolean} [options.includeQualifiedName=true] With the event classes' qualified names.
 * @param {"auto"|"websocket"|"sse"} [options.transport="auto"]
 * @param {string} [options.authorization] The value of an Authorization header; without it, the session counts.
 * @param {string} [options.csrfToken] Django's CSRF token, where it is not in the cookie "csrftoken".
 * @returns {Run}
 */
export function follow(baseUrl, handlerId, options = {}) {
  return new Run(baseUrl, handlerId, options);
}

export {Refused};

/**
 * A run that is followed.
 *
 * Events, each with a `detail`:
 * - `event`: {sequence, event}, the event as an envelope.
 * - `state`: {state, reason}, one of "connecting", "live", "reconnecting", "ended", "refused", "closed". `reason` is
 *   {status, detail} where the server refuses what may succeed later, and otherwise null.
 * - `end`: {handler}, after the run's last event.
 * - `error`: {status, detail}, when following was refused; the state is "refused" then.
 */
export class Run extends EventTarget {
  #target;
  #transport;
  #connection = null;
  #closing = new AbortController();
  #wake = () => {};
  #hadSocket = false;
  #reason = null;

  constructor(baseUrl, handlerId, options) {
    super();
    const {after = -1, transport = "auto", includeInternal = false, includeQualifiedName = true} = options;
    this.state = "connecting";
    /** The sequence of the last event that was handed over. */
    this.cursor = after;
    this.#transport = transport;
    this.#target = {
      baseUrl: String(baseUrl).replace(/\/+$/, ""),
      handlerId,
      query: {include_internal: includeInternal, include_qualified_name: includeQualifiedName},
      authorization: options.authorization,
      csrfToken: options.csrfToken,
    };
    // Later, so that whoever has called can listen first.
    queueMicrotask(() => this.#follow());
  }

  /**
   * Send an event to the run; resolves when it is stored.
   *
   * It is sent again when the connection is lost before the answer comes, and stored once all the same.
   *
   * @param {object} envelope {type, value}
   * @param {object} [options]
   * @param {string} [options.step] The step that alone shall get it.
   * @throws {Refused} It was not stored.
   */
  async sendEvent(envelope, {step = null} = {}) {
    const body = {event: envelope, step};
    const key = randomKey();
    for (;;) {
      try {
        await this.#command({type: "send_event", ...body, key}, "events/", "", body, key);
        return;
      } catch (error) {
        if (error.status !== 0 || !(await this.#back())) {
          throw error;
        }
      }
    }
  }

  /**
   * Cancel the run; resolves when that is stored.
   *
   * @throws {Refused} With status 0, the connection was lost and nobody knows; the run's end will tell.
   */
  async cancel() {
    await this.#command({type: "cancel"}, "handlers/", "/cancel", {});
  }

  /** Stop following; the run goes on. */
  close() {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort();
      this.#wake();
      if (this.state !== "ended" && this.state !== "refused") {
        this.#enter("closed");
      }
    }
  }

  async #command(command, before, after, body, key) {
    if (this.state === "live" && this.#connection) {
      await this.#connection.command(command);
    } else {
      const post = await import("./post.js").catch(() => null);
      if (!post) {
        throw new Refused(0, "The server cannot be reached");
      }
      const id = encodeURIComponent(this.#target.handlerId);
      await post.request(this.#target, before + id + after, body, key);
    }
  }

  /** Wait until the server is there again; resolves to whether it makes sense to ask it. */
  #back() {
    return new Promise((resolve) => {
      const look = () => {
        const found = {live: true, ended: true, refused: false, closed: false}[this.state];
        if (found !== undefined) {
          this.removeEventListener("state", look);
          resolve(found);
        }
      };
      this.addEventListener("state", look);
      // A connection that is lost says so a moment later.
      setTimeout(look, FIRST_DELAY);
    });
  }

  async #follow() {
    const {signal} = this.#closing;
    const wake = () => this.#wake();
    globalThis.addEventListener?.("online", wake, {signal});
    this.#enter("connecting");
    for (let failures = 0; !signal.aborted; ) {
      const before = this.cursor;
      const outcome = await this.#connect();
      this.#connection = null;
      if (signal.aborted) {
        return;
      }
      if (outcome.handler || outcome.refused) {
        this.#finish(outcome);
        return;
      }
      this.#enter("reconnecting", outcome.passing);
      failures = outcome.lasted || this.cursor !== before ? 0 : failures + 1;
      await this.#pause(failures);
    }
  }

  /** Follow over one connection, and resolve to how it has ended. */
  async #connect() {
    const handlers = {
      cursor: this.cursor,
      signal: this.#closing.signal,
      live: () => this.#enter("live"),
      event: (sequence, event) => this.#hand(sequence, event),
    };
    if (this.#transport !== "sse") {
      this.#connection = openSocket(this.#target, handlers);
      const outcome = await this.#connection.outcome;
      this.#hadSocket ||= outcome.opened;
      if (this.#transport === "websocket" || this.#hadSocket || this.#closing.signal.aborted) {
        return outcome;
      }
      // Something on the way lets no WebSocket through, or nobody is there at all.
      this.#connection = null;
    }
    const outcome = await this.#stream(handlers);
    if (this.#transport === "auto" && outcome.opened) {
      this.#transport = "sse";
    }
    return outcome;
  }

  /** Follow over Server-Sent Events, whose module few browsers ever need. */
  async #stream(handlers) {
    let openStream;
    try {
      ({openStream} = await import("./stream.js"));
    } catch {
      // It is on the server that cannot be reached.
      return {};
    }
    return openStream(this.#target, handlers);
  }

  #hand(sequence, event) {
    if (typeof this.cursor !== "number" || sequence > this.cursor) {
      this.cursor = sequence;
      this.#tell("event", {sequence, event});
    }
  }

  #finish({handler, refused}) {
    if (refused) {
      this.#enter("refused");
      this.#tell("error", {status: refused.status, detail: refused.detail});
    } else {
      this.#enter("ended");
      this.#tell("end", {handler});
    }
    this.#closing.abort();
  }

  #pause(failures) {
    const longest = Math.min(FIRST_DELAY * 2 ** failures, LONGEST_DELAY);
    return new Promise((resolve) => {
      // Not all clients of a server that comes back at the same moment.
      const timer = setTimeout(resolve, longest * (0.5 + Math.random() / 2));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #enter(state, passing = null) {
    const reason = passing && {status: passing.status, detail: passing.detail};
    if (state !== this.state || state === "connecting" || JSON.stringify(reason) !== JSON.stringify(this.#reason)) {
      this.state = state;
      this.#reason = reason;
      this.#tell("state", {state, reason});
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, {detail}));
  }
}

function randomKey() {
  // crypto.randomUUID is there for secure pages only.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
