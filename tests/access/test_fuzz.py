"""Every parser of what comes from outside, fed with what nobody has thought of: it answers 2xx or 4xx, never 500.

(The parsers of WebSocket messages are fed in the tests of the WebSocket.)
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any
from urllib.parse import quote

import pytest
from django.http import QueryDict
from django.test import Client
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from django_workflows import handlers, limits, registry, serialization, service
from django_workflows.api import lists, views
from django_workflows.exceptions import InvalidRequest, NotFound, TooLarge
from django_workflows.handlers import check_id
from django_workflows.models import Handler
from tests.storage import a_run, end

pytestmark = pytest.mark.django_db

# Whatever the site is (a fixture), it is the same for every example.
fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)

# Text that parsers stumble over, more often than chance would have it.
AWKWARD = st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "\ud800",
        "\u2028",
        "\x85",
        "٣",
        "²",
        "-0",
        "+1",
        "1_000",
        "1e9",
        "nan",
        "inf",
        "null",
        "now",
        "9" * 19,
        "9" * 5000,
        "-" + "9" * 40,
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "|",
        "..",
        "%",
    ]
)
TEXT = AWKWARD | st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def open_site(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {
        "WORKFLOWS": {name: f"tests.access.workflows.{name}" for name in ("echo", "ask", "shop")},
        "PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
        "ACCEPT_CONTEXT_API": True,
    }


@pytest.fixture
def runs() -> None:
    a_run("waiting", workflow_name="ask")
    end(a_run("ended", workflow_name="ask"))


def check(answer: Any) -> None:
    """Neither an error of the server, nor one of another shape than all."""
    assert answer.status_code < 500, answer.content
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/json"
        assert set(answer.json()) == {"detail"}
    else:
        # What is written can be read.
        json.loads(answer.content or "null")


# --- bodies ------------------------------------------------------------------------------------------------


@fuzz
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"\xff\xfe{\x00}\x00")
@example(b"\xef\xbb\xbf{}")
@example(b'{"a": 1' + b"0" * 5000 + b"}")
@example(b'"\\ud800"')
def test_bodies(data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        limits.load_json(data)


_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON for name in ("start_event", "handler_id", "context", "kwargs", "event", "step", "type", "value")
    },
)


@fuzz
@given(_FIELDS, st.sampled_from(["echo", "ask", "shop"]))
def test_starts(body: dict[str, Any], name: str) -> None:
    """A start is refused, or makes a row that every database takes and that can be read again."""
    served = registry.get(name)
    try:
        start = service.prepare_start(
            served,
            body.get("start_event", body.get("kwargs")),
            handler_id=body.get("handler_id"),
            context=body.get("context"),
        )
    except (InvalidRequest, TooLarge):
        return
    using = serialization.serializer(served)
    assert isinstance(serialization.load_event(start.start_event, using), served.start_event_class)
    Handler.objects.filter(handler_id=start.handler_id).delete()
    stored = handlers.start(start)
    stored.refresh_from_db()
    assert stored.handler_id == start.handler_id
    assert check_id(stored.handler_id) == stored.handler_id


@fuzz
@given(JSON | _FIELDS, JSON)
def test_events(event: Any, step: Any) -> None:
    run = Handler.objects.filter(handler_id="fuzz").first() or a_run("fuzz", workflow_name="ask")
    try:
        letter = service.prepare_event(run, event, step=step)
    except InvalidRequest:
        return
    serialization.load_event(letter.data, serialization.serializer(registry.get("ask")))


@fuzz
@given(
    st.sampled_from(["/workflows/echo/run", "/workflows/shop/run-nowait", "/events/waiting", "/events/ended"]),
    # What would be accepted waits for a run that nobody executes here.
    st.binary(max_size=100) | JSON.filter(lambda value: not isinstance(value, dict)).map(json.dumps),
    TEXT,
)
def test_requests_with_a_body_that_is_no_object(runs: None, path: str, body: Any, content_type: str) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    with contextlib.suppress(ValueError):
        assume(not isinstance(json.loads(data), dict))
    assume(content_type.isprintable() and content_type.isascii())
    answer = Client().post(f"/workflows{path}", data, content_type=content_type)
    check(answer)
    assert answer.status_code == 400


# --- query strings -----------------------------------------------------------------------------------------

_PARAMETERS = [
    *("status", "workflow_name", "limit", "cursor", "order", "started_since", "started_until", "owner", "idle"),
    *(
        "handler_id",
        "after_sequence",
        "sse",
        "include_internal",
        "include_qualified_name",
        "acquire_timeout",
        "purge",
    ),
]


def _escape(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in pairs)


QUERY = (
    st.lists(st.tuples(st.sampled_from(_PARAMETERS), TEXT), max_size=5).map(_escape)
    | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=40)
    | st.lists(st.tuples(st.sampled_from(_PARAMETERS), st.binary(max_size=8)), max_size=3).map(
        lambda pairs: "&".join(f"{name}={quote(value)}" for name, value in pairs)
    )
)


@fuzz
@given(
    st.sampled_from(["/handlers", "/handlers/waiting", "/events/ended", "/events/waiting", "/results/ended"]),
    QUERY,
)
def test_query_strings(runs: None, path: str, query: str) -> None:
    client = Client(raise_request_exception=False)
    answer = client.get(f"/workflows{path}", QUERY_STRING=query)
    if answer.status_code == 503 and path.startswith("/events"):
        # It has been let in; streams need a server.
        return
    if path == "/results/ended":
        assert answer.status_code == 200
    check(answer)


# --- headers -----------------------------------------------------------------------------------------------


@fuzz
@given(TEXT.map(lambda text: text.encode("utf-8", "surrogatepass").decode("latin1")), QUERY)
@example("9" * 5000, "")
@example("-1", "after_sequence=-1")
def test_headers(runs: None, value: str, query: str) -> None:
    """``Last-Event-ID`` and ``Idempotency-Key``, and those by which people say who they are."""
    for name in (
        "Last-Event-ID",
        "Idempotency-Key",
        "Authorization",
        "Content-Length",
        "X-Forwarded-For",
        "Cookie",
    ):
        if name == "Content-Length" and not value.isdigit():
            continue
        answer = Client(raise_request_exception=False).get(
            "/workflows/events/ended", headers={name: value}, QUERY_STRING=query
        )
        if answer.status_code != 503:
            check(answer)


@fuzz
@given(TEXT)
def test_positions(value: str) -> None:
    found = views._sequence(value)
    assert found is None or math.isfinite(found)
    assert found is None or -(10**20) < found < 10**20


# --- cursors and ids ---------------------------------------------------------------------------------------


@fuzz
@given(
    TEXT
    | st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).decode())
    | st.tuples(st.sampled_from(["-started_at", "updated_at", ""]), TEXT, TEXT).map(
        lambda parts: base64.urlsafe_b64encode("|".join(parts).encode("utf-8", "surrogatepass")).decode()
    )
    | st.tuples(st.datetimes(timezones=st.timezones()), st.integers()).map(
        lambda parts: base64.urlsafe_b64encode(f"-started_at|{parts[0].isoformat()}|{parts[1]}".encode()).decode()
    )
)
def test_cursors(cursor: str) -> None:
    query = QueryDict(mutable=True)
    query["cursor"] = cursor
    if not cursor:
        return
    try:
        page, next_cursor = lists.page(~lists.Q(pk__in=()), query, None)
    except InvalidRequest:
        return
    assert (page, next_cursor) == ([], None)


@fuzz
@given(st.text(max_size=210) | JSON)
@example("é" * 200)
@example("\ud800")
@example("a\x00")
@example("\u202e")
@example("\U0001f600" * 200)
def test_ids(value: Any) -> None:
    """What is an id can be stored, found, and asked for under its URL; nothing else is found."""
    try:
        name = check_id(value)
    except InvalidRequest:
        if isinstance(value, str):
            with pytest.raises(NotFound):
                handlers.find(value)
        return
    Handler.objects.filter(handler_id=name).delete()
    a_run(name)
    assert handlers.find(name).handler_id == name
    answer = Client().get(f"/workflows/handlers/{quote(name)}")
    assert answer.status_code == 202
    assert answer.json()["handler_id"] == name


@fuzz
@given(st.binary(min_size=1, max_size=40))
def test_paths(raw: bytes) -> None:
    for prefix in ("handlers/", "events/", "results/", "workflows/", ""):
        answer = Client(raise_request_exception=False).get(f"/workflows/{prefix}{quote(raw)}")
        if not answer.streaming and answer.status_code not in (301,):
            check(answer)
