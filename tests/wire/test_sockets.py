"""The WebSocket's messages and close codes, and who may say what over it, at a real server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests import servers
from tests.wire.transcript import PATIENCE

Message = dict[str, Any]

ANSWER = {"type": "HumanResponseEvent", "value": {"response": "Ada"}}

# Makes users with a token and a session each, and says which.
_USERS = """
import json
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
users = {}
for name in ("owner", "other", "staff", "hasty"):
    user = User.objects.create_user(name, password=name, is_staff=name == "staff")
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    users[name] = Token.objects.create(user=user).key, session.session_key
print(json.dumps(users))
"""


@dataclass
class Guarded:
    """A site with users, and one of its servers."""

    server: servers.Server
    environment: dict[str, str]
    users: dict[str, tuple[str, str]]

    def shell(self, code: str) -> str:
        return servers.manage("shell", "-v0", "-c", code, environment=self.environment, site="tests.wire.guarded")

    def token(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Token {self.users[name][0]}"}

    def session(self, name: str) -> dict[str, str]:
        return {"Cookie": f"sessionid={self.users[name][1]}"}

    def start(self, workflow: str = "ask", name: str = "owner") -> str:
        """Start a run of a user's."""
        answer = httpx.post(
            f"{self.server.url}/workflows/{workflow}/run-nowait", json={}, headers=self.token(name), verify=False
        )
        handler_id: str = answer.raise_for_status().json()["handler_id"]
        return handler_id

    def wait_for_progress(self, handler_id: str, count: int) -> None:
        """Wait until a run has written so many events of the type Progress."""
        with self.socket(handler_id, self.token("staff")) as socket:
            seen = 0
            while seen < count:
                seen += receive(socket).get("event", {}).get("type") == "Progress"

    @contextmanager
    def socket(
        self, handler_id: str, headers: dict[str, str], *protocols: str, **query: Any
    ) -> Iterator[ClientConnection]:
        url = f"{self.server.url.replace('http', 'ws', 1)}/ws/events/{handler_id}?" + urlencode(
            {"after_sequence": -1, **query}
        )
        offered = [Subprotocol(one) for one in protocols]
        with connect(
            url, additional_headers=headers, subprotocols=offered or None, close_timeout=1, max_size=None
        ) as socket:
            yield socket


def rest(socket: ClientConnection) -> tuple[list[Message], int, str]:
    """Read to the end; returns the messages, the close code and its reason."""
    messages = []
    while True:
        try:
            messages.append(json.loads(socket.recv(timeout=PATIENCE)))
        except ConnectionClosed as closed:
            # None: there was no close frame.
            return messages, *((closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, ""))


def receive(socket: ClientConnection) -> Message:
    """Return the next message but heartbeats, which come where a machine is slow."""
    message: Message = json.loads(socket.recv(timeout=PATIENCE))
    return receive(socket) if message["type"] == "heartbeat" else message


def answer(socket: ClientConnection, message: str | bytes | Message) -> Message:
    """Send a message and return its answer."""
    socket.send(json.dumps(message) if isinstance(message, dict) else message)
    while (received := receive(socket))["type"] == "event":
        pass
    return received


def status(found: Message) -> int | str:
    """Return an answer's status, 200 for an acknowledgement."""
    assert found["type"] in ("ack", "error"), found
    return 200 if found["type"] == "ack" else found["status"]


@pytest.fixture(scope="module", params=["daphne", "uvicorn", "granian"])
def site(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with servers.Database() as database:
        made = servers.runworkflows(database, site="tests.wire.guarded", server=request.param)
        guarded = Guarded(made, database.environment, {})
        guarded.users = json.loads(guarded.shell(_USERS))
        with servers.terminating(made):
            yield guarded


# --- events and commands -----------------------------------------------------------------------------------


def test_a_conversation(site: Guarded) -> None:
    handler_id = site.start()
    with site.socket(handler_id, site.token("owner")) as socket:
        question = receive(socket)
        assert question["type"] == "event"
        assert question["event"]["type"] == "Question"
        assert question["event"]["qualified_name"]
        command = {"type": "send_event", "id": "c1", "event": ANSWER, "step": "answer"}
        assert answer(socket, command) == {"type": "ack", "id": "c1"}
        messages, code, _ = rest(socket)
    assert code == 1000
    assert [message["type"] for message in messages] == ["event", "end"]
    assert messages[0]["sequence"] > question["sequence"]
    assert messages[0]["event"]["value"] == {"result": "Hello, Ada!"}
    found = httpx.get(f"{site.server.url}/handlers/{handler_id}", headers=site.token("owner"), verify=False)
    assert messages[1]["handler"] == found.json()
    # Whoever comes later sees the same, from any position.
    for after, expected in ((-1, [question, *messages]), (question["sequence"], messages), ("now", messages[1:])):
        with site.socket(handler_id, site.token("owner"), after_sequence=after) as socket:
            assert rest(socket)[:2] == (expected, 1000)


def test_what_a_reader_may_choose(site: Guarded) -> None:
    handler_id = site.start("steps")
    headers = site.token("owner")
    with site.socket(handler_id, headers, include_internal="true") as socket:
        every, _, _ = rest(socket)
    assert [message["sequence"] for message in every[:-1]] == list(range(len(every) - 1))
    with site.socket(handler_id, headers, include_qualified_name="false") as socket:
        some, _, _ = rest(socket)
    assert 0 < len(some) < len(every)
    assert {message["event"]["qualified_name"] for message in some[:-1]} == {None}
    sse = httpx.get(
        f"{site.server.url}/events/{handler_id}?after_sequence=-1&include_qualified_name=false",
        headers=headers,
        verify=False,
    )
    data = [line.removeprefix("data: ") for line in sse.text.splitlines() if line.startswith("data: ")]
    assert [message["event"] for message in some[:-1]] == [json.loads(one) for one in data]


def test_an_event_that_is_sent_again(site: Guarded) -> None:
    handler_id, headers = site.start("chat"), site.token("owner")

    def tick(text: str, key: Any) -> Message:
        return {"type": "send_event", "event": {"type": "Tick", "value": {"text": text}}, "key": key}

    with site.socket(handler_id, headers) as socket:
        assert [status(answer(socket, tick("once", 'a "key" \\'))) for _ in range(2)] == [200, 200]
        assert status(answer(socket, tick("other", 'a "key" \\'))) == 422
        for key in (1, "", "x\n", "ä", "\ud800"):
            assert status(answer(socket, tick("never", key))) == 400, key
        # The same over REST.
        found = httpx.post(
            f"{site.server.url}/events/{handler_id}",
            headers={**headers, "Idempotency-Key": r'"a \"key\" \\"'},
            json={"event": {"type": "Tick", "value": {"text": "once"}}},
            verify=False,
        )
        assert found.status_code == 200, found.text
        assert status(answer(socket, tick("twice", None))) == 200
        assert status(answer(socket, tick("twice", None))) == 200
        site.wait_for_progress(handler_id, 4)
        socket.send(json.dumps({"type": "send_event", "event": {"type": "Enough", "value": {}}}))
        rest(socket)
    with site.socket(handler_id, headers) as socket:
        messages, _, _ = rest(socket)
    said = [m["event"]["value"]["message"] for m in messages if m.get("event", {}).get("type") == "Progress"]
    assert said == ["listening", "once", "twice", "twice"]


def test_cancelling(site: Guarded) -> None:
    with site.socket(site.start(), site.token("owner")) as socket:
        assert answer(socket, {"type": "cancel", "id": "c"}) == {"type": "ack", "id": "c"}
        messages, code, _ = rest(socket)
    assert (messages[-1]["handler"]["status"], code) == ("cancelled", 1000)


MALFORMED = {
    "not JSON": ("nonsense", 400),
    "no object": ("[]", 400),
    "binary": (b"{}", 400),
    "nested too deeply": ("[" * 50_000, 400),
    "an event nested too deeply": ('{"type":"send_event","event":' + "[" * 800 + "]" * 800 + "}", 400),
    "too large": ('"' + "x" * 150_000 + '"', 413),
    "no type": ('{"id": "1"}', 400),
    "an unknown type": ('{"type": "start"}', 400),
    "a type that is no text": ('{"type": ["cancel"]}', 400),
    "an id that is no text": ('{"type": "cancel", "id": 1}', 400),
    "a long id": ('{"type": "cancel", "id": "' + "x" * 201 + '"}', 400),
    "no event": ('{"type": "send_event"}', 400),
    "an unknown event": ('{"type": "send_event", "event": {"type": "No", "value": {}}}', 400),
    "an unknown step": (json.dumps({"type": "send_event", "event": ANSWER, "step": "no"}), 400),
    "a huge number": ('{"type": "cancel", "id": "x", "n": ' + "9" * 5000 + "}", 400),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_message_changes_nothing(name: str, site: Guarded) -> None:
    text, expected = MALFORMED[name]
    with site.socket(site.start(), site.token("owner"), after_sequence="now") as socket:
        found = answer(socket, text)
        assert (found["type"], found["status"]) == ("error", expected)
        assert found["detail"]
        assert status(answer(socket, {"type": "send_event", "event": ANSWER})) == 200
        assert rest(socket)[1] == 1000


@pytest.fixture(scope="module")
def conversation(site: Guarded) -> Iterator[ClientConnection]:
    with site.socket(site.start(), site.token("owner"), after_sequence="now", include_internal="true") as socket:
        yield socket
        # Nothing of it all has reached the run.
        assert status(answer(socket, {"type": "cancel"})) == 200


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda some: st.lists(some, max_size=3)
)
_fields = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["send_event", "event", ""]) | _values,
        "id": st.text() | _values,
        "event": _values | st.dictionaries(st.sampled_from(["type", "value", "data", "types"]), _values),
        "step": _values,
    },
).filter(lambda fields: fields.get("type") != "cancel")


@settings(max_examples=200, deadline=None)
@given(message=st.binary(max_size=300) | st.text(max_size=300) | _fields.map(json.dumps))
def test_any_message_is_answered(conversation: ClientConnection, message: str | bytes) -> None:
    if isinstance(message, str):
        # A text of half surrogate pairs cannot be sent by any client.
        message = message.encode(errors="replace").decode()
    found = answer(conversation, message)
    assert found["type"] == "error"
    assert 400 <= found["status"] < 500


# --- who may -------------------------------------------------------------------------------------------------


def test_who_may_open_it(site: Guarded) -> None:
    handler_id = site.start()
    basic = base64.b64encode(b"owner:owner").decode()
    for headers in (
        site.token("owner"),
        site.session("owner"),
        {"Authorization": f"Basic {basic}"},
        site.token("staff"),
    ):
        with site.socket(handler_id, headers) as socket:
            assert receive(socket)["type"] == "event"
    for headers, query, code in (
        ({}, {}, 4401),
        ({"Authorization": "Token no"}, {}, 4401),
        ({"Cookie": "sessionid=no"}, {}, 4401),
        (site.token("other"), {}, 4404),
        (site.session("other"), {}, 4404),
        (site.token("owner"), {"after_sequence": "soon"}, 4400),
        (site.token("owner"), {"after_sequence": 1000}, 4400),
    ):
        with site.socket(handler_id, headers, **query) as socket:
            messages, found, reason = rest(socket)
        assert found == code, headers
        assert [(message["type"], message["id"], message["status"]) for message in messages] == [
            ("error", None, code - 4000)
        ]
        assert reason == messages[0]["detail"]
    with site.socket("nobody", site.token("owner")) as socket:
        assert rest(socket)[1] == 4404
    handler_id = site.start(name="hasty")
    with site.socket(handler_id, site.token("hasty")) as socket:
        assert receive(socket)["type"] == "event"
    with site.socket(handler_id, site.token("hasty")) as socket:
        assert rest(socket)[1] == 4429


def test_a_token_as_subprotocol(site: Guarded) -> None:
    handler_id = site.start()

    def carrier(value: str) -> str:
        return "authorization." + base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")

    token = carrier(site.token("owner")["Authorization"])
    with site.socket(handler_id, {}, "django-workflows", token) as socket:
        # The token is not said back.
        assert socket.subprotocol == "django-workflows"
        assert status(answer(socket, {"type": "send_event", "event": ANSWER})) == 200
    # It counts, whatever the browser adds by itself.
    with site.socket(handler_id, site.token("other"), token, "django-workflows") as socket:
        assert socket.subprotocol == "django-workflows"
        assert rest(socket)[1] == 1000
    with site.socket(handler_id, site.token("owner"), "other") as socket:
        assert socket.subprotocol is None
    for protocols, code in (
        (["django-workflows"], 4401),
        (["django-workflows", carrier("Token no")], 4401),
        (["django-workflows", "authorization.!"], 4400),
        (["django-workflows", "authorization."], 4400),
        (["django-workflows", carrier("Token x\r\nX: y")], 4400),
        (["django-workflows", token, carrier("Token no")], 4400),
    ):
        with site.socket(handler_id, {}, *protocols) as socket:
            assert socket.subprotocol == "django-workflows"
            assert rest(socket)[1] == code, protocols
    assert site.users["owner"][0] not in site.server.output


def test_where_a_page_may_come_from(site: Guarded) -> None:
    handler_id = site.start()
    for origin in (site.server.origin, "https://app.example.org"):
        with site.socket(handler_id, {**site.session("owner"), "Origin": origin}) as socket:
            assert receive(socket)["type"] == "event"
            # No CSRF token is needed: the page was asked for instead.
            assert status(answer(socket, {"type": "send_event", "event": {"type": "No"}})) == 400
    for origin in ("http://app.example.org", "https://example.com", "http://127.0.0.1:1", "null"):
        with (
            pytest.raises(InvalidStatus) as refused,
            site.socket(handler_id, {**site.session("owner"), "Origin": origin}),
        ):
            pass
        assert refused.value.response.status_code == 403, origin


def test_who_may_no_longer_is_refused(site: Guarded) -> None:
    site.shell(
        "from django.contrib.auth.models import User; User.objects.filter(username='owner').update(is_active=1)"
    )
    command = {"type": "send_event", "event": {"type": "No"}}
    change = "from django.contrib.auth.models import User; u = User.objects.get(username='other'); "
    with site.socket(site.start(name="other"), site.token("other")) as socket:
        # Asked anew for each command: 400 is for who may.
        assert status(answer(socket, command)) == 400
        site.shell(change + "u.username = 'reader'; u.save()")
        assert status(answer(socket, command)) == 403
        assert status(answer(socket, {"type": "cancel"})) == 403
        site.shell(change.replace("'other'", "'reader'") + "u.is_active = False; u.save()")
        assert status(answer(socket, {"type": "cancel"})) == 401
        site.shell(change.replace("'other'", "'reader'") + "u.username = 'other'; u.is_active = True; u.save()")
        assert status(answer(socket, command)) == 400

    with site.socket(site.start(), site.session("owner")) as socket:
        assert status(answer(socket, command)) == 400
        site.shell("from django.contrib.sessions.models import Session; Session.objects.all().delete()")
        assert status(answer(socket, {"type": "cancel"})) == 401
        assert status(answer(socket, command)) == 401


def test_an_ordinary_request(site: Guarded) -> None:
    url = f"{site.server.url}/ws/events/x"
    found = httpx.get(url, headers=site.token("owner"), verify=False)
    assert (found.status_code, found.headers["upgrade"]) == (426, "websocket")
    assert set(found.json()) == {"detail"}
    assert httpx.get(url, verify=False).status_code == 401


def test_sockets_that_nobody_serves(site: Guarded) -> None:
    base = site.server.origin.replace("http", "ws", 1)
    for path in ("/", "/workflows/events/x", "/workflows/ws/events", "/workflows/ws/events/x/y", "/ws/events/x"):
        with pytest.raises(InvalidStatus) as refused, connect(base + path):
            pass
        assert refused.value.response.status_code == 403, path
