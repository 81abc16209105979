/** The client against servers that behave in every way; Server-Sent Events really, the WebSocket as far as node has none. */

import assert from "node:assert/strict";
import {createServer} from "node:http";
import {once} from "node:events";
import {afterEach, beforeEach, mock, test} from "node:test";

const {follow, Refused} = await import(new URL("../../django_workflows/static/django_workflows/client.js", import.meta.url));
const {messages} = await import(new URL("../../django_workflows/static/django_workflows/stream.js", import.meta.url));
const {Silence} = await import(new URL("../../django_workflows/static/django_workflows/silence.js", import.meta.url));

const envelope = (number) => ({type: "Progress", value: {number}});
const handler = {handler_id: "h", status: "completed"};

/** A WebSocket whose other side is the test. */
class FakeSocket {
    static OPEN = 1;
    static made = [];
    /** Called with each new one. */
    static script = () => {};
    readyState = 0;
    sent = [];

    constructor(url, protocols) {
        Object.assign(this, {url: new URL(url), protocols});
        FakeSocket.made.push(this);
        setImmediate(() => FakeSocket.script(this, FakeSocket.made.length));
    }
    send(text) {
        this.sent.push(JSON.parse(text));
        this.onsent?.(this.sent.at(-1));
    }
    close() {
        this.readyState = 3;
    }
    open() {
        this.readyState = 1;
        this.onopen?.();
    }
    say(...messages) {
        for (const message of messages) {
            this.onmessage?.({data: JSON.stringify(message)});
        }
    }
    events(...numbers) {
        this.say(...numbers.map((n) => ({type: "event", sequence: n, event: envelope(n)})));
    }
    drop(code = 1006, reason = "") {
        this.readyState = 3;
        this.onclose?.({code, reason});
    }
}

/** What a run tells, as lists. */
function listen(run) {
    const heard = {sequences: [], states: [], ends: [], errors: []};
    run.addEventListener("event", ({detail}) => heard.sequences.push(detail.sequence));
    run.addEventListener("state", ({detail}) => heard.states.push(detail.state));
    run.addEventListener("end", ({detail}) => heard.ends.push(detail.handler));
    run.addEventListener("error", ({detail}) => heard.errors.push(detail));
    return heard;
}

const until = async (condition) => {
    for (const deadline = Date.now() + 5000; !condition(); ) {
        assert.ok(Date.now() < deadline, `still waiting for ${condition}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
    }
};

/** Serve on a free port; `respond` gets requests and answers them. */
async function serve(respond) {
    const server = createServer(respond);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    servers.push(server);
    return `http://127.0.0.1:${server.address().port}/workflows/`;
}

let servers = [];
let runs = [];
const started = (...args) => {
    runs.push(follow(...args));
    return runs.at(-1);
};

beforeEach(() => {
    FakeSocket.made = [];
    globalThis.WebSocket = FakeSocket;
    // Reconnections without their pauses' length.
    mock.method(Math, "random", () => -0.98);
});
afterEach(() => {
    mock.restoreAll();
    runs.forEach((run) => run.close());
    servers.forEach((server) => server.closeAllConnections() ?? server.close());
    runs = [];
    servers = [];
});

// --- over the WebSocket -------------------------------------------------------------------------------------

test("events come in order, and once, over connections that are lost", async () => {
    FakeSocket.script = (socket, number) => {
        socket.open();
        if (number === 1) {
            socket.events(0, 2, 3);
            socket.drop();
        } else if (number === 2) {
            socket.drop(1012, "the server stops");
        } else {
            // What was seen is not handed over again.
            socket.events(3, 5, 6);
            socket.say({type: "end", handler});
        }
    };
    const run = started("http://example.org/app/workflows/", "h/1", {includeInternal: true});
    const heard = listen(run);
    await until(() => heard.ends.length);

    assert.deepEqual(heard.sequences, [0, 2, 3, 5, 6]);
    assert.deepEqual(heard.ends, [handler]);
    assert.deepEqual(heard.states, ["connecting", "live", "reconnecting", "live", "ended"]);
    assert.deepEqual(
        FakeSocket.made.map((socket) => socket.url.href),
        [-1, 3, 3].map(
            (cursor) =>
                "ws://example.org/app/workflows/ws/events/h%2F1?include_internal=true" +
                `&include_qualified_name=true&after_sequence=${cursor}`,
        ),
    );
    assert.equal(run.cursor, 6);
});

test("a refusal is final, and says why", async () => {
    FakeSocket.script = (socket) => {
        socket.open();
        socket.say({type: "error", id: null, status: 404, detail: "Handler not found"});
        socket.drop(4404, "Handler…");
    };
    const heard = listen(started("http://example.org", "h"));
    await until(() => heard.errors.length);
    assert.deepEqual(heard.errors, [{status: 404, detail: "Handler not found"}]);
    assert.deepEqual(heard.states, ["connecting", "refused"]);
    assert.equal(FakeSocket.made.length, 1);
});

test("what passes is tried again", async () => {
    const codes = [4429, 4408, 4503, 1011, 1006];
    FakeSocket.script = (socket, number) => {
        socket.open();
        if (number <= codes.length) {
            socket.drop(codes[number - 1]);
        } else {
            socket.say({type: "end", handler});
        }
    };
    const heard = listen(started("http://example.org", "h"));
    await until(() => heard.ends.length);
    assert.equal(FakeSocket.made.length, codes.length + 1);
});

test("whoever waits for the server is told why it refuses", async () => {
    FakeSocket.script = (socket, number) => {
        socket.open();
        if (number === 1) {
            socket.say({type: "error", id: null, status: 503, detail: "The runtime is not running"});
        }
        number < 3 ? socket.drop(4503, "The runtime…") : socket.say({type: "end", handler});
    };
    const run = started("http://example.org", "h");
    const reasons = [];
    run.addEventListener("state", ({detail}) => reasons.push([detail.state, detail.reason?.detail ?? null]));
    await until(() => run.state === "ended");
    assert.deepEqual(reasons, [
        ["connecting", null],
        ["reconnecting", "The runtime is not running"],
        ["reconnecting", "The runtime…"],
        ["live", null],
        ["ended", null],
    ]);
});

test("commands are resolved by their answers", async () => {
    FakeSocket.script = (socket) => {
        socket.open();
        socket.events(0);
        socket.onsent = ({id, type, step}) =>
            socket.say(
                type === "cancel"
                    ? {type: "ack", id}
                    : {type: "error", id: step === "x" ? id : null, status: 400, detail: "no such step"},
            );
    };
    const run = started("http://example.org", "h");
    await until(() => run.state === "live");
    await run.cancel();
    for (const step of ["x", "unreadable"]) {
        await assert.rejects(run.sendEvent(envelope(1), {step}), (error) => {
            assert.ok(error instanceof Refused);
            assert.deepEqual([error.status, error.detail], [400, "no such step"]);
            return true;
        });
    }
    const {key, ...sent} = FakeSocket.made[0].sent[1];
    assert.deepEqual(sent, {type: "send_event", event: envelope(1), step: "x", id: "c2"});
    assert.match(key, /^[0-9a-f]{32}$/);
});

test("commands without an answer are not taken for done", async () => {
    FakeSocket.script = (socket, number) => {
        socket.open();
        socket.events(0);
        socket.onsent = () => (number === 1 ? socket.drop() : socket.say({type: "end", handler}));
    };
    const run = started("http://example.org", "h");
    await until(() => run.state === "live");
    await assert.rejects(run.cancel(), {status: 0});
    await until(() => run.state === "live");
    await assert.rejects(run.cancel(), {status: 409});
});

test("an event is sent again when the connection was lost, with the same key", async () => {
    FakeSocket.script = (socket, number) => {
        socket.open();
        socket.events(number);
        socket.onsent = ({id}) => (number < 3 ? socket.drop() : socket.say({type: "ack", id}));
    };
    const run = started("http://example.org", "h");
    await until(() => run.state === "live");
    await run.sendEvent(envelope(1));
    const sent = FakeSocket.made.map((socket) => socket.sent[0]);
    assert.equal(sent.length, 3);
    assert.equal(new Set(sent.map(({key}) => key)).size, 1);
});

test("an event that ends the run is asked about when its answer was lost", async () => {
    const seen = [];
    const base = await serve(site(6, seen));
    FakeSocket.script = (socket) => {
        socket.open();
        socket.events(0);
        socket.onsent = () => {
            socket.drop();
            FakeSocket.script = (next) => {
                next.open();
                next.say({type: "end", handler});
            };
        };
    };
    const run = started(base, "h");
    await until(() => run.state === "live");
    await run.sendEvent(envelope(1));
    assert.equal(seen[0].headers["idempotency-key"], `"${FakeSocket.made[0].sent[0].key}"`);
});

test("credentials are a subprotocol", async () => {
    started("http://example.org", "h", {authorization: "Token ä?>"});
    await until(() => FakeSocket.made.length);
    assert.deepEqual(FakeSocket.made[0].protocols, ["django-workflows", "authorization.VG9rZW4gw6Q_Pg"]);
});

test("nothing happens after close", async () => {
    FakeSocket.script = (socket) => {
        socket.open();
        socket.events(0);
    };
    const run = started("http://example.org", "h");
    const heard = listen(run);
    await until(() => run.state === "live");
    run.close();
    FakeSocket.made[0].events(1);
    FakeSocket.made[0].drop();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual(heard.sequences, [0]);
    assert.equal(heard.states.at(-1), "closed");
    assert.equal(FakeSocket.made.length, 1);
});

test("a connection whose heartbeats cease is dead", () => {
    mock.timers.enable({apis: ["setTimeout", "Date"]});
    const dead = mock.fn();
    const silence = new Silence(dead);
    silence.broken(false);
    mock.timers.tick(1_000_000);
    // There may be no heartbeats.
    assert.equal(dead.mock.callCount(), 0);
    silence.broken(false);
    mock.timers.tick(25_000);
    silence.broken(true);
    mock.timers.tick(60_000);
    assert.equal(dead.mock.callCount(), 0);
    mock.timers.tick(2_501);
    assert.equal(dead.mock.callCount(), 1);
    mock.timers.reset();
});

// --- over Server-Sent Events --------------------------------------------------------------------------------

/** Answer as our server does, with a log of events 0 to `last`, of which a connection gives two. */
function site(last, seen = []) {
    return (request, response) => {
        const url = new URL(request.url, "http://here");
        seen.push(request);
        if (request.method === "POST") {
            request.toArray().then((parts) => {
                request.body = JSON.parse(Buffer.concat(parts));
                const missing = url.pathname.endsWith("/cancel");
                response.writeHead(missing ? 404 : 200, {"content-type": "application/json"});
                response.end(missing ? '{"detail":"Handler not found"}' : '{"status":"sent"}');
            });
        } else if (url.pathname.includes("/handlers/")) {
            // A run that has failed is answered 500.
            response.writeHead(500).end(JSON.stringify({handler_id: "h", status: "failed"}));
        } else {
            const after = Number(url.searchParams.get("after_sequence"));
            if (after === last) {
                response.writeHead(204).end();
                return;
            }
            response.writeHead(200, {"content-type": "text/event-stream"});
            response.write(": heartbeat\n\n");
            const upTo = Math.min(after + 2, last);
            for (let n = after + 1; n <= upTo; n++) {
                response.write(`id: ${n}\ndata: ${JSON.stringify(envelope(n))}\n\n`);
            }
            // Cut off in the middle of a message, or in order at the end.
            upTo < last ? response.write("id: 99\nda", () => response.destroy()) : response.end();
        }
    };
}

test("where no WebSocket can be opened there are Server-Sent Events", async () => {
    FakeSocket.script = (socket) => socket.drop();
    const heard = listen(started(await serve(site(6)), "h"));
    await until(() => heard.ends.length);
    assert.deepEqual(heard.sequences, [0, 1, 2, 3, 4, 5, 6]);
    assert.deepEqual(heard.ends, [{handler_id: "h", status: "failed"}]);
    assert.equal(heard.states[1], "live");
    assert.equal(FakeSocket.made.length, 1);
});

test("who has had a WebSocket waits for it to come back", async () => {
    FakeSocket.script = (socket, number) => {
        if (number === 1 || number === 4) {
            socket.open();
            number === 1 ? socket.events(0) : socket.say({type: "end", handler});
        }
        socket.drop();
    };
    const seen = [];
    const heard = listen(started(await serve(site(6, seen)), "h"));
    await until(() => heard.ends.length);
    assert.equal(seen.length, 0);
});

test("commands over POST, with the CSRF token and credentials", async () => {
    const seen = [];
    const run = started(await serve(site(6, seen)), "h 1", {
        transport: "sse",
        csrfToken: "secret",
        authorization: "Token abc",
    });
    await run.sendEvent(envelope(1), {step: "s"});
    await assert.rejects(run.cancel(), {status: 404, detail: "Handler not found"});
    const [send, cancel] = seen.filter(({method}) => method === "POST");
    assert.deepEqual(send.body, {event: envelope(1), step: "s"});
    assert.equal(send.headers["x-csrftoken"], "secret");
    assert.equal(send.headers.authorization, "Token abc");
    assert.equal(send.url, "/workflows/events/h%201");
    assert.equal(cancel.url, "/workflows/handlers/h%201/cancel");
});

test("a refusal over Server-Sent Events", async () => {
    const base = await serve((request, response) => response.writeHead(401).end('{"detail":"Who are you?"}'));
    const heard = listen(started(base, "h", {transport: "sse"}));
    await until(() => heard.errors.length);
    assert.deepEqual(heard.errors, [{status: 401, detail: "Who are you?"}]);
});

test("a server without streams says so while it is asked again", async () => {
    const detail = "Streams need the ASGI application";
    const base = await serve((request, response) => response.writeHead(503).end(JSON.stringify({detail})));
    FakeSocket.script = (socket) => socket.drop();
    const run = started(base, "h");
    const reasons = [];
    run.addEventListener("state", ({detail: told}) => reasons.push([told.state, told.reason]));
    await until(() => FakeSocket.made.length > 2);
    assert.deepEqual(reasons, [
        ["connecting", null],
        ["reconnecting", {status: 503, detail}],
    ]);
});

test("an event stream is read wherever it is cut into pieces", async () => {
    const text = ": heartbeat\n\nid: 1\ndata: {\"a\":\"ä😀\"}\n\n: x\n\nid:2\ndata:{}\n\nid: 3\ndata: lost";
    const bytes = new TextEncoder().encode(text);
    for (let size = 1; size <= bytes.length; size++) {
        const pieces = [];
        for (let at = 0; at < bytes.length; at += size) {
            pieces.push(bytes.slice(at, at + size));
        }
        const found = [];
        for await (const message of messages(ReadableStream.from(pieces))) {
            found.push(message);
        }
        assert.deepEqual(found, [null, {id: "1", data: '{"a":"ä😀"}'}, null, {id: "2", data: "{}"}]);
    }
});
