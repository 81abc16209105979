"""Each limit of the settings: what is over it is refused with a reason, or fails alone."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.test import Client
from rest_framework.request import Request
from rest_framework.views import APIView
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from django_workflows import conf, handlers, limits, mailbox, serialization, service
from django_workflows.exceptions import InvalidRequest, OverLimit, TooLarge, TooMany
from django_workflows.mailbox import Letter
from django_workflows.models import Handler, Message
from tests.access.conftest import Site, serving
from tests.access.people import ANONYMOUS, OTHER, OWNER
from tests.memory import without_collections
from tests.runtime.process import Process
from tests.servers import wait_for
from tests.storage import a_run, a_start, race

EVERYBODY = ["rest_framework.permissions.AllowAny"]


# --- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"{}", b"no JSON"])
def test_a_request_that_was_answered_takes_no_memory(content: bytes, echo: None, transactional_db: None) -> None:
    """At once: it must not wait for a collection of garbage, which is rare."""
    post(content)
    with without_collections(Request, APIView) as left:
        post(content)

        assert left() == 0


# --- bodies ------------------------------------------------------------------------------------------------


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * levels + closing * levels).encode()


def post(content: bytes, path: str = "/workflows/workflows/echo/run-nowait") -> Any:
    return Client().post(path, content, content_type="application/json")


@pytest.fixture
def echo(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {
        "WORKFLOWS": {"echo": "tests.access.workflows.echo"},
        "PERMISSION_CLASSES": EVERYBODY,
        "MAX_JSON_DEPTH": 20,
        "MAX_BODY_SIZE": 3_000_000,
        "MAX_EVENT_SIZE": 1000,
    }


BOMBS = [
    nested(100_000),
    nested(100_000, '{"a":', "}")[:-100_000],
    b'{"start_event": ' + nested(100_000) + b"}",
    b'{"kwargs": {"a": ' + nested(100_000) + b"}}",
    b'{"start_event": "' + nested(100_000) + b'"}',
    b'{"start_event": "' + nested(500) + b'"}',
    b'{"start_event": {"a": ' + nested(30) + b"}}",
    b'{"start_event": ' + json.dumps(json.dumps({"a": json.loads(nested(30))})).encode() + b"}",
    b'{"handler_id": ' + nested(50_000) + b"}",
    b'{"event": ' + nested(100_000) + b"}",
]


@pytest.mark.django_db
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:30].decode())
def test_a_body_that_is_nested_too_deeply_is_refused(echo: None, bomb: bytes) -> None:
    a_run("h", workflow_name="echo")
    for path in ("/workflows/workflows/echo/run-nowait", "/workflows/events/h"):
        answer = post(bomb, path)
        assert answer.status_code == 400, answer.content
        assert set(answer.json()) == {"detail"}
        assert len(answer.content) < 1000


def test_depth_is_counted_in_levels(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {"MAX_JSON_DEPTH": 3}
    assert limits.load_json(b"[[[1]]]") == [[[1]]]
    assert limits.load_json('{"a": {"b": {"c": "[[[["}}}') == {"a": {"b": {"c": "[[[["}}}
    assert limits.load_json(json.dumps([[]] * 10)) == [[]] * 10
    for text in (b"[[[[1]]]]", '{"a": [1, {"b": [[]]}]}', "[[[[1]]]]".encode("utf-16")):
        with pytest.raises(InvalidRequest, match="deeper than 3 levels"):
            limits.load_json(text)


@pytest.mark.django_db(transaction=True)
def test_an_event_that_is_too_large_is_refused(echo: None) -> None:
    a_run("h", workflow_name="echo")
    start = post(json.dumps({"start_event": {"text": "x" * 1000}}).encode())
    event = post(
        json.dumps({"event": {"type": "StopEvent", "value": {"result": "é" * 500}}}).encode(),
        "/workflows/events/h",
    )
    for answer, name in ((start, "StartEvent"), (event, "StopEvent")):
        assert answer.status_code == 413
        assert answer.json() == {"detail": f"The event {name} is larger than 1000 bytes"}
    assert Handler.objects.count() == 1
    assert not Message.objects.exists()


def test_sizes_are_counted_in_bytes(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {"MAX_EVENT_SIZE": 10, "MAX_STATE_SIZE": 10}
    for check, error in (
        (lambda text: limits.check_posted_event(text, "E"), TooLarge),
        (lambda text: limits.check_written_event(text, "E"), OverLimit),
        (limits.check_written_state, OverLimit),
    ):
        for fits in ("x" * 10, "é" * 5, "\U0001f600" * 2, "\ud800" * 3):
            check(fits)
        for large in ("x" * 11, "é" * 6, "\U0001f600" * 3, "\ud800" * 4):
            with pytest.raises(error):
                check(large)
    settings.DJANGO_WORKFLOWS = {"MAX_EVENT_SIZE": None, "MAX_STATE_SIZE": None, "MAX_EVENTS_PER_RUN": None}
    limits.check_posted_event("x" * 100, "E")
    limits.check_written_event("x" * 100, "E")
    limits.check_written_state("x" * 100)
    limits.check_event_count(10**9)


def test_whatever_fits_a_body_fits_an_event() -> None:
    """The engine escapes what is not ASCII: two bytes become six."""
    defaults = conf.Settings()
    assert defaults.MAX_EVENT_SIZE is not None
    assert defaults.MAX_EVENT_SIZE > 3 * defaults.MAX_BODY_SIZE


# --- runs --------------------------------------------------------------------------------------------------


class Word(Event):
    text: str


class Ordered(StartEvent):
    what: str


class Excessive(Workflow):
    """Writes more than it may, in every way there is."""

    @step
    async def begin(self, ctx: Context, ev: Ordered) -> Word | StopEvent:
        large = "x" * 2000
        if ev.what == "stream":
            ctx.write_event_to_stream(Word(text=large))
        elif ev.what == "result":
            return StopEvent(result=large)
        elif ev.what == "internal":
            return Word(text=large)
        elif ev.what == "sent":
            ctx.send_event(Word(text=large))
        elif ev.what == "state":
            await ctx.store.set("text", large)
        elif ev.what == "error":
            raise RuntimeError(large)
        elif ev.what == "many":
            for _ in range(60):
                ctx.write_event_to_stream(Word(text="x"))
        elif ev.what == "for ever":
            while True:
                ctx.write_event_to_stream(Word(text="x"))
                await asyncio.sleep(0.001)
        elif ev.what == "small":
            for _ in range(20):
                ctx.send_event(Word(text="x" * 300))
        elif ev.what == "caught":
            try:
                await ctx.store.set("text", large)
            except OverLimit:
                await ctx.store.set("text", "less")
        return StopEvent(result="done")

    @step
    async def take(self, ev: Word) -> None:
        return None


LIMITED = {"MAX_EVENT_SIZE": 1000, "MAX_STATE_SIZE": 1000, "MAX_EVENTS_PER_RUN": 50}


@pytest.fixture
async def process(transactional_db: None, settings: Any) -> Any:
    process = Process(settings)
    try:
        yield process
    finally:
        await process.close()


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("stream", "the event Word is larger than 1000 bytes (MAX_EVENT_SIZE)"),
        ("result", "the event StopEvent is larger than 1000 bytes (MAX_EVENT_SIZE)"),
        ("internal", "the event Word is larger than 1000 bytes (MAX_EVENT_SIZE)"),
        ("sent", "the event Word is larger than 1000 bytes (MAX_EVENT_SIZE)"),
        ("state", "the run's state is larger than 1000 bytes (MAX_STATE_SIZE)"),
        ("many", "the run has written 50 events, and may not write more (MAX_EVENTS_PER_RUN)"),
        ("for ever", "the run has written 50 events, and may not write more (MAX_EVENTS_PER_RUN)"),
        ("error", "MAX_EVENT_SIZE"),
    ],
)
async def test_a_run_that_exceeds_a_limit_fails_and_hurts_no_other(
    process: Process, what: str, error: str
) -> None:
    await process.serve(Excessive, **LIMITED)
    other = await process.start(Excessive, what="nothing")
    failed = await process.run(Excessive, what=what)
    assert failed.status == Handler.Status.FAILED
    assert failed.error is not None
    assert error in failed.error
    events = await process.log(failed)
    assert events[-1].type == "WorkflowFailedEvent"
    assert len(events) <= 51
    assert (await process.finish(other)).status == Handler.Status.COMPLETED
    assert (await process.run(Excessive, what="nothing")).status == Handler.Status.COMPLETED
    await process.check()


@pytest.mark.parametrize("what", ["small", "caught"])
async def test_a_run_within_the_limits_goes_on(process: Process, what: str) -> None:
    """Many small events in one tick; a state that is refused, and another in its place."""
    await process.serve(Excessive, **{**LIMITED, "MAX_EVENTS_PER_RUN": None})
    assert (await process.run(Excessive, what=what)).status == Handler.Status.COMPLETED


# --- at a time ---------------------------------------------------------------------------------------------


@pytest.fixture
def limited(transactional_db: None, settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {
        "WORKFLOWS": {"echo": "tests.access.workflows.echo", "ask": "tests.access.workflows.ask"},
        "PERMISSION_CLASSES": EVERYBODY,
        "MAX_RUNS_PER_USER": 2,
        "MAX_MAIL_PER_RUN": 3,
    }


def start(handler_id: str | None = None, workflow: str = "ask", way: str = "run-nowait") -> Any:
    body = {} if handler_id is None else {"handler_id": handler_id}
    return post(json.dumps(body).encode(), f"/workflows/workflows/{workflow}/{way}")


def test_a_user_has_so_many_runs_of_a_workflow_under_way(limited: None) -> None:
    first = start().json()["handler_id"]
    assert start("mine").status_code == 200
    for handler_id in (None, "another"):
        for way in ("run", "run-nowait"):
            answer = start(handler_id, way=way)
            assert answer.status_code == 429
            assert answer.json() == {
                "detail": "You have 2 runs of 'ask' under way, and may not have more at a time"
            }
    assert Handler.objects.count() == 2
    assert start(workflow="echo").status_code == 200
    Handler.objects.filter(handler_id=first).update(status=Handler.Status.COMPLETED)
    assert start().status_code == 200


def test_the_count_holds_when_many_start_at_once(transactional_db: None) -> None:
    """In transactions one after another, as one process's writer has them."""
    lock = threading.Lock()

    def begin(number: int) -> Any:
        # Some have an id of their own, and take another way to the database.
        chosen = a_start(f"h{number}" if number % 2 else None, most=3)
        with lock:
            return handlers.start(chosen) if number % 2 else handlers.start_many([chosen])[0]

    results = race(*[lambda number=number: begin(number) for number in range(8)])
    assert sum(isinstance(result, Handler) for result in results) == 3
    assert sum(isinstance(result, TooMany) for result in results) == 5
    with pytest.raises(TooMany):
        handlers.start_many([a_start(workflow_name="other", most=3) for _ in range(4)])
    assert len(handlers.start_many([a_start(workflow_name="other", most=3) for _ in range(3)])) == 3


def test_so_many_events_wait_for_a_run(limited: None) -> None:
    start("h")
    event = json.dumps({"event": {"type": "HumanResponseEvent", "value": {}}}).encode()
    for _ in range(3):
        assert post(event, "/workflows/events/h").status_code == 200
    answer = post(event, "/workflows/events/h")
    assert answer.status_code == 429
    assert answer.json() == {"detail": "3 events wait for this run already; send more when it has taken some"}
    with pytest.raises(TooMany):
        service.send_event("h", HumanResponseEvent(response="Ada"))
    assert Message.objects.count() == 3
    # A cancellation always gets through.
    service.cancel("h")
    assert Message.objects.count() == 4


def test_what_a_run_has_taken_no_longer_waits(limited: None) -> None:
    run = a_run()
    letters = [Letter(run.pk, 1, Message.Kind.EVENT, serialization.storable("{}")) for _ in range(4)]
    for letter in letters[:3]:
        mailbox.post(letter)
    mailbox.consume([Message.objects.order_by("pk")[0].pk])
    mailbox.post(letters[3])


@pytest.fixture(scope="module")
def narrow() -> Any:
    with serving(PERMISSION_CLASSES=EVERYBODY, MAX_STREAMS_PER_USER=2, SSE_HEARTBEAT_INTERVAL=0.2) as site:
        yield site


def test_a_reader_reads_so_many_streams(narrow: Site) -> None:
    """SSE and NDJSON count together; each user for itself, and those without one by address."""
    run = narrow.start(OWNER)
    for person in (OWNER, OTHER, ANONYMOUS):
        client = narrow.as_(person)
        with ExitStack() as streams:
            for query in ("after_sequence=-1", "after_sequence=-1&sse=false"):
                stream = streams.enter_context(client.stream("GET", f"/events/{run}?{query}"))
                assert stream.status_code == 200
            for query in ("sse=true", "sse=false"):
                answer = client.get(f"/events/{run}?{query}")
                assert answer.status_code == 429
                assert answer.headers["content-type"] == "application/json"
                assert answer.json() == {"detail": "You read 2 streams already, and may not read more at a time"}
            assert client.get(f"/handlers/{run}").status_code == 202

        def is_let_in(client: httpx.Client = client) -> bool:
            with client.stream("GET", f"/events/{run}") as stream:
                return stream.status_code == 200

        wait_for(is_let_in, what="a place among the streams that was given up")
