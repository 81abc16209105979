"""The journal: a run's ticks, in order."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

from django_workflows import database
from django_workflows.leases import Lease
from django_workflows.models import Tick


@dataclass(frozen=True, slots=True)
class TickEntry:
    """A tick at its position (from 0), as the run's serializer wrote it."""

    sequence: int
    data: str


def append(entries: Iterable[tuple[Lease, TickEntry]]) -> None:
    """Write ticks of any number of runs, whose leases the transaction holds."""
    Tick.objects.using(database.alias()).bulk_create(
        [
            Tick(handler_id=lease.handler, run=lease.run, sequence=entry.sequence, data=entry.data)
            for lease, entry in entries
        ]
    )


def read(lease: Lease, after: int = -1) -> Generator[TickEntry, None, None]:
    """Yield a run's ticks after a position."""
    rows = (
        Tick.objects.using(database.alias())
        .filter(handler_id=lease.handler, run=lease.run, sequence__gt=after)
        .order_by("sequence")
        .values_list("sequence", "data")
    )
    for sequence, data in rows.iterator(chunk_size=1000):
        yield TickEntry(sequence, data)
