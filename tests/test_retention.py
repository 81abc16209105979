"""Deleting handlers: at once, in portions, and those that ended long ago."""

from __future__ import annotations

import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from django_workflows import contexts, eventlog, handlers, journal, leases, mailbox, retention
from django_workflows.eventlog import EventEntry
from django_workflows.exceptions import HandlerNotFound
from django_workflows.journal import TickEntry
from django_workflows.mailbox import Letter
from django_workflows.models import Context, Event, Handler, Message, Tick
from tests.storage import PATIENCE, a_run, a_start, end, race

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_deleted_handler_leaves_nothing() -> None:
    deleted, other = a_run(), a_run()
    now = timezone.now()
    for handler in (deleted, other):
        lease = leases.of(handler)
        journal.append([(lease, TickEntry(0, "{}"))])
        eventlog.append([(lease, EventEntry(0, False, "{}", "Event", now))])
        contexts.save([(lease, "{}")])
        mailbox.post(Letter(handler.pk, handler.run, Message.Kind.EVENT, "{}"))

    retention.delete(deleted.pk)

    assert handlers.find(other.handler_id) == other
    with pytest.raises(HandlerNotFound):
        handlers.find(deleted.handler_id)
    for model in (Tick, Event, Context, Message):
        assert [row.handler_id for row in model.objects.all()] == [other.pk]
    with transaction.atomic():
        assert set(leases.hold([leases.of(deleted), leases.of(other)])) == {leases.of(other)}
    retention.delete(deleted.pk)


def test_a_deletion_waits_for_what_the_owner_is_writing() -> None:
    handler = a_run()
    lease = leases.of(handler)
    writing, deleted = threading.Event(), threading.Event()

    def write() -> bool:
        with transaction.atomic():
            assert set(leases.hold([lease])) == {lease}
            writing.set()
            # Long enough for the deletion to be under way; it must not get ahead.
            overtaken = deleted.wait(0.5)
            journal.append([(lease, TickEntry(0, "{}"))])
        return overtaken

    def delete() -> None:
        assert writing.wait(PATIENCE)
        retention.delete(handler.pk)
        deleted.set()

    assert race(write, delete) == [False, None]
    assert not Handler.objects.exists()
    assert not Tick.objects.exists()


def ended(handler_id: str, days_ago: int, status: Handler.Status = Handler.Status.COMPLETED) -> Handler:
    handler = a_run(handler_id)
    now = timezone.now()
    journal.append([(leases.of(handler), TickEntry(0, "{}"))])
    eventlog.append([(leases.of(handler), EventEntry(n, False, "{}", "Event", now)) for n in range(5)])
    end(handler, status=status, at=now - timedelta(days=days_ago))
    return handler


def left() -> set[str]:
    return set(Handler.objects.values_list("handler_id", flat=True))


def test_a_large_handler_goes_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PORTION", 2)
    handler = ended("large", 1)

    portions = 0
    while retention.erase_some(handler.pk):
        portions += 1
        # Until the last one the handler is there, so that an interrupted deletion can be repeated.
        assert left() == {"large"}

    # Five events make three portions, the tick another one.
    assert portions == 4
    assert left() == set()
    assert not Event.objects.exists()
    assert not Tick.objects.exists()


def test_a_run_under_way_is_not_erased() -> None:
    handler = a_run("running")

    retention.erase(handler.pk)

    assert left() == {"running"}


def test_a_handler_that_is_continued_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PORTION", 2)
    handler = ended("conversation", 1)
    assert retention.erase_some(handler.pk)

    again = handlers.start(a_start("conversation"))
    eventlog.append([(leases.of(again), EventEntry(0, False, "{}", "Event", timezone.now()))])
    retention.erase(handler.pk)

    assert left() == {"conversation"}
    assert Event.objects.filter(run=again.run).count() == 1


def test_a_closed_run_can_write_nothing_more() -> None:
    handler = a_run()
    lease = leases.of(handler)

    retention.close(handler.pk)

    with transaction.atomic():
        assert set(leases.hold([lease])) == set()
    assert handlers.find(handler.handler_id).status == Handler.Status.CANCELLED


def test_purgeworkflows_deletes_what_ended_long_ago() -> None:
    ended("old", 31)
    ended("young", 29)
    a_run("running")
    out = StringIO()

    call_command("purgeworkflows", "--older-than", "30d", stdout=out)

    assert left() == {"young", "running"}
    assert out.getvalue().startswith("1 handlers deleted")


def test_purgeworkflows_counts_without_deleting() -> None:
    ended("old", 31)
    out = StringIO()

    call_command("purgeworkflows", "--older-than", "30d", "--dry-run", stdout=out)

    assert left() == {"old"}
    assert out.getvalue().startswith("1 handlers")


def test_purgeworkflows_by_status() -> None:
    for status in retention.FINISHED:
        ended(str(status), 31, status)

    call_command(
        "purgeworkflows", "--older-than", "30d", "--status", "failed", "--status", "cancelled", stdout=StringIO()
    )

    assert left() == {"completed"}


def test_purgeworkflows_by_the_setting(settings: object) -> None:
    ended("old", 3)
    with pytest.raises(CommandError, match="--older-than"):
        call_command("purgeworkflows", stdout=StringIO())
    settings.DJANGO_WORKFLOWS = {"RETENTION": "2d"}  # type: ignore[attr-defined]

    call_command("purgeworkflows", stdout=StringIO())

    assert left() == set()


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1y", "", "99999999d"])
def test_purgeworkflows_refuses_what_is_no_age(age: str) -> None:
    with pytest.raises(CommandError, match="number with a unit"):
        call_command("purgeworkflows", f"--older-than={age}", stdout=StringIO())
