"""The event log: what readers of a run see, in order, from 0, without a gap."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Max, OuterRef, QuerySet, Subquery

from django_workflows import database
from django_workflows.leases import Lease
from django_workflows.models import Event, Handler

_INSERT = database.Statement(Event, ("handler", "run", "sequence", "type", "internal", "data", "created_at"))


# Not frozen, which would take three times as long to make.
@dataclass(slots=True)
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
    _INSERT.execute(
        (
            lease.handler,
            lease.run,
            entry.sequence,
            entry.type[:255],
            entry.internal,
            entry.data,
            entry.created_at,
        )
        for lease, entry in entries
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


def _last_events(keys: Collection[int]) -> QuerySet[Handler, tuple[Any, ...]]:
    last = Event.objects.filter(handler=OuterRef("pk"), run=OuterRef("run")).order_by("-sequence")
    running = Handler.objects.using(database.alias()).running().filter(pk__in=keys)
    return running.values_list("pk", "run", Subquery(last.values("sequence")[:1]))


_REACHED = database.Lookup(_last_events)
# Handlers that are asked about at once.
_PORTION = 500


def reached(handlers: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Return how far the runs of these handlers are that go on: handler -> number of the run, last position."""
    keys = list(handlers)
    found: dict[int, tuple[int, int]] = {}
    for first in range(0, len(keys), _PORTION):
        for handler, run, last in _REACHED(keys[first : first + _PORTION]):
            found[handler] = (run, -1 if last is None else last)
    return found
