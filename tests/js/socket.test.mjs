import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { openSocket } from "../../django_workflows/static/django_workflows/socket.js";

const SETTLED = 250;

class Opened {
  static OPEN = 1;
  static last;
  readyState = 1;

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    Opened.last = this;
  }

  close() {}
}

function open() {
  globalThis.WebSocket = Opened;
  const lives = [];
  const { outcome } = openSocket(
    { baseUrl: "http://site/workflows", handlerId: "h", query: {} },
    { cursor: -1, signal: new AbortController().signal, live: () => lives.push("live"), event: () => {} },
  );
  Opened.last.onopen();
  return { socket: Opened.last, lives, outcome };
}

afterEach(() => {
  delete globalThis.WebSocket;
});

test("who is refused is never live, however long the farewell takes", async () => {
  const { socket, lives, outcome } = open();
  socket.onmessage({ data: JSON.stringify({ type: "error", id: null, status: 404, detail: "Handler not found" }) });
  await sleep(SETTLED);
  socket.onclose({ code: 4404, reason: "" });

  const found = await outcome;

  assert.deepEqual(lives, []);
  assert.equal(found.refused.status, 404);
  assert.equal(found.refused.message, "Handler not found");
});

test("who is not refused is live in a moment", async () => {
  const { socket, lives, outcome } = open();
  await sleep(SETTLED);
  assert.deepEqual(lives, ["live"]);
  socket.onclose({ code: 1006, reason: "" });
  assert.equal((await outcome).refused, undefined);
});
