// The HTTP interface, as far as the page uses it; what goes wrong is an ApiError whose message says what to do.

export class ApiError extends Error {
  /**
   * @param {string} message for people
   * @param {number} status of the answer, 0 when there was none
   * @param {{path: string, message: string}[]} problems the same for a form, by its fields
   */
  constructor(message, status, problems = [{ path: "", message }]) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.problems = problems;
  }
}

const path = (...parts) => parts.map(encodeURIComponent).join("/");

export class Api {
  #base;
  #csrf;
  #cache = new Map();

  /**
   * @param {string} base the include prefix, with a slash at its end
   * @param {{header: string, token: string}} csrf what a request that changes something carries
   */
  constructor(base, csrf) {
    this.#base = base;
    this.#csrf = csrf;
  }

  get base() {
    return this.#base;
  }

  get token() {
    return this.#csrf.token;
  }

  async workflows() {
    return (await this.#get("workflows")).workflows;
  }

  // What is served does not change while the page is open.
  schema(name) {
    return this.#once(path("workflows", name, "schema"));
  }

  /** A workflow's graph, and its layout: `{graph, layout}`. */
  async representation(name) {
    const [{ graph }, layout] = await Promise.all(["representation", "layout"].map((one) => this.#once(path("workflows", name, one))));
    return { graph, layout };
  }

  async acceptedEvents(name) {
    return (await this.#once(path("workflows", name, "accepted-events"))).events;
  }

  /** A page of the records of runs, newest first: `{handlers, next_cursor}`. What it may be asked for is in runlist.js. */
  handlers(query, signal) {
    return this.#get(`handlers?${new URLSearchParams(query)}`, signal);
  }

  /** A run from inside: `{handler, start_event, state, state_type, …}`. */
  context(id) {
    return this.#get(path("handlers", id, "context"));
  }

  events(id, after) {
    return this.#get(`${path("handlers", id, "events")}?after=${after}`);
  }

  start(workflow, startEvent) {
    return this.#request("POST", path("workflows", workflow, "run-nowait"), { body: { start_event: startEvent } });
  }

  answer(id, event, step = null) {
    return this.#request("POST", path("events", id), { body: { event, step } });
  }

  cancel(id) {
    return this.#request("POST", path("handlers", id, "cancel"));
  }

  delete(id) {
    return this.#request("POST", `${path("handlers", id, "cancel")}?purge=true`);
  }

  #get(url, signal) {
    return this.#request("GET", url, { signal });
  }

  #once(url) {
    if (!this.#cache.has(url)) {
      const asked = this.#get(url);
      asked.catch(() => this.#cache.delete(url));
      this.#cache.set(url, asked);
    }
    return this.#cache.get(url);
  }

  async #request(method, url, { body, signal } = {}) {
    let response;
    try {
      response = await fetch(this.#base + url, {
        method,
        signal,
        credentials: "same-origin",
        headers: method === "GET" ? {} : { "Content-Type": "application/json", [this.#csrf.header]: this.#csrf.token },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The server does not answer. Check your connection and that it runs, then try again.", 0);
    }
    const found = await response.json().catch(() => null);
    if (response.ok) return found;
    throw await refusal(response.status, found?.detail);
  }
}

/** Make the error of a refusal. What there is to say about it is loaded now, when the server may be gone. */
async function refusal(status, detail) {
  const words = await import("./errors.js").catch(() => null);
  if (!words) return new ApiError(`The server refused this (${status}). Check your connection, then load the page again.`, status);
  const message = words.explain(status, detail);
  return new ApiError(message, status, words.problems(message));
}
