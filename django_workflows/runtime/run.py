"""One run in the memory of the process that executes it: its lease, its inbox, and what it has to write.

What the engine decides is gathered here and written in order, one transaction at a time for each run. A tick
and the events that it publishes are written together, so that a crash leaves either both or neither; and the
engine waits at a barrier (:meth:`Run.barrier`) until all that it has decided is committed before a step starts
on it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils import timezone
from llama_index_instrumentation.dispatcher import instrument_tags
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import StateStoreFacade, infer_state_type
from workflows.events import (
    Event,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowIdleEvent,
    WorkflowTimedOutEvent,
)
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.plugin import RegisteredWorkflow
from workflows.runtime.types.results import StepWorkerStateContextVar
from workflows.runtime.types.ticks import TickIdleCheck, TickStepResult, WorkflowTick

from django_workflows import leases, serialization
from django_workflows.eventlog import EventEntry
from django_workflows.exceptions import LeaseLost, NotSerializable, PersistenceFailed
from django_workflows.handlers import Ending
from django_workflows.journal import TickEntry
from django_workflows.models import Handler, Message
from django_workflows.registry import Served
from django_workflows.runtime import ticks
from django_workflows.runtime.mail import Mail
from django_workflows.runtime.state import RunStateStorage
from django_workflows.runtime.writer import Changes, Writer

logger = logging.getLogger("django_workflows.runtime")

# The run that the current task works for; steps and what they start inherit it. Weak, because asyncio keeps the
# contexts of cancelled timers for a while, and with them would keep runs that have left.
_current: contextvars.ContextVar[weakref.ref[Run] | None] = contextvars.ContextVar(
    "django_workflows_run", default=None
)


def current() -> Run | None:
    """Return the run that the current task works for, None outside of one."""
    reference = _current.get()
    return None if reference is None else reference()


# A step that writes events faster than they can be committed waits when this many are behind.
MAX_BEHIND = 2000


@dataclass
class Beginning:
    """Where a run begins in this process: at its start, or after the last tick of its journal.

    Attributes:
        state: the engine's state.
        start_event: the event to begin with, None when the journal has it already.
        next_tick: position of the next tick.
        next_event: position of the next event.
        stored_state: the state store's record.
        deadlines: what is due when (seconds since the epoch) and lives in no other place.
        is_cancelled: whether a cancellation waits in its mail.
    """

    state: BrokerState
    start_event: Event | None
    next_tick: int = 0
    next_event: int = 0
    stored_state: str | None = None
    deadlines: list[tuple[float, WorkflowTick]] = field(default_factory=list)
    is_cancelled: bool = False


class Run:
    """A run that this process executes.

    Args:
        served: the workflow.
        registered: its functions as the engine's runtime registered them.
        handler: the run's record, with the lease of this process.
        beginning: where it begins.
        writer: who writes for it.
        slot: what bounds the number of this workflow's runs at a time, None without a bound.
        on_consumed: called when a message was consumed, so that there is room for more.
    """

    def __init__(
        self,
        served: Served,
        registered: RegisteredWorkflow,
        handler: Handler,
        beginning: Beginning,
        *,
        writer: Writer,
        slot: asyncio.Semaphore | None = None,
        on_consumed: Callable[[], None] = lambda: None,
    ) -> None:
        self.served = served
        self.lease = leases.of(handler)
        self.handler_id = handler.handler_id
        self.run_id = handler.run_id
        self.log = logging.LoggerAdapter(
            logger,
            {"handler_id": self.handler_id, "run_id": self.run_id, "workflow": served.name},
        )
        self.inbox: asyncio.Queue[WorkflowTick] = asyncio.Queue()
        # Messages that are in the inbox or on their way to the journal.
        self.mail: set[int] = set()
        # Resolved when the end is committed.
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        # When the engine's next timer is due, in seconds since the epoch.
        self.engine_wakes_at: float | None = None
        # The deadlines that the engine does not know, and what brings them to it.
        self._timers: list[tuple[float, asyncio.TimerHandle]] = []
        self.task: asyncio.Task[None] | None = None
        self.serializer: BaseSerializer = serialization.serializer(served)
        self.state_store: StateStoreFacade[Any] = StateStoreFacade(
            RunStateStorage(self, beginning.stored_state), infer_state_type(served.workflow), self.serializer
        )
        self._registered = registered
        self._beginning = beginning
        self._writer = writer
        self._slot = slot
        # Whether a cancellation has come; before the engine runs, the run needs no engine to end.
        self._is_cancelled = beginning.is_cancelled
        # Waits for the slot; cancelled when the run is.
        self._turn: asyncio.Task[bool] | None = None
        self._on_consumed = on_consumed
        self._next_tick = beginning.next_tick
        self._next_event = beginning.next_event
        # A start event is stored with the handler: until a second barrier, a crash loses nothing.
        self._must_wait = beginning.next_tick > 0
        self._changes = Changes(self.lease)
        self._empty = True
        self._recorded = 0
        self._committed = 0
        self._writing: asyncio.Future[None] | None = None
        self._progress: asyncio.Future[None] | None = None
        self._ending: Ending | None = None
        self._idle = False
        # Why nothing more may be written: the lease is lost or the database gone.
        self._refused: LeaseLost | PersistenceFailed | None = None
        self._poison: tuple[NotSerializable, str] | None = None

    # --- execution ------------------------------------------------------------------------------------

    def launch(self, done: Callable[[Run], None]) -> None:
        """Begin to execute the run in a task of its own; ``done`` is called when it has left memory."""
        self.task = asyncio.get_running_loop().create_task(
            self._execute(),
            name=f"workflow run {self.run_id}",
            # Not the context of the request that started it: Django would tie its thread to the run.
            context=contextvars.Context(),
        )
        self.task.add_done_callback(lambda task: self._left(task, done))

    def interrupt(self) -> None:
        """Stop executing without an end: the run goes on elsewhere or later from its last commit."""
        if self.task is not None and self._ending is None:
            self._refused = self._refused or LeaseLost("this process let the run go")
            self.task.cancel()

    def receive(self, message: Message) -> None:
        """Put a message into the inbox.

        Raises:
            Exception: it cannot be read.
        """
        self.mail.add(message.pk)
        self.inbox.put_nowait(Mail.tick(message, self.serializer))
        if message.kind == Message.Kind.CANCEL:
            self._is_cancelled = True
            if self._turn is not None:
                self._turn.cancel()

    @property
    def was_refused(self) -> bool:
        """Whether it stopped because it could not write any more."""
        return self._refused is not None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for an event from outside, or a deadline, with nothing else to do."""
        return self._idle and self._empty and self.inbox.empty()

    @property
    def wake_at(self) -> float | None:
        """When the next deadline is due, in seconds since the epoch."""
        ahead = [due for due, _ in self._timers if due > timezone.now().timestamp()]
        if self.engine_wakes_at is not None:
            ahead.append(self.engine_wakes_at)
        return min(ahead, default=None)

    async def _execute(self) -> None:
        _current.set(weakref.ref(self))
        self._set_timers()
        if self._beginning.start_event is None:
            # The engine would not notice by itself that there is nothing to do but wait.
            self.inbox.put_nowait(TickIdleCheck())
        try:
            await self._take_turn()
        except Exception as error:
            if self._ending is None and self._refused is None:
                # The engine ends a run with an event of its own; without one it was us, or a bug.
                self._fail(error)
            elif self._ending is not None and self._ending.status == Handler.Status.FAILED:
                self.log.info("the run failed: %s", self._ending.error)
        finally:
            for _, timer in self._timers:
                # It would keep the run in memory until it is due.
                timer.cancel()
        if self._refused is None:
            await self.flush()

    def _set_timers(self) -> None:
        loop, now = asyncio.get_running_loop(), timezone.now().timestamp()
        for due, tick in self._beginning.deadlines:
            timer = loop.call_later(max(0.0, due - now), self.inbox.put_nowait, tick)
            self._timers.append((due, timer))

    async def _take_turn(self) -> None:
        """Run the engine, when fewer than num_concurrent_runs of the workflow are under way."""
        if self._slot is None:
            await self._run_engine()
        elif await self._wait_for(self._slot):
            try:
                await self._run_engine()
            finally:
                self._slot.release()
        else:
            self._cancel_unbegun()

    async def _wait_for(self, slot: asyncio.Semaphore) -> bool:
        """Wait for a slot; False when the run was cancelled before it got one."""
        turn = self._turn = asyncio.get_running_loop().create_task(slot.acquire(), name=f"turn of {self.run_id}")
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                slot.release()
            if self.task is not None and self.task.cancelling():
                raise
            return False
        finally:
            self._turn = None

    async def _run_engine(self) -> None:
        if self._is_cancelled:
            self._cancel_unbegun()
            return
        beginning = self._beginning
        tags = {"llamaindex.handler_id": self.handler_id, "llamaindex.run_id": self.run_id}
        with instrument_tags(tags):
            await self._registered.workflow_run_fn(beginning.state, beginning.start_event, None)  # type: ignore[arg-type]

    def _cancel_unbegun(self) -> None:
        """End the run as cancelled without the engine, which would first start a step."""
        self._append_event(WorkflowCancelledEvent())
        self._end(Ending(Handler.Status.CANCELLED, None, None, timezone.now()))
        self._kick()

    def _fail(self, error: Exception) -> None:
        """End the run as failed for a reason that the engine knows nothing of."""
        step = ""
        if self._poison is not None:
            error, step = self._poison
        if not isinstance(error, NotSerializable):
            self.log.error("the engine stopped with an error", exc_info=error)
        event = WorkflowFailedEvent(step_name=step, exception=error)
        self._append_event(event)
        self._end(Ending(Handler.Status.FAILED, None, _text(error), timezone.now()))
        self._kick()

    def _left(self, task: asyncio.Task[None], done: Callable[[Run], None]) -> None:
        if not task.cancelled() and task.exception() is not None and self._refused is None:
            self.log.error("the run left memory with an error", exc_info=task.exception())
        if isinstance(self._refused, PersistenceFailed):
            self.log.error("the run is let go, because the database does not take its writes")
        if not self.ended.done():
            self.ended.cancel()
        done(self)

    # --- what the engine decides ----------------------------------------------------------------------

    def record_tick(self, tick: WorkflowTick) -> None:
        """Put a tick into the journal, with the consumption of the message that it stands for.

        Raises:
            NotSerializable: it holds what cannot be stored; the run must fail.
        """
        self._check_writable()
        if self._poison is not None:
            raise self._poison[0]
        if isinstance(tick, TickIdleCheck):
            # It changes nothing in the engine's state, so replay can do without.
            return
        try:
            message, tick = Mail.open(tick)
            data = ticks.dump(tick, self.serializer)
        except NotSerializable as error:
            self._poison = (error, str(tick.step_id) if isinstance(tick, TickStepResult) else "")
            raise
        self._changes.ticks.append(TickEntry(self._next_tick, data))
        self._next_tick += 1
        if message is not None:
            self._changes.consumed.append(message)
        if self._idle:
            self._idle = False
            self._changes.idle_since = None
        self._note_change()

    async def record_event(self, event: Event) -> None:
        """Put an event into the event log; it is written soon, and before everything that comes later.

        An event of the engine that ends the run writes the run's end in the same transaction.
        """
        by_engine = asyncio.current_task() is self.task
        if self._ending is not None or (self._poison is not None and not by_engine):
            # A step that is being cancelled: the log ends with the terminal event.
            return
        self._check_writable()
        try:
            data = self._append_event(event)
        except NotSerializable as error:
            self._poison = (error, _current_step())
            if by_engine:
                raise
            # The engine only logs what goes wrong in a step's ctx.write_event_to_stream().
            return
        if by_engine:
            if isinstance(event, WorkflowIdleEvent):
                self._idle = True
                self._changes.idle_since = timezone.now()
            elif isinstance(event, StopEvent):
                self._end(_ending(event, data))
        else:
            self._kick()
            if self._recorded - self._committed > MAX_BEHIND:
                await self.flush()

    async def record_state(self, record: str) -> None:
        """Write the state store's record and return when it is committed."""
        self._check_writable()
        self._changes.state = record
        self._note_change()
        await self.flush()

    async def barrier(self) -> None:
        """Return when all that was decided so far is committed, so that its consequences may begin.

        Raises:
            LeaseLost: another process owns the run by now.
            PersistenceFailed: the database does not take it.
            NotSerializable: a step wrote an event that cannot be stored.
        """
        if self._poison is not None:
            raise self._poison[0]
        self._kick()
        if self._must_wait:
            await self.flush()
        self._must_wait = True

    # --- writing --------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Return when everything recorded so far is committed."""
        goal = self._recorded
        while self._committed < goal:
            if self._refused is not None:
                raise self._refused
            self._kick()
            if self._progress is None:
                self._progress = asyncio.get_running_loop().create_future()
            # Shielded, since several may wait for it and one of them may be cancelled.
            await asyncio.shield(self._progress)

    def _append_event(self, event: Event) -> str:
        wire = serialization.envelope(event)
        self._changes.events.append(
            EventEntry(self._next_event, wire.internal, wire.data, wire.type, timezone.now())
        )
        self._next_event += 1
        self._note_change()
        return wire.data

    def _end(self, ending: Ending) -> None:
        self._ending = ending
        self._changes.ending = ending

    def _note_change(self) -> None:
        self._empty = False
        self._recorded += 1

    def _check_writable(self) -> None:
        if self._refused is not None:
            raise self._refused

    def _kick(self) -> None:
        """Submit what has gathered, unless an earlier write is still under way."""
        if self._writing is not None or self._empty or self._refused is not None:
            return
        changes, self._changes, self._empty = self._changes, Changes(self.lease), True
        upto = self._recorded
        self._writing = self._writer.submit(changes)
        self._writing.add_done_callback(lambda future: self._written(future, changes, upto))

    def _written(self, future: asyncio.Future[None], changes: Changes, upto: int) -> None:
        self._writing = None
        progress, self._progress = self._progress, None
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._stop(error)
        else:
            self._committed = upto
            if changes.consumed:
                self.mail.difference_update(changes.consumed)
                self._on_consumed()
            if changes.ending is not None and not self.ended.done():
                self.ended.set_result(changes.ending)
            self._kick()
        if progress is not None:
            progress.set_result(None)

    def _stop(self, error: BaseException) -> None:
        """Stop acting as the run's owner: nothing more can be written."""
        if isinstance(error, LeaseLost):
            self.log.warning("another process has taken the run over; it is dropped here")
            self._refused = error
        elif isinstance(error, PersistenceFailed):
            self._refused = error
        else:
            self.log.error("a write of the run failed", exc_info=error)
            self._refused = PersistenceFailed()
            self._refused.__cause__ = error
        if self.task is not None:
            self.task.cancel()


def _ending(event: StopEvent, data: str) -> Ending:
    now: datetime = timezone.now()
    if isinstance(event, WorkflowFailedEvent):
        return Ending(Handler.Status.FAILED, None, _text(event.exception), now)
    if isinstance(event, WorkflowTimedOutEvent):
        return Ending(Handler.Status.FAILED, None, f"Workflow timed out after {event.timeout}s", now)
    if isinstance(event, WorkflowCancelledEvent):
        return Ending(Handler.Status.CANCELLED, None, None, now)
    return Ending(Handler.Status.COMPLETED, data, None, now)


def _current_step() -> str:
    try:
        return StepWorkerStateContextVar.get().state.step_name
    except LookupError:
        return ""


def _text(error: BaseException) -> str:
    return serialization.storable(str(error))
