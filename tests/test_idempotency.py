"""A key makes a start happen once and an event be delivered once, from Python and over HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from workflows import Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from django_workflows import database, handlers, idempotency, mailbox, service
from django_workflows.exceptions import HandlerFinished, InvalidRequest, KeyReused
from django_workflows.models import Handler, Message
from tests.storage import a_worker, end, race, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)


class Order(StartEvent):
    number: int
    # Another one whenever the event is made.
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    tags: list[str] = Field(default_factory=list)


class Answer(HumanResponseEvent):
    text: str
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)


class OrderWorkflow(Workflow):
    @step
    async def ship(self, ev: Order) -> StopEvent:
        return StopEvent(result=ev.number)

    @step
    async def answer(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)


@pytest.fixture(autouse=True)
def served(settings: Any) -> Iterator[None]:
    path = f"{__name__}.OrderWorkflow"
    settings.DJANGO_WORKFLOWS = {
        "WORKFLOWS": {"order": path, "other": path},
        "AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
        "PERMISSION_CLASSES": [],
    }
    yield
    # A request that waits reads in threads whose connections would keep the test database from being dropped.
    database.read.close()


# --- a start -------------------------------------------------------------------------------------------


def test_a_start_that_is_repeated_gives_the_same_run() -> None:
    first = service.start("order", {"number": 1}, key="k")
    again = service.start("order", {"number": 1}, key="k")

    assert (again, again.run_id) == (first, first.run_id)
    end(first)
    assert service.start("order", {"number": 1}, key="k") == first
    assert Handler.objects.get().status == "completed"


def test_different_keys_callers_and_workflows_start_different_runs() -> None:
    ada, bob = (get_user_model().objects.create_user(name) for name in ("ada", "bob"))
    starts: list[dict[str, Any]] = [
        {"key": "k"},
        {"key": "l"},
        {"key": "k", "owner": ada},
        {"key": "k", "owner": bob},
        {},
        {},
    ]
    runs = [service.start("order", {"number": 1}, **start).run_id for start in starts]
    runs.append(service.start("other", {"number": 1}, key="k").run_id)

    assert len(set(runs)) == 7


@pytest.mark.parametrize(
    "changed",
    [{"start_event": {"number": 2}}, {"start_event": {"number": 1, "tags": ["a"]}}, {"handler_id": "order-2"}],
)
def test_a_key_for_another_start_is_refused(changed: dict[str, Any]) -> None:
    first = service.start("order", {"number": 1}, key="k")

    with pytest.raises(KeyReused):
        service.start("order", **{"start_event": {"number": 1}, "key": "k", **changed})
    assert list(Handler.objects.all()) == [first]


def test_a_repetition_under_an_id_is_not_a_continuation() -> None:
    first = service.start("order", {"number": 1}, handler_id="order-1", key="k")
    assert service.start("order", {"number": 1}, handler_id="order-1", key="k").run_id == first.run_id
    end(first)
    assert service.start("order", {"number": 1}, handler_id="order-1", key="k").run == 1

    # Another key is another start; from then on, the first key is not the present run's any more.
    second = service.start("order", {"number": 1}, handler_id="order-1", key="l")
    assert second.run == 2
    assert service.start("order", {"number": 1}, handler_id="order-1", key="l").run == 2
    end(second)
    assert service.start("order", {"number": 1}, handler_id="order-1").start_key is None


def test_a_purge_frees_the_key() -> None:
    first = service.start("order", {"number": 1}, key="k")
    service.purge(first.handler_id)

    assert service.start("order", {"number": 2}, key="k").pk != first.pk


def test_a_start_that_is_rolled_back_has_not_used_its_key() -> None:
    with rolled_back():
        service.start("order", {"number": 1}, key="k")

    assert service.start("order", {"number": 2}, key="k").status == "running"


def test_of_starts_that_race_one_happens() -> None:
    for number in range(5):
        key = str(number)
        found = race(*[lambda: service.start("order", {"number": 1}, key=key)] * 4)  # noqa: B023
        assert len({handler.run_id for handler in found}) == 1
    assert Handler.objects.count() == 5


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "\ud800", 7, b"k"])
def test_what_cannot_be_a_key(key: Any) -> None:
    with pytest.raises(InvalidRequest, match="key"):
        service.start("order", {"number": 1}, key=key)
    handler = service.start("order", {"number": 1}, key="x" * 255)
    with pytest.raises(InvalidRequest, match="key"):
        service.send_event(handler.handler_id, Answer(text="yes"), key=key)
    assert not Message.objects.exists()


# --- an event ------------------------------------------------------------------------------------------


def test_an_event_that_is_sent_again_is_delivered_once() -> None:
    worker = a_worker()
    handler = service.start("order", {"number": 1})
    Handler.objects.update(worker=worker)
    service.send_event(handler.handler_id, Answer(text="yes"), key="k")
    service.send_event(handler.handler_id, Answer(text="yes"), key="k")
    (message,) = mailbox.fetch(worker.pk, 10)

    mailbox.consume([message.pk])
    service.send_event(handler.handler_id, Answer(text="yes"), key="k")
    assert mailbox.fetch(worker.pk, 10) == []
    with pytest.raises(KeyReused):
        service.send_event(handler.handler_id, Answer(text="no"), key="k")
    with pytest.raises(KeyReused):
        service.send_event(handler.handler_id, Answer(text="yes"), step="answer", key="k")

    service.send_event(handler.handler_id, Answer(text="yes"), key="l")
    service.send_event(handler.handler_id, Answer(text="yes"))
    assert len(mailbox.fetch(worker.pk, 10)) == 2


def test_an_events_key_is_its_runs() -> None:
    one, _ = (service.start("order", {"number": 1}, handler_id=name) for name in ("one", "other"))
    service.send_event("one", Answer(text="yes"), key="k")
    service.send_event("other", Answer(text="no"), key="k")
    assert Message.objects.count() == 2

    end(one)
    with pytest.raises(HandlerFinished):
        service.send_event("one", Answer(text="yes"), key="k")
    service.start("order", {"number": 1}, handler_id="one")
    service.send_event("one", Answer(text="again"), key="k")
    assert Message.objects.filter(handler=one, run=2).count() == 1


# --- over HTTP -----------------------------------------------------------------------------------------


def post(path: str, body: dict[str, Any], key: str | None = None, **extra: Any) -> tuple[int, dict[str, Any]]:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = Client(headers=headers).post(f"/workflows{path}", body, "application/json", **extra)
    return answer.status_code, json.loads(answer.content)


START = {"start_event": {"number": 1}}


def test_a_start_over_http() -> None:
    status, first = post("/workflows/order/run-nowait", START, '"8e03978e"')
    assert status == 200
    # With quotes, as the draft has it, or without, as most send it.
    assert post("/workflows/order/run-nowait", START, "8e03978e") == (200, first)
    assert post("/workflows/order/run-nowait", {**START, "handler_id": first["handler_id"]}, "8e03978e")[0] == 200
    status, refused = post("/workflows/order/run-nowait", {"start_event": {"number": 2}}, "8e03978e")
    assert (status, "another content" in refused["detail"]) == (422, True)
    assert post("/workflows/other/run-nowait", START, "8e03978e")[1]["handler_id"] != first["handler_id"]


def test_run_waits_for_the_run_that_was_started_before() -> None:
    first = service.start("order", {"number": 1}, key="k")
    Handler.objects.update(status="completed", result='{"value":{"result":1}}', completed_at=timezone.now())

    status, found = post("/workflows/order/run", START, "k")
    assert (status, found["handler_id"], found["result"]) == (200, first.handler_id, {"value": {"result": 1}})


def test_one_users_key_tells_another_nothing() -> None:
    users = get_user_model().objects
    for name in ("ada", "bob"):
        users.create_user(name, password="secret")
    found = []
    for credentials in ("YWRhOnNlY3JldA==", "Ym9iOnNlY3JldA==", None):
        extra = {} if credentials is None else {"HTTP_AUTHORIZATION": f"Basic {credentials}"}
        status, handler = post(
            "/workflows/order/run-nowait", {"start_event": {"number": len(found)}}, "k", **extra
        )
        assert status == 200, handler
        found.append(handler["handler_id"])
    assert len(set(found)) == 3


def test_an_event_over_http() -> None:
    handler = service.start("order", {"number": 1})
    event = {"event": {"type": "Answer", "value": {"text": "yes"}}}
    for _ in range(2):
        assert post(f"/events/{handler.handler_id}", event, "k") == (200, {"status": "sent"})
    assert Message.objects.count() == 1
    other = {"event": {"type": "Answer", "value": {"text": "no"}}}
    assert post(f"/events/{handler.handler_id}", other, "k")[0] == 422
    assert post(f"/events/{handler.handler_id}", {**event, "step": "answer"}, "k")[0] == 422
    assert post(f"/events/{handler.handler_id}", other, "l")[0] == 200


@pytest.mark.parametrize("key", ["", " ", '""', '"open', 'op"en"', "ä", "a b", "x" * 256, '"a";p=1', '"a\\b"'])
def test_a_malformed_key_is_refused(key: str) -> None:
    handler = service.start("order", {"number": 1})
    for path, body in (
        ("/workflows/order/run-nowait", START),
        ("/workflows/order/run", START),
        (f"/events/{handler.handler_id}", {"event": {"type": "Answer", "value": {"text": "yes"}}}),
    ):
        status, found = post(path, body, key)
        assert (status, list(found)) == (400, ["detail"])
    assert (Handler.objects.count(), Message.objects.count()) == (1, 0)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        ("abc", "abc"),
        (' "a b" ', "a b"),
        (r'"a\"b\\c"', r"a\c".replace("a", 'a"b')),
        ("a;b,c", "a;b,c"),
    ],
)
def test_headers(header: str | None, key: str | None) -> None:
    assert idempotency.read_header(header) == key


@given(st.text())
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        key = idempotency.read_header(header)
    except InvalidRequest:
        return
    assert key is not None
    assert 1 <= len(key) <= 255
    assert len(idempotency.of_start(key, None, "order")) == len(idempotency.of_event(key)) == 64


def test_digests_are_told_apart() -> None:
    digests = {
        idempotency.of_start("k", None, "order"),
        idempotency.of_start("k", 1, "order"),
        idempotency.of_start("k", 11, "order"),
        idempotency.of_start("order\nk", 1, "order"),
        idempotency.of_event("k"),
    }
    assert len(digests) == 5


def test_handlers_without_a_key_are_many() -> None:
    for _ in range(2):
        handlers.start_many([service.prepare_start(_served(), {"number": 1}) for _ in range(3)])
    assert Handler.objects.filter(start_key=None).count() == 6


def _served() -> Any:
    from django_workflows import registry

    return registry.get("order")
