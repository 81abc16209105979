"""Where the reference answers bad input with a 500, a hang or silence, we say what is wrong and change nothing.

What differs is in departures.py, as data; here it is held against both servers.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests import servers
from tests.wire.departures import DEPARTURES, DIFFERENCES, HANGS, Departure
from tests.wire.transcript import PATIENCE, Site
from tests.wire.workflows import SERVED, TEXTS

# Seconds of silence after which the reference is taken to hang; a heartbeat comes every half second.
SILENCE = 0.7


@pytest.fixture(scope="module")
def spoilt_reference() -> Iterator[Site]:
    """A reference of its own: what is done to it here does it lasting harm."""
    command = [sys.executable, "-m", "tests.wire.reference", "{port}"]
    with servers.Server(command, name="reference to be spoilt") as server:
        site = Site(server.url)
        yield site
        site.close()


def path_of(departure: Departure, site: Site) -> tuple[str, str]:
    """Return the path, and the handler that is made for the request, if it speaks of one."""
    handler = ""
    if departure.speaks_of("{handler}"):
        handler = site.start_waiting("ask")
    elif departure.speaks_of("{ended}"):
        handler = site.start("silent")
        site.wait_for_end(handler)
    return departure.path.replace("{handler}", handler).replace("{ended}", handler), handler


def everything(site: Site, handler: str) -> object:
    """Return which handlers there are (the newest), and what becomes of one of them."""
    listed = site.get("/handlers?limit=100", record=False).json()["handlers"]
    found = site.get(f"/handlers/{handler}", record=False).json() if handler else {}
    found.pop("updated_at", None)
    return [item["handler_id"] for item in listed], found


@pytest.mark.parametrize("departure", DEPARTURES, ids=[departure.name for departure in DEPARTURES])
def test_ours(departure: Departure, ours: Site) -> None:
    path, handler = path_of(departure, ours)
    before = everything(ours, handler)
    answer = ours.request(departure.method, path, **departure.arguments(handler))
    assert answer.status == departure.ours, answer
    if answer.status < 400:
        return
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"detail"}
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert str(servers.ROOT) not in body["detail"]

    # Nothing has changed: no handler more, no run more, and who waited waits still.
    assert everything(ours, handler) == before
    if departure.speaks_of("{handler}"):
        ours.post(f"/events/{handler}", {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}})
        assert ours.wait_for_end(handler).json()["result"]["value"]["result"] == "Hello, Ada!"


@pytest.mark.parametrize(
    "departure",
    [departure for departure in DEPARTURES if departure.reference == HANGS or departure.reference != 200],
    ids=lambda departure: departure.name,
)
def test_reference(departure: Departure, spoilt_reference: Site) -> None:
    """It is still so; otherwise the departure can go."""
    if departure.reference == HANGS:
        assert _hangs(departure, spoilt_reference)
    else:
        path, handler = path_of(departure, spoilt_reference)
        answer = spoilt_reference.request(departure.method, path, **departure.arguments(handler))
        assert answer.status == departure.reference, answer


def _hangs(departure: Departure, site: Site) -> bool:
    """Tell whether there is no answer, or one without anything in it, for a while."""
    path, handler = path_of(departure, site)
    deadline = time.monotonic() + SILENCE
    request = site._client.stream(departure.method, path, timeout=SILENCE, **departure.arguments(handler))
    try:
        with request as response:
            for part in response.iter_text():
                if part != ": heartbeat\n\n":
                    return False
                if time.monotonic() > deadline:
                    return True
    except httpx.ReadTimeout:
        return True
    return False


def test_every_difference_has_a_test() -> None:
    names = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {difference.name for difference in DIFFERENCES} <= names


# --- more than a status -----------------------------------------------------------------------------


def test_line_separators_are_escaped_in_streams(ours: Site, reference: Site) -> None:
    breaks = re.compile("[\u2028\u2029\u0085]")
    for query in ("sse=true", "sse=false", "include_qualified_name=false"):
        path = f"/events/h-texts?after_sequence=-1&{query}"
        assert breaks.search(reference.get(path).text)
        answer = ours.get(path)
        assert not breaks.search(answer.text)
        assert [message["value"].get("message") for message in answer.messages[:-1]] == list(TEXTS.values())


def test_streams_are_not_held_back(ours: Site) -> None:
    for query in ("", "&sse=false"):
        headers = ours.get(f"/events/h-steps?after_sequence=-1{query}").headers
        assert headers["cache-control"] == "no-cache"
        assert headers["x-accel-buffering"] == "no"


def test_a_last_event_id_past_the_end_is_ignored(ours: Site) -> None:
    handler = ours.start_waiting("ask")
    headers = {"last-event-id": "99"}
    with ours.stream(f"/events/{handler}?after_sequence=-1", headers=headers) as stream:
        stream.read_until_type("Question")


def exchange(server: servers.Server, *requests: str) -> str:
    """Send requests over one connection, the last of them with Connection: close; return all that comes."""
    head = f"Host: {servers.HOST}\r\n"
    lines = [f"{request} HTTP/1.1\r\n{head}" for request in requests]
    data = "\r\n".join([*lines[:-1], lines[-1] + "Connection: close\r\n\r\n"])
    received = b""
    deadline = time.monotonic() + PATIENCE
    with socket.create_connection((servers.HOST, server.port), timeout=PATIENCE) as connection:
        connection.sendall(data.encode())
        while part := connection.recv(65536):
            received += part
            assert time.monotonic() < deadline, f"the connection is not closed: {received!r}"
    return received.decode()


def test_a_head_request_of_a_stream_ends(ours: Site, our_server: servers.Server) -> None:
    handler = ours.start_waiting("ask")
    for query in ("?after_sequence=-1", "?sse=false"):
        received = exchange(our_server, f"HEAD /workflows/events/{handler}{query}", "GET /workflows/health")
        assert received.count("HTTP/1.1 200 ") == 2
        assert received.endswith('{"status":"healthy"}')


def test_the_connection_can_be_used_after_204(ours: Site, our_server: servers.Server) -> None:
    received = exchange(our_server, "GET /workflows/events/h-steps", "GET /workflows/health")
    assert re.findall(r"HTTP/1.1 (\d+) ", received) == ["204", "200"]
    assert received.endswith('{"status":"healthy"}')


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/handlers/h-greeting", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/workflows/greeting/run", {"POST", "OPTIONS"}),
        ("GET", "/handlers/h-greeting/cancel", {"POST", "OPTIONS"}),
        ("DELETE", "/events/h-greeting", {"GET", "HEAD", "POST", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: set[str], ours: Site) -> None:
    answer = ours.request(method, path)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_handlers_come_newest_first_in_pages(ours: Site) -> None:
    started = [ours.start("greeting", {"name": str(number)}) for number in range(5)]
    found: list[str] = []
    query = "limit=2"
    while len(found) < len(started):
        page = ours.get(f"/handlers?{query}", record=False).json()
        assert len(page["handlers"]) == 2
        found += [handler["handler_id"] for handler in page["handlers"]]
        query = f"limit=2&cursor={page['next_cursor']}"
    assert found[: len(started)] == started[::-1]


def test_no_path_of_the_server_is_shown(ours: Site, reference: Site) -> None:
    assert str(servers.ROOT) in reference.get("/workflows/order/representation").text
    for name in SERVED:
        assert str(servers.ROOT) not in ours.get(f"/workflows/{name}/representation").text


def test_other_origins_get_no_leave(ours: Site, reference: Site) -> None:
    headers = {"origin": "https://other.example"}
    theirs = reference.get("/handlers/h-greeting", headers=headers)
    assert theirs.headers["access-control-allow-origin"] == "https://other.example"
    for path in ("/handlers/h-greeting", "/events/h-steps?after_sequence=-1", "/nonsense"):
        assert "access-control-allow-origin" not in ours.get(path, headers=headers).headers


@pytest.mark.parametrize("way", ["run", "run-nowait"])
def test_one_of_many_starts_with_one_id_runs(way: str, ours: Site) -> None:
    handler = f"many-{way}"
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda _: ours.post(f"/workflows/sleeping/{way}", _short(handler), record=False), range(12))
        )
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200] + [409] * 11
    ours.wait_for_end(handler)
    events = ours.get(f"/events/{handler}?after_sequence=-1").messages
    assert [event["type"] for event in events] == ["Progress", "StopEvent"]


def _short(handler: str) -> dict[str, object]:
    """Long enough that the others come while it runs."""
    return {"handler_id": handler, "start_event": {"seconds": 1.0}}


def test_half_a_surrogate_pair_does_no_lasting_harm(ours: Site) -> None:
    handler = "surrogate-1"
    content = b'{"handler_id": "surrogate-1", "start_event": {"half": "\\ud800", "whole": "\\ud83d\\ude00"}}'
    ours.post("/workflows/echo/run", content=content)
    expected = {"half": "\ufffd", "whole": "\U0001f600"}
    assert ours.get(f"/handlers/{handler}").json()["result"]["value"]["result"] == expected
    stream = ours.get(f"/events/{handler}?after_sequence=-1").messages
    assert [message["value"] for message in stream] == [{"_data": expected}, {"result": expected}]
    assert ours.get("/handlers").status == 200

    handler = ours.start_waiting("ask")
    event = b'{"event": {"type": "HumanResponseEvent", "value": {"response": "\\udc00"}}}'
    assert ours.post(f"/events/{handler}", content=event).status == 200
    ended = ours.wait_for_end(handler)
    assert ended.json()["result"]["value"]["result"] == "Hello, \ufffd!"


def test_an_undeclared_question_fails_at_once(ours: Site) -> None:
    answer = ours.post("/workflows/undeclared/run", {})
    assert answer.status == 500
    assert answer.json()["status"] == "failed"
    assert "Question is not declared" in answer.json()["error"]
    assert "additional_events" in answer.json()["error"]
    last = ours.get(f"/events/{answer.json()['handler_id']}?after_sequence=-1&sse=false").messages[-1]
    assert json.dumps(last).count("WorkflowFailedEvent") == 2
