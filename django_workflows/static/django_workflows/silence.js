/** Notices that a connection is dead of which nobody has said so: no more heartbeats come. */

// Heartbeats that may be missed, and the shortest time in milliseconds that is waited for one.
const MISSED = 2.5;
const SHORTEST = 10_000;

export class Silence {
  #dead;
  #last = Date.now();
  #patience = 0;
  #timer;

  /** @param {function} dead Called when heartbeats have come, and come no longer. */
  constructor(dead) {
    this.#dead = dead;
  }

  /** Something has come. */
  broken(isHeartbeat) {
    const now = Date.now();
    if (isHeartbeat) {
      // One comes after as long a silence as the server is set to.
      this.#patience = Math.max(this.#patience, MISSED * (now - this.#last), SHORTEST);
    }
    this.#last = now;
    clearTimeout(this.#timer);
    if (this.#patience) {
      this.#timer = setTimeout(this.#dead, this.#patience);
    }
  }

  end() {
    clearTimeout(this.#timer);
  }
}
