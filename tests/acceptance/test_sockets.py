"""The WebSocket when processes die, when there are several, and when its clients behave badly."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.uri import parse_uri

from tests.acceptance.scene import DEADLINE, Scene
from tests.acceptance.sockets import SocketReader, ask, opened, received, rest, until
from tests.servers import Server, get

# Megabytes that a client leaves unread, or sends without reading the answers; and by which a server may grow.
FLOOD = 200
BOUND = 60


def test_a_reader_who_comes_back_sees_every_event_once(scene: Scene) -> None:
    key = scene.start("pipeline", total=160)
    reader = SocketReader(scene, key)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(reader.read_through_crashes)
        for _ in range(3):
            seen = len(reader.sequences)
            scene.until(lambda: len(reader.sequences) > seen + 10 or reading.done(), "more events")  # noqa: B023
            scene.server.kill()
            scene.server.start(wait=False)
        scene.server.wait_until_healthy()
        scene.result(key)
        reading.result()

    whole = scene.reader(key)
    whole.read()
    assert reader.sequences == whole.sequences == list(range(len(whole.events)))
    assert reader.events == whole.events
    assert reader.ended == scene.handler(key)


def test_what_was_acknowledged_survives_a_crash(scene: Scene) -> None:
    answered, cancelled = scene.start("ask"), scene.start("ask")
    for key, command in (
        (answered, {"type": "send_event", "event": {"type": "Answer", "value": {"text": "yes"}}}),
        (cancelled, {"type": "cancel"}),
    ):
        with opened(scene, key) as socket:
            until(socket, "event", "Question")
            assert ask(socket, **command) == {"type": "ack", "id": "x"}
            scene.crash()
    assert scene.result(answered) == "yes"
    assert scene.ended(cancelled)["status"] == "cancelled"
    # What acknowledged it has died; whoever sends it again is told that it is too late.
    with opened(scene, answered) as socket:
        messages, code = rest(socket)
    assert (messages[-1:], code) == ([{"type": "end", "handler": scene.handler(answered)}], 1000)


def test_events_and_commands_in_another_process(scene: Scene) -> None:
    with scene.another(SITE_EXECUTE="0") as front:
        key = scene.start("collect", total=3, at=front)
        with opened(scene, key, front) as one, opened(scene, key) as other:
            for socket in (one, other):
                until(socket, "event", "Question")
            for number, socket in enumerate((one, other, one)):
                note = {"type": "Note", "value": {"number": number, "total": 3}}
                assert ask(socket, type="send_event", event=note)["type"] == "ack"
            ends = [rest(socket) for socket in (one, other)]
        for messages, code in ends:
            assert (messages[-1]["type"], code) == ("end", 1000)
            assert sorted(messages[-1]["handler"]["result"]["value"]["result"]) == [0, 1, 2]
    assert len(scene.checker.consumed(key)) == 3


# --- clients that behave badly -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["daphne", "uvicorn", "granian"])
def served(request: pytest.FixtureRequest, unblocked: None) -> Iterator[tuple[Scene, Server]]:
    """A site and one of the servers for it, which loses patience after two seconds."""
    with (
        Scene("sqlite") as scene,
        scene.another("--server", request.param, forked=False, SITE_PATIENCE="2") as server,
    ):
        yield scene, server
        assert not re.findall(r"ERROR .*|Traceback.*", server.output), server.described_output()


def memory(server: Server) -> float:
    """Return what a server holds in memory, with its children, in megabytes."""
    pids = [str(server.pid)]
    for pid in pids:
        pids += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (
        sum(
            int(line.split()[1])
            for pid in pids
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        / 1024
    )


@pytest.fixture
def grown(served: tuple[Scene, Server]) -> Iterator[list[float]]:
    """By how many megabytes the server has grown, looked at all the time."""
    _, server = served
    before, found, done = memory(server), [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            found.append(memory(server) - before)

    thread = threading.Thread(target=look)
    thread.start()
    yield found
    done.set()
    thread.join()


def loud(scene: Scene, server: Server) -> str:
    """Start a run with a lot to read."""
    key = scene.start("loud", at=server, count=FLOOD * 4, size=256 * 1024)
    reader = scene.reader(key, at=server)
    reader.read(until=lambda event: event["type"] == "Question")
    return key


def test_a_reader_that_does_not_read_is_dropped_and_comes_back(
    served: tuple[Scene, Server], request: pytest.FixtureRequest
) -> None:
    scene, server = served
    key = loud(scene, server)
    grown = request.getfixturevalue("grown")
    with opened(scene, key, server) as socket:
        first = received(socket)["sequence"]
        time.sleep(4)
        # The rest of the site does not notice.
        assert get(server.url + "/health").status_code == 200
        print(f"{server.name}: grew by {max(grown):.0f} MB")
        assert max(grown) < BOUND
        messages = [message["sequence"] for message in rest(socket)[0]]
    assert [first, *messages] == list(range(len(messages) + 1))
    assert len(messages) < FLOOD

    last = messages[-1]
    with opened(scene, key, server, after_sequence=last) as socket:
        question = until(socket, "event", "Question")
        assert ask(socket, type="send_event", event={"type": "Answer", "value": {"text": "yes"}})["type"] == "ack"
        assert rest(socket)[1] == 1000
    assert question["sequence"] > FLOOD * 4


def test_a_client_that_floods_is_held_up(served: tuple[Scene, Server], grown: list[float]) -> None:
    scene, server = served
    key = scene.start("ask", at=server)
    # Too large to be waiting anywhere but with the client.
    command = json.dumps({"type": "send_event", "id": "c", "event": {"type": "No", "value": "x" * 500_000}})
    with opened(scene, key, server) as socket:
        until(socket, "event", "Question")
        sent = threading.Thread(target=lambda: [socket.send(command) for _ in range(2 * FLOOD)], daemon=True)
        sent.start()
        answers = 0
        while answers < 2 * FLOOD:
            if (message := received(socket))["type"] == "error":
                assert message["status"] == 400
                answers += 1
        sent.join()
        assert get(server.url + "/health").status_code == 200
        print(f"{server.name}: grew by {max(grown):.0f} MB")
        assert max(grown) < BOUND
        assert ask(socket, type="cancel")["type"] == "ack"
    assert scene.ended(key, at=server)["status"] == "cancelled"


def test_answers_that_nobody_reads(served: tuple[Scene, Server], grown: list[float]) -> None:
    scene, server = served
    key = scene.start("ask", at=server)
    # Its answer repeats the type.
    command = json.dumps({"type": "send_event", "event": {"type": "x" * 500_000, "value": {}}})
    with opened(scene, key, server) as socket:
        until(socket, "event", "Question")
        with suppress(ConnectionClosed):
            for _ in range(2 * FLOOD):
                socket.send(command)
            pytest.fail("the server takes everything")
    print(f"{server.name}: grew by {max(grown):.0f} MB")
    assert max(grown) < BOUND
    scene.cancel(key, at=server)


def test_a_client_may_take_a_moment_to_say_goodbye(served: tuple[Scene, Server]) -> None:
    """A connection that is reset before takes with it what the client has not read."""
    scene, server = served
    key = scene.start("greet", at=server)
    scene.ended(key, at=server)
    client = ClientProtocol(parse_uri(f"{server.url.replace('http', 'ws', 1)}/ws/events/{key}?after_sequence=-1"))
    with socket.create_connection((client.uri.host, client.uri.port), timeout=DEADLINE) as connection:
        client.send_request(client.connect())
        connection.sendall(b"".join(client.data_to_send()))
        while client.close_rcvd is None:
            client.receive_data(connection.recv(4096))
        assert client.close_rcvd.code == 1000

        time.sleep(1.5)

        connection.setblocking(False)
        # Open, or ended in order.
        with suppress(BlockingIOError):
            assert connection.recv(1) == b""


def test_clients_that_vanish(served: tuple[Scene, Server]) -> None:
    scene, server = served
    key = scene.start("loud", at=server, count=300, size=64 * 1024)
    for number in range(30):
        with opened(scene, key, server) as socket:
            received(socket)
            socket.send("nonsense" * number)
            # Without a close frame.
            socket.socket.close()
    scene.saw(key, "Question", at=server)
    scene.cancel(key, at=server)
