"""The event log: what readers of a run see, in order, from 0, without a gap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from django_workflows import database
from django_workflows.leases import Lease
from django_workflows.models import Event


@dataclass(frozen=True, slots=True)
class EventEntry:
    """An event at its position.

    Attributes:
        sequence: position in the log.
        internal: whether only readers that ask for internal events get it.
        data: the envelope as JSON on one line.
        type: the event class's name.
        created_at: when the run produced it, on its worker's clock.
    """

    sequence: int
    internal: bool
    data: str
    type: str
    created_at: datetime


def append(entries: Iterable[tuple[Lease, EventEntry]]) -> None:
    """Write events of any number of runs, whose leases the transaction holds."""
    Event.objects.using(database.alias()).bulk_create(
        [
            Event(
                handler_id=lease.handler,
                run=lease.run,
                sequence=entry.sequence,
                type=entry.type[:255],
                internal=entry.internal,
                data=entry.data,
                created_at=entry.created_at,
            )
            for lease, entry in entries
        ]
    )


def read(handler: int, run: int, after: int, limit: int) -> list[EventEntry]:
    """Return up to ``limit`` events of a run after a position."""
    rows = (
        Event.objects.using(database.alias())
        .filter(handler_id=handler, run=run, sequence__gt=after)
        .order_by("sequence")
        .values_list("sequence", "internal", "data", "type", "created_at")[:limit]
    )
    return [EventEntry(*row) for row in rows]


def last_sequence(handler: int, run: int) -> int:
    """Return the position of a run's last event, -1 before the first."""
    found = (
        Event.objects.using(database.alias())
        .filter(handler_id=handler, run=run)
        .aggregate(last=Max("sequence"))["last"]
    )
    return -1 if found is None else found
