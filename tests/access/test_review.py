"""Points of the security review (docs/security.md) that no other test holds."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections import Counter
from typing import Any, ClassVar

import httpx
import pytest
from django.test import Client
from hypothesis import example, given
from hypothesis import strategies as st
from workflows.events import Event

from django_workflows import handlers, serialization
from django_workflows.api import framing, views
from django_workflows.eventlog import EventEntry
from django_workflows.models import Handler
from tests import servers
from tests.access import people
from tests.access.conftest import Site
from tests.access.people import OWNER
from tests.access.test_matrix import ENTRANCES, Entrance, run_of_the_owner
from tests.storage import a_run

ATTACK = (
    'x\r\n\r\nid: 99\r\nevent: evil\r\ndata: {"a": 1}\n\n\u2028\u2029\x85\x0b\x0c\x1c<script>alert(1)</script>'
)


# --- ids ---------------------------------------------------------------------------------------------------


def test_a_random_id_has_130_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each letter comes from the system's source for secrets, and all are equally likely."""
    drawn: list[bytes] = []
    monkeypatch.setattr(handlers.secrets, "token_bytes", lambda n: drawn.pop(0))
    letters = Counter[str]()
    for byte in range(256):
        drawn += [bytes([byte] * 32), bytes(22)]
        letters.update(handlers.new_id()[:1])
        # A byte that would make its letter likelier is drawn again.
        assert len(drawn) == (byte < 248)
        drawn.clear()

    letters["0"] -= 256 - 248
    assert set(letters.values()) == {4}
    assert len(letters) ** 22 > 2**130


# --- what a run writes reaches its readers as text -----------------------------------------------------------


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text()), max_size=3), st.booleans())
@example({"a": ATTACK}, True)
@example({ATTACK: ATTACK}, False)
def test_no_content_breaks_out_of_its_line(fields: dict[str, Any], qualified_name: bool) -> None:
    """Neither SSE fields nor lines of NDJSON, whichever way a client splits lines."""
    wire = serialization.envelope(Event(_data=fields))
    entry = EventEntry(7, wire.internal, wire.data, wire.type, handlers.timezone.now())
    text = framing.sse([entry], qualified_name=qualified_name).decode()
    assert re.fullmatch(r"id: 7\ndata: [^\n]*\n\n", text)
    assert len(text.splitlines()) == 3
    assert text.splitlines()[1].startswith("data: {")
    assert len(framing.ndjson([entry], qualified_name=qualified_name).decode().splitlines()) == 1


def test_what_a_run_writes_is_never_taken_for_a_page(owners: Site) -> None:
    """JSON and streams only, whatever a browser asks for, and no guessing of types."""
    run = owners.start(OWNER, "echo", start_event={"text": ATTACK})
    for path in (
        f"/handlers/{run}",
        f"/results/{run}",
        "/handlers",
        f"/events/{run}?after_sequence=-1",
        "/nonsense<b>",
    ):
        answer = owners.as_(OWNER).get(path, headers={"Accept": "text/html"})
        assert answer.headers["Content-Type"].startswith(("application/json", "text/event-stream"))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    stream = owners.as_(OWNER).get(f"/events/{run}?after_sequence=-1").text
    assert "evil" not in [line.partition(": ")[2] for line in stream.splitlines() if line.startswith("event")]
    sent = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    assert sent[-1]["value"]["result"] == {"text": ATTACK}


def test_no_header_is_made_of_what_a_request_brings(owners: Site) -> None:
    evil = "a%0d%0aSet-Cookie:%20evil=1"
    run = owners.start(OWNER)
    for path in (f"/handlers/{evil}", f"/workflows/{evil}/schema", f"/events/{run}?after_sequence={evil}"):
        answer = owners.as_(OWNER).get(path)
        assert answer.status_code in (400, 404)
        assert "evil" not in str(answer.headers)
        assert not answer.cookies


@pytest.mark.parametrize("entrance", ENTRANCES, ids=str)
def test_no_entrance_leads_elsewhere(owners: Site, entrance: Entrance) -> None:
    handler_id = run_of_the_owner(owners, entrance, OWNER)
    separator = "&" if "?" in entrance.path else "?"
    path = entrance.path.replace("{id}", handler_id) + f"{separator}next=https://evil.example/&url=//evil.example"
    answer = owners.as_(OWNER).request(entrance.method, path, json={} if entrance.method == "POST" else None)
    assert "Location" not in answer.headers
    assert answer.status_code not in range(300, 400)


# --- secrets -----------------------------------------------------------------------------------------------


def test_neither_logs_nor_errors_hold_secrets(owners: Site) -> None:
    """Credentials, and what runs are about, through requests that succeed, are refused, and fail."""
    secret = "a-very-secret-value"
    token = owners.tokens["owner"]
    before = len(owners.server.output)
    client = owners.as_(OWNER)
    run = owners.start(OWNER, "echo", start_event={"password": secret})
    client.get(f"/events/{run}?after_sequence=-1")
    waiting = owners.start(OWNER)
    answers = [
        client.post("/workflows/shop/run", json={"start_event": {"number": 1}, "kwargs": {"p": secret}}),
        client.post("/workflows/echo/run", content=b'{"start_event": {"p": "' + secret.encode()),
        client.post(f"/events/{waiting}", json={"event": {"type": "Nonsense", "value": {"p": secret}}}),
        client.post("/workflows/echo/run", json={"context": {"state": secret}}),
        client.get(f"/handlers/{waiting}", headers={"Authorization": f"Token {token}x"}),
        httpx.get(f"{owners.server.url}/handlers", auth=("owner", people.PASSWORD + "x"), verify=False),
    ]
    for answer in answers:
        assert answer.status_code in (400, 401), answer.text
        for hidden in (secret, token, people.PASSWORD, "Traceback", str(servers.ROOT), "sqlite", "SELECT"):
            assert hidden not in answer.text
    client.post(f"/handlers/{waiting}/cancel?purge=true")
    written = owners.server.output[before:]
    for hidden in (secret, token, people.PASSWORD):
        assert hidden not in written


@pytest.mark.django_db
def test_an_unexpected_error_is_answered_without_details(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DJANGO_WORKFLOWS = {"PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"]}

    def fail(*args: Any) -> None:
        raise RuntimeError("the password is secret")

    for debug in (False, True):
        settings.DEBUG = debug
        a_run(f"h-{debug}")
        with monkeypatch.context() as patch:
            patch.setattr(views.serializers, "handler", fail)
            answer = Client(raise_request_exception=False).get(f"/workflows/handlers/h-{debug}")
        assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error"})


# --- the Context API ---------------------------------------------------------------------------------------

STARTS = "/workflows/workflows/echo/run-nowait"


def start_with(context: Any) -> Any:
    return Client().post(STARTS, {"handler_id": "h", "context": context}, content_type="application/json")


@pytest.fixture
def echo(settings: Any) -> Any:
    def serve(**more: Any) -> None:
        settings.DJANGO_WORKFLOWS = {
            "WORKFLOWS": {"echo": "tests.access.workflows.echo"},
            "PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
            **more,
        }

    return serve


@pytest.mark.django_db
def test_the_context_api_is_off(echo: Any) -> None:
    echo()
    answer = start_with({"version": 1, "state": {"state_type": "DictState", "state_data": {"_data": {}}}})
    assert answer.status_code == 400
    assert "Context API is disabled" in answer.json()["detail"]
    assert not Handler.objects.exists()


@pytest.mark.django_db
def test_a_context_rebuilds_nothing_that_is_not_declared(echo: Any) -> None:
    echo(ACCEPT_CONTEXT_API=True, MAX_STATE_SIZE=500)
    foreign = {"__is_pydantic": True, "value": {"name": "x"}, "qualified_name": f"{__name__}.Foreign"}
    state = {"state_type": "DictState", "state_data": {"_data": {"a": json.dumps(foreign)}}}
    assert start_with({"version": 1, "state": state}).status_code == 400
    assert Foreign.made == 0
    large = {"state_type": "DictState", "state_data": {"_data": {"a": json.dumps("x" * 500)}}}
    answer = start_with({"version": 1, "state": large})
    assert (answer.status_code, answer.json()) == (413, {"detail": "The state is larger than 500 bytes"})
    assert not Handler.objects.exists()


class Foreign(Event):
    """What no workflow declares."""

    made: ClassVar[int] = 0
    name: str

    def model_post_init(self, context: Any) -> None:
        Foreign.made += 1


# --- sizes -------------------------------------------------------------------------------------------------


def exchange(server: servers.Server, data: bytes) -> bytes:
    """Send bytes over a connection and return the beginning of what comes back."""
    with socket.create_connection((servers.HOST, server.port), timeout=20) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        try:
            return connection.recv(65536)
        except ConnectionResetError:
            return b""


def test_a_body_without_a_length_is_limited_too(owners: Site) -> None:
    """A chunked one is refused as soon as it is too large, though nobody said how large it would be."""
    token = owners.tokens["owner"]
    head = (
        "POST /workflows/workflows/echo/run HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Token {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    answer = exchange(owners.server, head + chunk * 9 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"detail":"The body is larger than 8388608 bytes"}' in answer


@pytest.mark.parametrize(
    "headers",
    [b"X-Long: " + b"a" * 1_000_000, b"\r\n".join(b"X-Header-%d: a" % number for number in range(20_000))],
    ids=["long", "many"],
)
def test_headers_are_limited(owners: Site, headers: bytes) -> None:
    """By the server, before Django sees them."""
    answer = exchange(
        owners.server, b"GET /workflows/handlers HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n\r\n"
    )
    assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer), answer[:200]
    assert httpx.get(f"{owners.server.url}/health", verify=False).status_code == 200


@pytest.mark.django_db
def test_a_host_that_is_not_the_sites_is_refused(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.DJANGO_WORKFLOWS = {"PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"]}
    assert Client().get("/workflows/handlers", headers={"Host": "evil.example"}).status_code == 400
    assert Client().get("/workflows/handlers").status_code == 200
