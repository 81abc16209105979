"""The journal: a run's ticks, in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from django.db.models import F

from django_workflows import database
from django_workflows.leases import Lease
from django_workflows.models import Tick

_INSERT = database.Statement(Tick, ("handler", "run", "sequence", "data"))


@dataclass(frozen=True, slots=True)
class TickEntry:
    """A tick at its position (from 0), as the run's serializer wrote it."""

    sequence: int
    data: str


def append(entries: Iterable[tuple[Lease, TickEntry]]) -> None:
    """Write ticks of any number of runs, whose leases the transaction holds."""
    _INSERT.execute((lease.handler, lease.run, entry.sequence, entry.data) for lease, entry in entries)


def prune(lease: Lease, upto: int | None = None) -> None:
    """Delete a run's ticks up to a position, all by default, in a transaction that holds its lease."""
    found = Tick.objects.using(database.alias()).filter(handler_id=lease.handler, run=lease.run)
    (found if upto is None else found.filter(sequence__lte=upto)).delete()


# Ticks read at once. Pages, because a cursor of the server's would live as long as the reader is busy with them.
_PAGE = 1000


def read(lease: Lease, after: int = -1) -> Generator[TickEntry, None, None]:
    """Yield a run's ticks after a position."""
    ticks = Tick.objects.using(database.alias()).filter(handler_id=lease.handler, run=lease.run)
    while True:
        page = ticks.filter(sequence__gt=after).order_by("sequence").values_list("sequence", "data")[:_PAGE]
        rows = list(page)
        for sequence, data in rows:
            yield TickEntry(sequence, data)
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


# Ticks of each run that are read together with those of others; most runs have fewer.
_FIRST = 100
_BEGUN = database.Lookup(
    lambda keys: (
        Tick.objects.using(database.alias())
        .filter(handler__in=keys, run=F("handler__run"), sequence__lt=_FIRST)
        .order_by("handler", "sequence")
        .values_list("handler", "run", "sequence", "data")
    )
)


def read_all(leases: Collection[Lease]) -> dict[Lease, Iterator[TickEntry]]:
    """Return all ticks of each of several runs: what is short has been read, in one query for all of them."""
    found: dict[tuple[int, int], list[TickEntry]] = defaultdict(list)
    for handler, run, sequence, data in _BEGUN(lease.handler for lease in leases):
        found[handler, run].append(TickEntry(sequence, data))
    return {lease: _all(lease, found[lease.handler, lease.run]) for lease in leases}


def _all(lease: Lease, begun: list[TickEntry]) -> Iterator[TickEntry]:
    return iter(begun) if len(begun) < _FIRST else chain(begun, read(lease, after=begun[-1].sequence))
