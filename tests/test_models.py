from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import IntegrityError, connections, models, transaction
from django.utils import timezone

from django_workflows import handlers, mailbox
from django_workflows.models import Context, Event, Handler, Message, Tick, Worker
from tests.storage import a_run, a_start, a_worker, end

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_migrations_are_complete() -> None:
    output = StringIO()
    try:
        call_command("makemigrations", "--check", "--dry-run", stdout=output)
    except SystemExit:
        pytest.fail(f"the models have changed:\n{output.getvalue()}")


# --- constraints ---------------------------------------------------------------------------------------


def a_tick(**fields: Any) -> Tick:
    return Tick(**{"run": 1, "sequence": 0, "data": "{}", **fields})


def an_event(**fields: Any) -> Event:
    return Event(
        **{"run": 1, "sequence": 0, "type": "E", "internal": False, "data": "{}", "created_at": NOW, **fields}
    )


def a_message(**fields: Any) -> Message:
    return Message(**{"run": 1, "kind": "event", "key": "k", "created_at": NOW, **fields})


def a_context(**fields: Any) -> Context:
    return Context(**{"updated_at": NOW, **fields})


@pytest.mark.parametrize("make", [a_tick, an_event, a_message, a_context])
def test_what_exists_once_cannot_be_written_twice(make: Callable[..., models.Model]) -> None:
    handler = a_run()
    make(handler=handler).save()

    with pytest.raises(IntegrityError), transaction.atomic():
        make(handler=handler).save()
    make(handler=a_run()).save()


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (a_tick, {"run": 2}),
        (a_tick, {"sequence": 1}),
        (an_event, {"run": 2}),
        (an_event, {"sequence": 1}),
        (a_message, {"run": 2}),
        (a_message, {"key": "K"}),
    ],
)
def test_what_differs_can_be_written(make: Callable[..., models.Model], other: dict[str, Any]) -> None:
    handler = a_run()
    make(handler=handler).save()
    make(handler=handler, **other).save()


@pytest.mark.parametrize("field", ["handler_id", "run_id"])
def test_public_ids_are_unique(field: str) -> None:
    first, second = a_start().row(), a_start().row()
    setattr(second, field, getattr(first, field))
    first.save()

    with pytest.raises(IntegrityError), transaction.atomic():
        second.save()


@pytest.mark.parametrize("field", ["handler_id", "run_id"])
def test_public_ids_differ_by_case(field: str) -> None:
    first, second = a_start().row(), a_start().row()
    setattr(first, field, "abc")
    setattr(second, field, "ABC")
    first.save()
    second.save()

    assert Handler.objects.get(**{field: "abc"}) == first


def test_workers_have_a_token_of_their_own() -> None:
    worker = a_worker()
    worker.pk = None

    with pytest.raises(IntegrityError), transaction.atomic():
        worker.save(force_insert=True)


@pytest.mark.parametrize("make", [a_tick, an_event, a_context])
def test_nothing_of_a_run_exists_without_its_handler(make: Callable[..., models.Model]) -> None:
    with pytest.raises(IntegrityError):
        make(handler_id=10**6).save()


# --- relations -----------------------------------------------------------------------------------------


def test_a_run_outlives_its_owner_and_its_worker() -> None:
    user, worker = get_user_model().objects.create_user("ada"), a_worker()
    handler = a_run(owner=user.pk, worker=worker.pk)

    user.delete()
    worker.delete()

    handler.refresh_from_db()
    assert (handler.owner, handler.worker) == (None, None)


def test_a_handler_takes_what_belongs_to_it_along() -> None:
    handler = a_run()
    for make in (a_tick, an_event, a_message, a_context):
        make(handler=handler).save()

    handler.delete()

    assert not any(model.objects.exists() for model in (Tick, Event, Context))
    # Deleting mail may have to wait for whoever sends some; it goes a little later.
    mailbox.sweep()
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("status", "ended"), [("running", False), ("completed", True), ("failed", True), ("cancelled", True)]
)
def test_every_status_but_running_is_an_end(status: str, ended: bool) -> None:
    assert Handler(status=status).has_ended is ended


def test_rows_can_be_named() -> None:
    handler = a_run("order-42")

    assert str(handler) == "order-42"
    assert str(Worker(hostname="web", pid=7)) == "web:7"
    assert all(str(make(handler=handler)) for make in (a_tick, an_event, a_message, a_context))


# --- questions -----------------------------------------------------------------------------------------


def names(found: models.QuerySet[Handler]) -> list[str]:
    return [handler.handler_id for handler in found]


def test_newest_first_page_by_page() -> None:
    for number in range(6):
        # Two of each moment, so that the order among them counts.
        run = a_run(str(number))
        Handler.objects.filter(pk=run.pk).update(started_at=NOW + timedelta(seconds=number // 2))

    assert names(Handler.objects.newest_first()) == ["5", "4", "3", "2", "1", "0"]
    seen: list[str] = []
    page = list(Handler.objects.newest_first()[:1])
    while page:
        seen += names(page)  # type: ignore[arg-type]
        page = list(
            Handler.objects.newest_first().beyond("started_at", True, page[-1].started_at, page[-1].pk)[:1]
        )
    assert seen == ["5", "4", "3", "2", "1", "0"]


def test_filters() -> None:
    a_run("a")
    a_run("b", workflow_name="other")
    end(a_run("c"))
    end(a_run("d"), status=Handler.Status.FAILED)

    assert names(Handler.objects.running().order_by("pk")) == ["a", "b"]
    assert names(Handler.objects.with_status(["completed", "failed"]).order_by("pk")) == ["c", "d"]
    assert names(Handler.objects.with_status(["nonsense"])) == []
    assert names(Handler.objects.of_workflows(["other", "unknown"])) == ["b"]
    assert names(Handler.objects.of_workflows(["OTHER"])) == []
    assert names(Handler.objects.of_workflows([])) == []


def test_what_has_something_to_do_and_nobody_to_do_it() -> None:
    past, future = timezone.now() - timedelta(minutes=1), timezone.now() + timedelta(minutes=1)

    def waiting(name: str, **fields: Any) -> Handler:
        run = a_run(name)
        Handler.objects.filter(pk=run.pk).update(**{"idle_since": past, "wake_at": None, **fields})
        return run

    a_run("new")
    a_run("executed", worker=a_worker().pk)
    end(a_run("ended"))
    waiting("waiting")
    waiting("not due", wake_at=future)
    waiting("due", wake_at=past)
    a_message(handler=waiting("with mail")).save()
    a_message(handler=waiting("with-two-letters"), key="a").save()
    a_message(handler=handlers.find("with-two-letters"), key="b").save()
    a_message(handler=waiting("with mail for another run"), run=2).save()

    assert names(Handler.objects.runnable().order_by("pk")) == ["new", "due", "with mail", "with-two-letters"]
    assert names(Handler.objects.due().order_by("pk")) == ["new", "due"]
    assert names(Handler.objects.with_mail().order_by("pk")) == ["with mail", "with-two-letters"]


@pytest.mark.skipif(connections["default"].vendor == "mysql", reason="MySQL and MariaDB know no partial indexes")
def test_what_has_something_to_do_and_what_waits_has_an_index_without_what_has_ended() -> None:
    worker = a_worker()
    ended, busy, waiting = (
        {"status": "completed", "wake_at": None},
        {"worker": worker},
        {"wake_at": None, "idle_since": NOW},
    )
    starts = [(ended, 1500), (waiting, 400), (busy, 100), ({}, 20)]
    rows = []
    for fields, count in starts:
        for row in (a_start(worker=None).row() for _ in range(count)):
            for name, value in fields.items():
                setattr(row, name, value)
            rows.append(row)
    Handler.objects.bulk_create(rows, batch_size=100)
    with connections["default"].cursor() as cursor:
        cursor.execute("ANALYZE django_workflows_handler")

    handlers = Handler.objects.all()
    for index, queryset in [
        ("dwf_handler_lease", handlers.due().order_by("wake_at", "pk")[:10]),
        ("dwf_handler_lease", handlers.running().filter(worker=worker)),
        ("dwf_handler_lease", handlers.filter(worker_id__in=[worker.pk])),
        ("dwf_handler_idle", handlers.waiting().longest_waiting_first()[:10]),
        ("dwf_handler_idle", handlers.unanswered().longest_waiting_first()[:10]),
    ]:
        assert index in queryset.explain(), str(queryset.query)
