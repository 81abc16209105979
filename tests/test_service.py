"""The verbs as ordinary Django code calls them: nothing runs here, the rows say what will."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from workflows import Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from django_workflows import handlers, serialization, service
from django_workflows.exceptions import (
    HandlerFinished,
    HandlerNotFound,
    HandlerOfOther,
    HandlerRunning,
    InvalidEvent,
    InvalidRequest,
    WorkflowNotFound,
)
from django_workflows.models import Handler, Message
from tests.storage import end, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)


class Order(StartEvent):
    value: int
    type: str = "book"


class OrderWorkflow(Workflow):
    @step
    async def ship(self, ev: Order) -> StopEvent:
        return StopEvent(result=ev.value)

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


class OtherWorkflow(OrderWorkflow):
    pass


@pytest.fixture(autouse=True)
def served(settings: Any) -> None:
    paths = {"order": f"{__name__}.OrderWorkflow", "other": f"{__name__}.OtherWorkflow"}
    settings.DJANGO_WORKFLOWS = {"WORKFLOWS": paths}


def start_event(handler: Handler) -> Any:
    from django_workflows import registry

    return serialization.load_event(handler.start_event, serialization.serializer(registry.get("order")))


def test_a_start_happens_with_its_transaction() -> None:
    with transaction.atomic():
        kept = service.start("order", {"value": 1})
    with rolled_back():
        service.start("order", {"value": 2})

    assert list(Handler.objects.all()) == [kept]
    assert list(Handler.objects.runnable()) == [kept]


def test_an_event_happens_with_its_transaction() -> None:
    handler = service.start("order", {"value": 1})
    answer = HumanResponseEvent(response="yes")  # type: ignore[call-arg]
    with rolled_back():
        service.send_event(handler.handler_id, answer)
    assert not Message.objects.exists()

    with transaction.atomic():
        service.send_event(handler.handler_id, answer, step="answer")

    message = Message.objects.get()
    assert (message.handler, message.kind, message.step) == (handler, "event", "answer")


def test_what_is_started_is_stored() -> None:
    user = get_user_model().objects.create_user("ada")
    handler = service.start("order", Order(value=7, type="lamp"), handler_id="order-7", owner=user)

    assert handlers.find("order-7") == handler
    assert (handler.workflow_name, handler.owner, handler.status) == ("order", user, "running")
    assert start_event(handler) == Order(value=7, type="lamp")


def test_a_dictionary_is_the_start_events_fields() -> None:
    # Over HTTP, "type" and "value" would make it an envelope.
    handler = service.start("order", {"type": "lamp", "value": 7})

    assert start_event(handler) == Order(value=7, type="lamp")


@pytest.mark.parametrize("fields", [None, {}, {"value": "many"}, StartEvent()])
def test_a_start_event_that_does_not_fit(fields: Any) -> None:
    with pytest.raises(InvalidRequest):
        service.start("order", fields)
    assert not Handler.objects.exists()


def test_a_workflow_that_is_not_served() -> None:
    with pytest.raises(WorkflowNotFound):
        service.start("nothing")


def test_a_start_under_an_id_can_be_repeated() -> None:
    service.start("order", {"value": 1}, handler_id="order-1")
    with pytest.raises(HandlerRunning):
        service.start("order", {"value": 1}, handler_id="order-1")

    end(handlers.find("order-1"))
    again = service.start("order", {"value": 2}, handler_id="order-1")
    assert (again.run, Handler.objects.count()) == (2, 1)


def test_a_handler_is_not_continued_by_another_workflow() -> None:
    end(service.start("order", {"value": 1}, handler_id="order-1"))

    with pytest.raises(HandlerOfOther, match="belongs to workflow 'order'"):
        service.start("other", {"value": 1}, handler_id="order-1")
    assert handlers.find("order-1").has_ended


@pytest.mark.parametrize("event", [{"type": "Unheard", "value": {}}, {"value": {}}, {}])
def test_an_event_that_does_not_fit(event: Any) -> None:
    handler = service.start("order", {"value": 1})

    with pytest.raises(InvalidEvent):
        service.send_event(handler.handler_id, event)
    with pytest.raises(InvalidEvent):
        service.send_event(handler.handler_id, HumanResponseEvent(), step="ship")
    assert not Message.objects.exists()


def test_verbs_on_a_run_that_has_ended_or_never_was() -> None:
    handler = service.start("order", {"value": 1})
    end(handler)

    with pytest.raises(HandlerFinished):
        service.send_event(handler.handler_id, HumanResponseEvent())
    with pytest.raises(HandlerFinished):
        service.cancel(handler.handler_id)
    for verb in (service.cancel, service.purge):
        with pytest.raises(HandlerNotFound):
            verb("never-was")


def test_a_cancellation_is_mail() -> None:
    handler = service.start("order", {"value": 1})
    service.cancel(handler.handler_id)

    assert Message.objects.get().kind == Message.Kind.CANCEL


def test_a_purge_leaves_nothing() -> None:
    handler = service.start("order", {"value": 1})
    service.send_event(handler.handler_id, HumanResponseEvent())

    with transaction.atomic():
        service.purge(handler.handler_id)

    assert not Handler.objects.exists()
    assert not Message.objects.exists()
