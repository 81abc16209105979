"""Deleting handlers with all that belongs to them, in small transactions.

A handler may have a hundred thousand events. They are deleted in portions, so that nobody else waits for long;
the handler goes last, so that a deletion that was interrupted can be found and finished by repeating it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.utils import timezone
from workflows.events import WorkflowCancelledEvent

from django_workflows import database, eventlog, handlers, leases, serialization
from django_workflows.eventlog import EventEntry
from django_workflows.handlers import Ending
from django_workflows.models import Event, Handler, Message, Tick
from django_workflows.querysets import HandlerQuerySet

# Rows that one transaction deletes.
PORTION = 1000

FINISHED = (Handler.Status.COMPLETED, Handler.Status.FAILED, Handler.Status.CANCELLED)


def close(handler: int) -> EventEntry | None:
    """Cancel a handler's run for good, if it has one: whoever executes it can write nothing more.

    Returns the event that ends its log, None when no run was under way.
    """
    with database.atomic():
        found = database.locked(_handlers().running().filter(pk=handler)).first()
        if found is None:
            return None
        now = timezone.now()
        wire = serialization.envelope(WorkflowCancelledEvent())
        sequence = eventlog.last_sequence(found.pk, found.run) + 1
        entry = EventEntry(sequence, wire.internal, wire.data, wire.type, now)
        found.fence += 1
        lease = leases.of(found)
        found.save(using=database.alias(), update_fields=["fence"])
        eventlog.append([(lease, entry)])
        handlers.end([(lease, Ending(Handler.Status.CANCELLED, None, None, now))])
        return entry


def erase(handler: int) -> None:
    """Delete a handler whose run has ended, with all that belongs to it.

    When it is continued with another run meanwhile, it stays, without what belonged to its earlier runs.
    """
    while erase_some(handler):
        pass


def delete(handler: int) -> None:
    """End a handler's run, if need be, and delete it with all that belongs to it, in one transaction."""
    with database.atomic():
        close(handler)
        erase(handler)


def erase_some(handler: int) -> bool:
    """Do one portion of :func:`erase`; True when there is more to do."""
    found = _handlers().filter(pk=handler).exclude(status=Handler.Status.RUNNING)
    with database.atomic():
        run = database.locked(found).values_list("run", flat=True).first()
        if run is None:
            return False
        for model in (Event, Tick, Message):
            if _delete_portion(model, handler, run):
                return True
        found.delete()
        return False


def _delete_portion(model: Any, handler: int, run: int) -> bool:
    """Delete some rows of a handler's runs up to one; False when there were none."""
    rows = model.objects.using(database.alias())
    keys = list(rows.filter(handler_id=handler, run__lte=run).values_list("pk", flat=True)[:PORTION])
    rows.filter(pk__in=keys).delete()
    return bool(keys)


def _handlers() -> HandlerQuerySet:
    return Handler.objects.using(database.alias())


def expired(before: datetime, statuses: Iterable[str] = FINISHED, limit: int | None = None) -> list[int]:
    """Return the primary keys of handlers whose run has ended before a moment, the oldest first."""
    found = (
        _handlers()
        .filter(status__in=[s for s in statuses if s != Handler.Status.RUNNING], completed_at__lt=before)
        .order_by("completed_at", "pk")
        .values_list("pk", flat=True)
    )
    return list(found if limit is None else found[:limit])


def purge(before: datetime, statuses: Iterable[str] = FINISHED) -> int:
    """Delete handlers whose run has ended before a moment; returns how many. Safe to interrupt and repeat."""
    statuses = list(statuses)
    deleted = 0
    while page := expired(before, statuses, limit=PORTION):
        for handler in page:
            erase(handler)
        deleted += len(page)
    return deleted
