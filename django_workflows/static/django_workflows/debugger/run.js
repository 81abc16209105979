// One run: its record and all its events, read page by page and then followed.

import { ApiError } from "./api.js";
import { follow } from "../client.js";

const isA = (record, name) => record.event.type === name || (record.event.types ?? []).includes(name);
const isInternal = (event) => (event.types ?? []).includes("InternalDispatchEvent");

// Milliseconds for which events are gathered before they are shown, and until their times are asked for.
const GATHER = 40;
const SETTLE = 800;
// States of the stream that are also the page's.
const LIVING = new Set(["connecting", "live", "reconnecting"]);

/**
 * Tells "handler" (its record has changed), "events" (detail: the new records), "times" (records that arrived live have
 * the times that the server stored), "connection", "begin" (another run of the handler: all is new), "gone", and
 * "error" (detail: an ApiError).
 */
export class Run extends EventTarget {
  #api;
  #stream = null;
  #fresh = [];
  #gathering = null;
  #settling = null;
  #estimated = null;
  #closed = false;

  constructor(api, id) {
    super();
    this.#api = api;
    this.id = id;
    this.handler = null;
    // What it began from and has saved, as it was when it was last asked for.
    this.context = null;
    this.events = [];
    // connecting, live, reconnecting, ended or lost
    this.connection = "connecting";
    // Why the server gives no connection at present: {status, detail}, or null.
    this.reason = null;
    // Milliseconds that the server's clock is ahead of the browser's.
    this.skew = 0;
  }

  get last() {
    return this.events.at(-1)?.sequence ?? -1;
  }

  get now() {
    return Date.now() + this.skew;
  }

  get hasEnded() {
    return this.handler !== null && this.handler.status !== "running";
  }

  /** Whether the run waits for an event from outside. */
  get waits() {
    if (this.handler?.status !== "running") return false;
    const idle = this.events.findLast((one) => one.event.type === "WorkflowIdleEvent");
    const begun = this.events.findLast((one) => one.event.value?.step_state === "running" && one.internal);
    return idle !== undefined && idle.sequence > (begun?.sequence ?? -1);
  }

  /** What the run asks for at present: its InputRequiredEvents since it last waited, or else its last one. */
  get questions() {
    if (this.handler?.status !== "running") return [];
    const asked = this.events.filter((one) => isA(one, "InputRequiredEvent"));
    const idle = this.events.filter((one) => one.event.type === "WorkflowIdleEvent").map((one) => one.sequence);
    const before = this.waits ? (idle.at(-2) ?? -1) : (idle.at(-1) ?? -1);
    const recent = asked.filter((one) => one.sequence > before);
    return recent.length || !this.waits ? recent : asked.slice(-1);
  }

  async open() {
    try {
      await this.#load();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Ask for the record and the state anew. */
  async look() {
    try {
      await this.#refresh();
    } catch (error) {
      this.#fail(error);
    }
  }

  close() {
    this.#closed = true;
    this.#stream?.close();
    clearTimeout(this.#gathering);
    clearTimeout(this.#settling);
  }

  async #load() {
    await this.#refresh();
    for (;;) {
      const page = await this.#page(this.last);
      if (this.#closed) return;
      if (page.events.length) this.#take(page.events);
      if (!page.events.length || this.last >= page.last_sequence) break;
    }
    if (this.hasEnded) this.#connect("ended");
    else this.#follow();
  }

  async #refresh() {
    const context = await this.#api.context(this.id);
    if (this.#closed) return;
    const { handler } = context;
    this.context = context;
    const isOther = this.handler !== null && this.handler.run_id !== handler.run_id;
    this.handler = handler;
    if (isOther) {
      this.events = [];
      this.#fresh = [];
      this.#estimated = null;
      this.#tell("begin");
    }
    this.#tell("handler");
  }

  async #page(after) {
    const page = await this.#api.events(this.id, after);
    this.skew = Date.parse(page.now) - Date.now();
    return page;
  }

  #follow() {
    const stream = follow(this.#api.base, this.id, { after: this.last, includeInternal: true, csrfToken: this.#api.token });
    this.#stream = stream;
    stream.addEventListener("state", ({ detail }) => LIVING.has(detail.state) && this.#connect(detail.state, detail.reason));
    stream.addEventListener("event", ({ detail }) => this.#arrive(detail));
    stream.addEventListener("end", () => this.#finish());
    stream.addEventListener("error", ({ detail }) => this.#interrupted(detail));
  }

  #arrive({ sequence, event }) {
    this.#estimated ??= sequence;
    this.#fresh.push({ sequence, time: new Date(this.now).toISOString(), internal: isInternal(event), event });
    this.#gathering ??= setTimeout(() => this.#flush(), GATHER);
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#settle(), SETTLE);
  }

  #flush() {
    clearTimeout(this.#gathering);
    this.#gathering = null;
    const fresh = this.#fresh.filter((one) => one.sequence > this.last);
    this.#fresh = [];
    if (fresh.length) this.#take(fresh);
  }

  #take(records) {
    this.events.push(...records);
    this.#tell("events", records);
  }

  /** Put the stored times in the place of those of arrival. */
  async #settle() {
    if (this.#estimated === null) return;
    const from = this.#estimated;
    this.#estimated = null;
    try {
      for (let after = from - 1; after < this.last; ) {
        const page = await this.#page(after);
        if (this.#closed || !page.events.length || page.run_id !== this.handler.run_id) break;
        const times = new Map(page.events.map((one) => [one.sequence, one.time]));
        for (const one of this.events) if (times.has(one.sequence)) one.time = times.get(one.sequence);
        after = page.events.at(-1).sequence;
      }
      if (!this.#closed) this.#tell("times");
    } catch {
      // The times of arrival serve as well.
    }
  }

  async #finish() {
    this.#flush();
    try {
      await this.#refresh();
      await this.#settle();
      // The stream's end may be seen before the record's, by a moment.
      if (this.hasEnded) this.#connect("ended");
      else setTimeout(() => this.#closed || this.#load().catch((error) => this.#fail(error)), 300);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The stream was refused: the run is deleted, continued with another run, or no longer ours to see. */
  async #interrupted({ status, detail }) {
    this.#flush();
    try {
      if (status === 400) return await this.#load();
      await this.#refresh();
      this.#fail(new ApiError(detail, status));
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error) {
    if (this.#closed) return;
    this.#connect("lost");
    if (error.status === 404) this.#tell("gone");
    else this.#tell("error", error);
  }

  #connect(state, reason = null) {
    if (this.#closed || (state === this.connection && reason?.detail === this.reason?.detail)) return;
    this.connection = state;
    this.reason = reason;
    this.#tell("connection");
  }

  #tell(type, detail = null) {
    if (!this.#closed) this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
