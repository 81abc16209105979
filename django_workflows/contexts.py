"""A run's state, as the engine's state store writes it, and the snapshot that a run begins from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils import timezone

from django_workflows import database
from django_workflows.leases import Lease
from django_workflows.models import Context

_COLUMNS = ("handler", "state", "snapshot", "snapshot_sequence", "updated_at")


def _statement(*replaced: str) -> database.Statement:
    return database.Statement(Context, _COLUMNS, unique=("handler",), replaced=replaced)


_SAVE = _statement("state", "updated_at")
_SNAPSHOT = _statement("snapshot", "snapshot_sequence", "updated_at")
_BEGIN = _statement("state", "snapshot", "snapshot_sequence", "updated_at")


def save(states: Iterable[tuple[Lease, str]]) -> None:
    """Write the states of any number of runs, whose leases the transaction holds."""
    now = timezone.now()
    _SAVE.execute((lease.handler, state, None, -1, now) for lease, state in states)


def begin(handler: int, *, state: str | None, snapshot: str | None) -> None:
    """Write what a new run begins from: a state, and the engine's state before the first tick.

    A continued handler keeps its state when none is given.
    """
    statement = _SNAPSHOT if state is None else _BEGIN
    statement.execute([(handler, state, snapshot, -1, timezone.now())])


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
    _SNAPSHOT.execute((lease.handler, None, taken.data, taken.sequence, now) for lease, taken in snapshots)


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
