"""From the journal (and a snapshot) to a run that goes on.

Safe to repeat: reading writes nothing. The engine marks the resumption in the journal itself (its
``TickSessionStart``) and starts again what was under way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from workflows.context.serializers import BaseSerializer
from workflows.events import Event
from workflows.runtime.control_loop import replay_ticks_stream
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter, DeleteWaiter
from workflows.runtime.types.ticks import TickSessionStart, TickStepResult, WorkflowTick

from django_workflows import contexts, database, eventlog, journal, leases, mailbox, serialization
from django_workflows.contexts import Snapshot, Stored
from django_workflows.exceptions import LeaseLost
from django_workflows.handlers import Start
from django_workflows.journal import TickEntry
from django_workflows.leases import Lease
from django_workflows.models import Handler
from django_workflows.registry import Served
from django_workflows.runtime import clock, snapshot, ticks
from django_workflows.runtime.snapshot import Standing

T = TypeVar("T")


class JournalIncomplete(Exception):
    """Ticks between the snapshot and the end of the journal are not there."""


@dataclass
class Beginning:
    """Where a run begins in this process: at its start, or after the last tick of its journal.

    Attributes:
        state: the engine's state.
        start_event: the event to begin with, None when the journal has it already.
        next_tick: position of the next tick.
        next_event: position of the next event.
        snapshot: position of the last tick that the stored snapshot holds, -1 without one.
        stored_state: the state store's record.
        deadlines: what is due when (seconds since the epoch) and lives in no other place.
        is_cancelled: whether a cancellation waits in its mail.
        idle_since: since when it has waited, None while it does not.
        crashes: how many processes have died with it in their hands; forgotten when it goes on.
    """

    state: BrokerState
    start_event: Event | None
    next_tick: int = 0
    next_event: int = 0
    snapshot: int = -1
    stored_state: str | None = None
    deadlines: list[tuple[float, WorkflowTick]] = field(default_factory=list)
    is_cancelled: bool = False
    idle_since: datetime | None = None
    crashes: int = 0


def fresh(served: Served, request: Start) -> Beginning:
    """Begin a run that this process starts, of which nothing is stored but the start event, or will be."""
    event: Event | None = request.event
    if event is None:
        event = serialization.load_event(request.start_event, serialization.serializer(served))
    return Beginning(BrokerState.from_workflow(served.workflow), event)


def load(claimed: Sequence[tuple[Served, Handler]]) -> list[Beginning | Exception]:
    """Read where runs stand; for a pool thread, since it queries and computes.

    Returns for each where it begins, or why it cannot be read: the workflow as it is now does not understand what
    is stored, or another process has the run (LeaseLost).

    Raises:
        Exception: the database does not answer.
    """
    read = _Reading([leases.of(handler) for _, handler in claimed])
    found: list[Beginning | Exception] = []
    for served, handler in claimed:
        try:
            found.append(read.beginning(served, handler))
        except Exception as error:
            if database.is_transient(error):
                raise
            found.append(error)
    return found


class _Reading:
    """What is stored of several runs, each kind of it read in one query."""

    def __init__(self, runs: list[Lease]) -> None:
        keys = [run.handler for run in runs]
        self._stored = contexts.stored(keys)
        self._reached = eventlog.reached(keys)
        # What was interrupted must not start again only to be cancelled.
        self._cancelled = mailbox.cancelled(runs)
        # Only a few ticks follow a snapshot, wherever it stands.
        have_snapshot = {key for key, stored in self._stored.items() if stored.snapshot is not None}
        self._whole = journal.read_all([run for run in runs if run.handler not in have_snapshot])

    def beginning(self, served: Served, handler: Handler) -> Beginning:
        run = leases.of(handler)
        number, last_event = self._reached.get(run.handler, (None, -1))
        if number != run.run:
            raise LeaseLost
        stored = self._stored.get(run.handler)
        standing, position = _stand(served, run, handler.run_id, stored, self._whole.get(run))
        state = standing.state
        if standing.began_at is not None:
            # The engine forgives the time that a run was in nobody's memory; its timeout is on the wall clock.
            state.elapsed_alive = max(state.elapsed_alive, clock.now() - standing.began_at)
        start_event = None
        if position < 0 and not state.is_running:
            start_event = serialization.load_event(handler.start_event, serialization.serializer(served))
        return Beginning(
            state=state,
            start_event=start_event,
            next_tick=position + 1,
            next_event=last_event + 1,
            snapshot=-1 if stored is None else stored.snapshot_sequence,
            stored_state=None if stored is None else stored.state,
            deadlines=standing.pending_timeouts(),
            is_cancelled=run in self._cancelled,
            idle_since=handler.idle_since,
            crashes=handler.crashes,
        )


def summarize(served: Served, lease: Lease, run_id: str) -> Snapshot:
    """Compute a run's snapshot after the last committed tick; for a pool thread.

    Raises:
        Exception: the engine cannot write its state, or could not read it again.
    """
    using = serialization.serializer(served)
    standing, position = stand(served, lease, run_id)
    data = snapshot.dump(standing, using)
    # A number that JSON has not, for one, survives in the journal, and not in what the engine writes.
    snapshot.load(data, served.workflow, using)
    return Snapshot(position, data)


def stand(served: Served, lease: Lease, run_id: str) -> tuple[Standing, int]:
    """Return where a run stands, and the position of its last tick.

    Raises:
        Exception: what is stored cannot be read by the workflow as it is now.
    """
    return _stand(served, lease, run_id, contexts.stored([lease.handler]).get(lease.handler), None)


def _stand(
    served: Served, lease: Lease, run_id: str, stored: Stored | None, whole: Iterable[TickEntry] | None
) -> tuple[Standing, int]:
    """Return where a run stands; its ``whole`` journal, of one without a snapshot, may have been read already."""
    using = serialization.serializer(served)
    standing, position = snapshot.begin(served.workflow), -1
    if stored is not None and stored.snapshot is not None:
        standing, position = snapshot.load(stored.snapshot, served.workflow, using), stored.snapshot_sequence
    entries = journal.read(lease, after=position) if whole is None else whole
    last = advance(standing, _gapless(entries, position), using, run_id)
    return standing, position if last is None else last


def _gapless(entries: Iterable[TickEntry], position: int) -> Iterator[TickEntry]:
    """Pass entries on that follow a position, and refuse to go on without those that are missing."""
    for entry in entries:
        position += 1
        if entry.sequence != position:
            raise JournalIncomplete(f"tick {position} is missing; the next one is {entry.sequence}")
        yield entry


def advance(standing: Standing, entries: Iterable[TickEntry], using: BaseSerializer, run_id: str) -> int | None:
    """Let a run go on by some entries of its journal; returns the position of the last, None without any."""
    position = None

    async def read_ticks() -> AsyncIterator[WorkflowTick]:
        nonlocal position
        for entry in entries:
            tick = ticks.load(entry.data, using)
            position = entry.sequence
            _note(tick, standing)
            yield tick

    async def replay() -> BrokerState:
        return (await replay_ticks_stream(standing.state, read_ticks(), run_id=run_id)).state

    standing.state = _finish(replay())
    return position


def _finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, without an event loop: Django refuses queries where one runs."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("the engine's replay waited for something")


def _note(tick: WorkflowTick, standing: Standing) -> None:
    """Keep account of what the engine's state does not hold: the deadlines of ``wait_for_event(timeout=...)``."""
    if isinstance(tick, TickSessionStart) and standing.began_at is None:
        standing.began_at = tick.stamped_at
    if not isinstance(tick, TickStepResult):
        return
    for result in tick.result:
        if isinstance(result, AddWaiter) and result.timeout is not None and tick.stamped_at is not None:
            # A waiter that is registered again keeps its first deadline, as in the live run.
            standing.deadlines.setdefault((tick.step_id, result.waiter_id), tick.stamped_at + result.timeout)
        elif isinstance(result, DeleteWaiter):
            standing.deadlines.pop((tick.step_id, result.waiter_id), None)
