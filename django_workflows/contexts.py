"""A run's state, as the engine's state store writes it, and the snapshot that a run begins from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils import timezone

from django_workflows import database
from django_workflows.leases import Lease
from django_workflows.models import Context


def save(states: Iterable[tuple[Lease, str]]) -> None:
    """Write the states of any number of runs, whose leases the transaction holds."""
    now = timezone.now()
    rows = [Context(handler_id=lease.handler, state=state, updated_at=now) for lease, state in states]
    database.upsert(Context, rows, key=["handler"], update=["state", "updated_at"])


def begin(handler: int, *, state: str | None, snapshot: str | None) -> None:
    """Write what a new run begins from: a state, and the engine's state before the first tick.

    A continued handler keeps its state when none is given.
    """
    now = timezone.now()
    row = Context(handler_id=handler, state=state, snapshot=snapshot, snapshot_sequence=-1, updated_at=now)
    update = ["snapshot", "snapshot_sequence", "updated_at"]
    if state is not None:
        update.append("state")
    database.upsert(Context, [row], key=["handler"], update=update)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a run stood after the tick at a position."""

    sequence: int
    data: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A run's state store, and the snapshot that its journal goes on from; see :class:`models.Context`."""

    state: str | None
    snapshot: str | None
    snapshot_sequence: int


def snapshot(snapshots: Iterable[tuple[Lease, Snapshot]]) -> None:
    """Write snapshots of any number of runs, whose leases the transaction holds."""
    now = timezone.now()
    rows = [
        Context(handler_id=lease.handler, snapshot=taken.data, snapshot_sequence=taken.sequence, updated_at=now)
        for lease, taken in snapshots
    ]
    database.upsert(Context, rows, key=["handler"], update=["snapshot", "snapshot_sequence", "updated_at"])


def read(handler: int) -> Context | None:
    return Context.objects.using(database.alias()).filter(handler_id=handler).first()


_STORED = database.Lookup(
    lambda keys: (
        Context.objects.using(database.alias())
        .filter(handler__in=keys)
        .values_list("handler", "state", "snapshot", "snapshot_sequence")
    )
)


def stored(handlers: Iterable[int]) -> dict[int, Stored]:
    """Return what the runs of these handlers go on from, of those for which anything is stored."""
    return {handler: Stored(*row) for handler, *row in _STORED(handlers)}
