"""From the journal (and a snapshot) to a run that goes on.

Safe to repeat: reading writes nothing. The engine marks the resumption in the journal itself (its
``TickSessionStart``) and starts again what was under way.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from workflows.context.context_types import SerializedContext
from workflows.runtime.control_loop import replay_ticks_stream
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter, DeleteWaiter
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickStepResult, TickWaiterTimeout, WorkflowTick

from django_workflows import contexts, database, eventlog, journal, leases, serialization
from django_workflows.models import Handler, Message
from django_workflows.registry import Served
from django_workflows.runtime import ticks
from django_workflows.runtime.run import Beginning

T = TypeVar("T")


def fresh(served: Served, handler: Handler) -> Beginning:
    """Begin a run that this process has just started, of which nothing is stored but the start event."""
    start_event = serialization.load_event(handler.start_event, serialization.serializer(served))
    return Beginning(BrokerState.from_workflow(served.workflow), start_event)


def load(served: Served, handler: Handler) -> Beginning:
    """Read where a run stands; for a pool thread, since it queries and computes.

    Raises:
        Exception: what is stored cannot be read by the workflow as it is now.
    """
    using = serialization.serializer(served)
    lease = leases.of(handler)
    context = contexts.read(handler.pk)
    state = BrokerState.from_workflow(served.workflow)
    position = -1
    if context is not None and context.snapshot is not None:
        position = context.snapshot_sequence
        parsed = SerializedContext.from_dict_auto(json.loads(context.snapshot), using)
        state = BrokerState.from_serialized(parsed, served.workflow, using)
    deadlines: dict[tuple[StepId, str], float] = {}

    async def read_journal() -> AsyncIterator[WorkflowTick]:
        nonlocal position
        for entry in entries:
            tick = ticks.load(entry.data, using)
            position = entry.sequence
            _note_deadlines(tick, deadlines)
            yield tick

    async def replay() -> BrokerState:
        return (await replay_ticks_stream(state, read_journal(), run_id=handler.run_id)).state

    # Closed here, because an error keeps it alive for longer than the thread's connection.
    with contextlib.closing(journal.read(lease, after=position)) as entries:
        state = _finish(replay())
    begun = position >= 0 or state.is_running
    return Beginning(
        state=state,
        start_event=None if begun else serialization.load_event(handler.start_event, using),
        next_tick=position + 1,
        next_event=eventlog.last_sequence(handler.pk, handler.run) + 1,
        stored_state=None if context is None else context.state,
        deadlines=_pending(deadlines, state),
        is_cancelled=_is_cancelled(handler),
    )


def _finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, without an event loop: Django refuses queries where one runs."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("the engine's replay waited for something")


def _is_cancelled(handler: Handler) -> bool:
    """Tell whether a cancellation is waiting: what was interrupted must not start again only to be cancelled."""
    messages = Message.objects.using(database.alias())
    return messages.filter(handler=handler, run=handler.run, kind=Message.Kind.CANCEL).exists()


def _note_deadlines(tick: WorkflowTick, deadlines: dict[tuple[StepId, str], float]) -> None:
    """Keep account of ``wait_for_event(timeout=...)``: the engine's state does not hold its deadlines."""
    if not isinstance(tick, TickStepResult):
        return
    for result in tick.result:
        if isinstance(result, AddWaiter) and result.timeout is not None and tick.stamped_at is not None:
            # A waiter that is registered again keeps its first deadline, as in the live run.
            deadlines.setdefault((tick.step_id, result.waiter_id), tick.stamped_at + result.timeout)
        elif isinstance(result, DeleteWaiter):
            deadlines.pop((tick.step_id, result.waiter_id), None)


def _pending(deadlines: dict[tuple[StepId, str], float], state: BrokerState) -> list[tuple[float, WorkflowTick]]:
    found: list[tuple[float, WorkflowTick]] = []
    for (step_id, waiter_id), due in deadlines.items():
        worker = state.workers.get(step_id)
        waiters = [] if worker is None else worker.collected_waiters
        if any(w.waiter_id == waiter_id and w.resolved_event is None and not w.timed_out for w in waiters):
            found.append((due, TickWaiterTimeout(step_id=step_id, waiter_id=waiter_id)))
    return found
