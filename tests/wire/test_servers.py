"""The ASGI application under each server that it may be served by: it runs, streams, lets go and goes on."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket

from tests import servers
from tests.servers import Database, Server, wait_for
from tests.wire.conftest import SITE
from tests.wire.transcript import PATIENCE, LiveStream, Site

READERS = 200
# Requests that wait for the end of their run at the same time.
WAITING = 100


@dataclass(frozen=True)
class Kind:
    """A way to serve the application.

    Attributes:
        make: returns the server.
        prefixes: paths at which the API is found: behind a proxy that strips a prefix, and one that does not.
        exit_codes: what it may end with after SIGTERM.
        parses_bodies: whether the server itself looks into bodies by their Content-Type.
        waits_for_sockets: whether it lets a WebSocket end before it ends itself.
    """

    make: Callable[[Database], Server]
    prefixes: tuple[str, ...] = ("/workflows",)
    exit_codes: tuple[int, ...] = (0,)
    parses_bodies: bool = False
    waits_for_sockets: bool = True


def _ours(server: str) -> Kind:
    """The project's command, on a site that sets FORCE_SCRIPT_NAME."""
    return Kind(
        lambda database: servers.runworkflows(
            database, site=SITE, server=server, environment={"SITE_SCRIPT_NAME": "/app"}
        ),
        prefixes=("/workflows", "/app/workflows"),
        parses_bodies=server == "daphne",
        waits_for_sockets=server != "granian",
    )


def _theirs(database: Database, server: str, *arguments: str) -> Server:
    return servers.command_line(database, server, *arguments, site=SITE)


KINDS = {
    "runworkflows": _ours("daphne"),
    "runworkflows --server uvicorn": _ours("uvicorn"),
    "runworkflows --server granian": _ours("granian"),
    "daphne --root-path": Kind(
        lambda database: _theirs(database, "daphne", "--root-path", "/app"),
        prefixes=("/workflows", "/app/workflows"),
        parses_bodies=True,
    ),
    # A proxy in front of uvicorn has to strip the prefix: uvicorn puts it before every path.
    "uvicorn --root-path": Kind(
        lambda database: _theirs(database, "uvicorn", "--root-path", "/app"),
        # It ends with the signal that ended it.
        exit_codes=(0, -signal.SIGTERM),
    ),
    "granian --url-path-prefix": Kind(
        lambda database: _theirs(database, "granian", "--url-path-prefix", "/app"),
        prefixes=("/workflows", "/app/workflows"),
        waits_for_sockets=False,
    ),
    "runserver": Kind(
        lambda database: servers.runserver(database, site=SITE),
        # For development: a crash-safe restart is all that is asked of it.
        exit_codes=(0, -signal.SIGTERM, 143),
        parses_bodies=True,
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def kind(name: str) -> Kind:
    return KINDS[name]


@pytest.fixture(scope="module")
def server(name: str, kind: Kind) -> Iterator[Server]:
    with Database() as database, kind.make(database) as server:
        server.name = name
        yield server


@pytest.fixture
def site(server: Server) -> Iterator[Site]:
    site = Site(server.url)
    yield site
    site.close()


def inside(server: Server) -> dict[str, int]:
    """Return what goes on inside the process."""
    found: dict[str, int] = servers.get(f"{server.origin}/inside").json()
    return found


def answer(site: Site, handler: str) -> None:
    """Answer the question of a run of "ask"."""
    event = {"type": "HumanResponseEvent", "value": {"response": "Ada"}}
    assert site.post(f"/events/{handler}", {"event": event}).status == 200


def test_a_run(site: Site) -> None:
    started = site.post("/workflows/greeting/run", {"start_event": {"name": "Ada"}})
    assert started.status == 200
    assert started.json()["result"]["value"]["greeting"] == "Hello, Ada!"


def test_prefixes(kind: Kind, server: Server) -> None:
    for prefix in kind.prefixes:
        site = Site(server.origin + prefix)
        assert site.get("/health").status == 200, prefix
        handler = site.post("/workflows/steps/run", {}).json()["handler_id"]
        assert len(site.get(f"/events/{handler}?after_sequence=-1").messages) == 6
        assert site.get("/handlers/nobody").json() == {"detail": "Handler not found"}
        site.close()


def test_the_rest_of_the_site_is_served_as_well(server: Server) -> None:
    login = servers.get(f"{server.origin}/admin/login/")
    assert login.status_code == 200
    assert "csrfmiddlewaretoken" in login.text


def test_a_large_body(site: Site) -> None:
    text = "ä" * (2 * 1024 * 1024)
    measured = site.post("/workflows/measure/run", {"start_event": {"text": text}})
    assert measured.json()["result"]["value"] == {"result": len(text)}


def test_the_content_type_does_not_matter(kind: Kind, site: Site) -> None:
    if kind.parses_bodies:
        # Twisted, under Daphne, refuses what claims to be multipart and is not, before we hear of it.
        headers = {"content-type": "application/x-www-form-urlencoded"}
    else:
        headers = {"content-type": "multipart/form-data; boundary=x"}
    assert site.post("/workflows/echo/run", {"start_event": {"a": 1}}, headers=headers).status == 200


@pytest.mark.parametrize("query", ["", "&sse=false"])
def test_a_stream_follows_the_run(query: str, site: Site) -> None:
    handler = site.start_waiting("ask")
    with site.stream(f"/events/{handler}?after_sequence=-1{query}") as stream:
        # It comes at once, however little it is.
        stream.read_until_type("Question")
        answer(site, handler)
        stream.read_to_end()
    assert [message["type"] for message in stream.messages] == ["Question", "StopEvent"]


def socket_url(server: Server, handler: str, prefix: str = "/workflows") -> str:
    return f"{server.origin.replace('http', 'ws', 1)}{prefix}/ws/events/{handler}?after_sequence=-1"


def test_a_socket(kind: Kind, server: Server, site: Site) -> None:
    for prefix in kind.prefixes:
        handler = site.start_waiting("ask")
        with websocket(socket_url(server, handler, prefix), compression="deflate") as one:
            # Where the server offers it.
            assert bool(one.protocol.extensions) == ("uvicorn" in server.name)
            messages = [json.loads(one.recv(timeout=PATIENCE))]
            one.send('{"type": "send_event", "event": {"type": "HumanResponseEvent", "value": {}}}')
            messages += [json.loads(message) for message in one]
        # Heartbeats come where a machine is slow.
        types = sorted(message["type"] for message in messages if message["type"] != "heartbeat")
        assert types == ["ack", "end", "event", "event"], prefix


def test_a_site_with_a_websocket_application_of_its_own(server: Server, site: Site) -> None:
    with websocket(f"{server.origin.replace('http', 'ws', 1)}/echo") as one:
        one.send("hello")
        assert one.recv(timeout=PATIENCE) == "hello"


def test_heartbeats_over_a_socket(server: Server, site: Site) -> None:
    handler = site.start_waiting("ask")
    with websocket(socket_url(server, handler)) as one:
        assert [json.loads(one.recv(timeout=PATIENCE))["type"] for _ in range(3)] == [
            "event",
            "heartbeat",
            "heartbeat",
        ]
    wait_for(lambda: inside(server)["readers"] == 0, what="the reader to be forgotten")


def test_heartbeats(site: Site) -> None:
    handler = site.start_waiting("ask")
    with site.stream(f"/events/{handler}") as stream:
        stream.read_until(lambda live: live.text.count(": heartbeat\n\n") == 2)
        assert stream.text == ": heartbeat\n\n" * 2


def test_a_reader_that_leaves_is_forgotten(server: Server, site: Site) -> None:
    handler = site.start_waiting("ask")
    wait_for(lambda: inside(server)["readers"] == 0, what="earlier readers to be gone")
    with site.stream(f"/events/{handler}?after_sequence=-1") as stream:
        stream.read_until_type("Question")
        assert inside(server)["readers"] == 1
    wait_for(lambda: inside(server)["readers"] == 0, what="the reader to be forgotten")
    answer(site, handler)
    assert site.wait_for_end(handler).status == 200


def test_a_client_that_does_not_wait_for_its_run(server: Server, site: Site) -> None:
    path = server.url.removeprefix(server.origin) + "/workflows/ask/run"
    body = b'{"handler_id": "left-alone"}'
    head = f"POST {path} HTTP/1.1\r\nHost: {servers.HOST}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((servers.HOST, server.port)) as connection:
        connection.sendall(head.encode() + body)
        wait_for(lambda: site.get("/handlers/left-alone").status == 202, what="the start of the run")
    site.wait_for_event("left-alone", "WorkflowIdleEvent")
    answer(site, "left-alone")
    assert site.wait_for_end("left-alone").status == 200


async def test_many_readers(server: Server, site: Site) -> None:
    handler = site.start_waiting("chat")
    threads = inside(server)["threads"]
    path = server.url.removeprefix(server.origin) + f"/events/{handler}?after_sequence=-1"
    reached = asyncio.Semaphore(0)

    async def read() -> list[str]:
        """Return the lines that say where an event stands."""
        reader, writer = await asyncio.open_connection(servers.HOST, server.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {servers.HOST}\r\nConnection: close\r\n\r\n".encode())
        lines = []
        async for line in reader:
            if line.startswith(b"id: "):
                lines.append(line.decode().strip())
                reached.release()
        writer.close()
        return lines

    async with asyncio.timeout(PATIENCE):
        readers = [asyncio.create_task(read()) for _ in range(READERS)]
        for _ in range(READERS):
            await reached.acquire()
        # None of them holds a thread while it waits.
        assert inside(server)["threads"] - threads < 30
        for number in range(10):
            site.post(f"/events/{handler}", {"event": {"type": "Tick", "value": {"text": str(number)}}})
        site.post(f"/events/{handler}", {"event": {"type": "Enough", "value": {}}})
        read_by_all = await asyncio.gather(*readers)
    events = site.get(f"/events/{handler}?after_sequence=-1").messages
    assert [event["type"] for event in events] == ["Progress"] * 11 + ["StopEvent"]
    assert read_by_all == [[f"id: {event['id']}" for event in events]] * READERS
    wait_for(lambda: inside(server)["readers"] == 0, what="the readers to be forgotten")


async def test_requests_that_wait_hold_no_thread(server: Server, site: Site) -> None:
    threads = inside(server)["threads"]
    path = server.url.removeprefix(server.origin) + "/workflows/ask/run"
    ids = [f"waits-{number}" for number in range(WAITING)]

    async def run(handler_id: str) -> str:
        """Return the first line of the answer, which comes when the run has ended."""
        reader, writer = await asyncio.open_connection(servers.HOST, server.port)
        body = f'{{"handler_id": "{handler_id}"}}'
        head = f"POST {path} HTTP/1.1\r\nHost: {servers.HOST}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n{body}".encode())
        first = await reader.readline()
        writer.close()
        return first.decode()

    def waiting() -> int:
        found = site.get("/handlers?workflow_name=ask&status=running").json()["handlers"]
        return sum(handler["handler_id"].startswith("waits-") for handler in found)

    async with asyncio.timeout(PATIENCE):
        requests = [asyncio.create_task(run(handler_id)) for handler_id in ids]
        await asyncio.to_thread(wait_for, lambda: waiting() == WAITING, what="all runs to wait")
        # Each thread could hold a database connection: there are no more of these either.
        assert inside(server)["threads"] - threads < 30
        for handler_id in ids:
            await asyncio.to_thread(answer, site, handler_id)
        assert {line.split()[1] for line in await asyncio.gather(*requests)} == {"200"}


def test_stopping_lets_go_of_runs_and_they_go_on(kind: Kind, server: Server, site: Site) -> None:
    waiting = site.start_waiting("ask")
    busy = site.start("sleeping", {"seconds": 1.5})
    with (
        site.stream(f"/events/{waiting}?after_sequence=-1") as stream,
        site.stream(f"/events/{busy}?after_sequence=-1&sse=false") as other,
        websocket(socket_url(server, waiting)) as socket_of_ours,
    ):
        stream.read_until_type("Question")
        other.read_until_type("Progress")
        ends = [read_in_background(stream), read_in_background(other)]
        code = server.terminate()
        for end in ends:
            end.join(PATIENCE)
        with pytest.raises(ConnectionClosed) as closed:
            list(socket_of_ours)
    assert code in kind.exit_codes
    if kind.exit_codes == (0,):
        if kind.waits_for_sockets or closed.value.rcvd is not None:
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        # The streams have ended in order, and say nothing of an end of the runs.
        assert [message["type"] for message in stream.messages] == ["Question"]
        assert [message["type"] for message in other.messages] == ["Progress"]

    server.start()
    assert site.get(f"/handlers/{waiting}").json()["status"] == "running"
    assert site.get(f"/handlers/{busy}").json()["status"] == "running"
    with site.stream(f"/events/{waiting}?after_sequence=2") as stream:
        answer(site, waiting)
        stream.read_to_end()
    assert [message["type"] for message in stream.messages] == ["StopEvent"]
    assert site.wait_for_end(waiting).json()["result"]["value"] == {"result": "Hello, Ada!"}
    assert site.wait_for_end(busy).json()["result"]["value"] == {"result": 1.5}


def read_in_background(stream: LiveStream) -> threading.Thread:
    """Read a stream to its end, be it in order or not."""

    def read() -> None:
        try:
            stream.read_to_end()
        except httpx.TransportError:
            stream.text += "\n(cut off)"

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
