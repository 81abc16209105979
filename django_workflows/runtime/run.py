"""One run in the memory of the process that executes it: its engine, its inbox, its timers and its end.

What the engine decides goes into the run's outbox, and the engine waits at a barrier (:meth:`Run.barrier`) until
all of it is committed before a step starts on it. What comes before the first barrier may be done while the run's
start is being stored; the run owns its record from then on (:meth:`Run.own`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from django.utils import timezone
from llama_index_instrumentation.dispatcher import instrument_tags
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import StateStoreFacade
from workflows.events import (
    Event,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowIdleEvent,
    WorkflowTimedOutEvent,
)
from workflows.runtime.types.plugin import RegisteredWorkflow
from workflows.runtime.types.results import StepWorkerStateContextVar
from workflows.runtime.types.ticks import TickIdleCheck, TickSessionStart, TickStepResult, WorkflowTick

from django_workflows import conf, leases, limits, serialization
from django_workflows.contexts import Snapshot
from django_workflows.exceptions import CancelWaits, LeaseLost, NotSerializable, PersistenceFailed, TooLarge
from django_workflows.handlers import Ending, Idle
from django_workflows.models import Handler, Message
from django_workflows.registry import Served
from django_workflows.runtime import ticks
from django_workflows.runtime.deadlines import Deadlines
from django_workflows.runtime.mail import Mail
from django_workflows.runtime.outbox import Outbox, Released
from django_workflows.runtime.replay import Beginning
from django_workflows.runtime.state import RunStateStorage
from django_workflows.runtime.writer import Writer
from django_workflows.runtime.writes import Changes

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
# A run gets a snapshot after every so many ticks: whoever takes it over reads no more.
SNAPSHOT_INTERVAL = 1000


class Run:
    """A run that this process executes.

    Args:
        served: the workflow.
        registered: its functions as the engine's runtime registered them.
        handler_id: its handler's public id.
        run_id: its own.
        beginning: where it begins.
        writer: who writes for it.
        slot: what bounds the number of this workflow's runs at a time, None without a bound.
        on_consumed: called when a message was consumed, so that there is room for more.
        on_journaled: called when ticks were committed.
        on_left: called when it has left memory, if it was ever stored.
    """

    def __init__(
        self,
        served: Served,
        registered: RegisteredWorkflow,
        handler_id: str,
        run_id: str,
        beginning: Beginning,
        *,
        writer: Writer,
        slot: asyncio.Semaphore | None,
        on_consumed: Callable[[Run], None],
        on_journaled: Callable[[Run], None],
        on_left: Callable[[Run], None],
    ) -> None:
        self.served = served
        self.lease = leases.NONE
        self.handler_id = handler_id
        self.run_id = run_id
        self.log = logging.LoggerAdapter(
            logger,
            {"handler_id": self.handler_id, "run_id": self.run_id, "workflow": served.name},
        )
        self.inbox: asyncio.Queue[WorkflowTick] = asyncio.Queue()
        # Messages that are in the inbox or on their way to the journal.
        self.mail: set[int] = set()
        # Whether any came, to whichever process.
        self._was_mailed = beginning.next_tick > 0 or beginning.is_cancelled
        # Resolved when the end is committed.
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        # Since when nothing of it is under way (on the event loop's clock), None while something is.
        self.quiet_since: float | None = None
        # How many callers in this process wait for its end.
        self.awaited = 0
        self.task: asyncio.Task[None] | None = None
        # Of the engine, those that execute steps; when the run ends, they are cancelled, and clean up.
        self.steps: Sequence[asyncio.Task[Any]] = ()
        self.serializer: BaseSerializer = serialization.serializer(served)
        self._registered = registered
        self._beginning = beginning
        self._deadlines = Deadlines(beginning.deadlines)
        self._slot = slot
        # Whether a cancellation has come; before the engine runs, the run needs no engine to end.
        self._is_cancelled = beginning.is_cancelled
        # Waits for the slot; cancelled when the run is.
        self._turn: asyncio.Task[bool] | None = None
        self._on_consumed = on_consumed
        self._on_journaled = on_journaled
        self._on_left = on_left
        # Resolved when it owns its record; none while nothing waits for that.
        self._owning: asyncio.Future[None] | None = None
        self._outbox = Outbox(
            writer,
            next_tick=beginning.next_tick,
            next_event=beginning.next_event,
            on_written=self._written,
            on_failed=self._stop,
            prunes=conf.get().PRUNE_TICKS,
        )
        # Position of the last tick that the stored snapshot holds, and the one after which to take the next.
        self.snapshot = beginning.snapshot
        self.snapshot_due = beginning.snapshot + SNAPSHOT_INTERVAL
        # A start event is stored with the handler: until a second barrier, a crash loses nothing.
        self._must_wait = beginning.next_tick > 0
        self._crashes = beginning.crashes
        self._idle_since = beginning.idle_since
        # Whether it has become idle since the last barrier.
        self._idles = False
        self._ending: Ending | None = None
        # The step that has failed for good.
        self._failing_step: str | None = None
        self._poison: tuple[Exception, str] | None = None

    @cached_property
    def state_store(self) -> StateStoreFacade[Any]:
        """The engine's store of the run's state; most runs have none."""
        storage = RunStateStorage(self, self._beginning.stored_state)
        return StateStoreFacade(storage, self.served.state_type, self.serializer)

    # --- execution ------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Begin to execute the run in a task of its own."""
        self.task = asyncio.get_running_loop().create_task(
            self._execute(),
            name=f"workflow run {self.run_id}",
            # Not the context of the request that started it: Django would tie its thread to the run.
            context=contextvars.Context(),
        )
        self.task.add_done_callback(self._left)

    def own(self, lease: leases.Lease) -> None:
        """Go on to the first step, and write: the run is stored, and this process has its lease."""
        self.lease = lease
        self._outbox.own(lease)
        if self._owning is not None and not self._owning.done():
            self._owning.set_result(None)

    @property
    def is_owned(self) -> bool:
        return self.lease is not leases.NONE

    def interrupt(self) -> None:
        """Stop executing without an end: the run goes on elsewhere or later from its last commit."""
        if self.task is not None and (self._ending is None or not self.is_owned):
            self._outbox.refuse(LeaseLost("this process let the run go"))
            self.task.cancel()

    async def release(self, snapshot: Snapshot | None) -> bool:
        """Give the waiting run up and leave memory, until mail comes or a deadline is due.

        Args:
            snapshot: where it stands, None to leave the stored one.

        Returns False when it does not wait any more.

        Raises:
            LeaseLost, PersistenceFailed: it has left memory and is perhaps still ours.
        """
        if not self.is_quiet or (snapshot is not None and snapshot.sequence != self.position):
            return False
        try:
            await self._outbox.release(snapshot, self._deadlines.next)
        finally:
            if self.task is not None:
                self.task.cancel()
        return True

    def receive(self, message: Message) -> None:
        """Put a message into the inbox.

        Raises:
            Exception: it cannot be read.
        """
        self._was_mailed = True
        self.mail.add(message.pk)
        self.inbox.put_nowait(Mail.tick(message, self.serializer))
        if message.kind == Message.Kind.CANCEL:
            self._is_cancelled = True
            if self._turn is not None:
                self._turn.cancel()

    @property
    def was_refused(self) -> bool:
        """Whether it stopped because it could not write any more."""
        return self._outbox.refused is not None and not isinstance(self._outbox.refused, Released)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing of it is under way or on its way: it waits for mail or a deadline."""
        return (
            self.quiet_since is not None
            and self.inbox.empty()
            and not self.mail
            and self._ending is None
            and self._outbox.refused is None
            and self._outbox.is_empty
        )

    @property
    def position(self) -> int:
        """Position of the last tick, -1 before the first."""
        return self._outbox.next_tick - 1

    async def _execute(self) -> None:
        _current.set(weakref.ref(self))
        self._deadlines.start(self.inbox.put_nowait)
        if self._beginning.start_event is None:
            # The engine would not notice by itself that there is nothing to do but wait.
            self.inbox.put_nowait(TickIdleCheck())
        try:
            await self._until_ended()
        except asyncio.CancelledError:
            if self._poison is None or self._outbox.refused is not None or self.task is None:
                raise
            # Cancelled by ourselves, because something that it wrote can never be stored.
            self.task.uncancel()
            self._fail(self._poison[0])
            await self._outbox.flush()
        finally:
            self._deadlines.stop()

    async def _until_ended(self) -> None:
        try:
            await self._take_turn()
        except Exception as error:
            if self._ending is None and self._outbox.refused is None:
                # The engine ends a run with an event of its own; without one it was us, or a bug.
                self._fail(error)
            elif self._failing_step is not None:
                # As Django says of a view: else nobody but who reads the run would hear of a mistake in a step.
                self.log.error("the run failed in step %r", self._failing_step, exc_info=error)
            elif self._ending is not None and self._ending.status == Handler.Status.FAILED:
                self.log.warning("the run failed: %s", self._ending.error)
        else:
            if self._ending is None and self._poison is not None and self._outbox.refused is None:
                # The engine did not hear that it was cancelled: it awaited its own tasks' ends.
                self._fail(self._poison[0])
        if self._outbox.refused is None:
            await self._outbox.flush()

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
        limit = conf.get().MAX_CRASHES
        if limit is not None and self._crashes >= limit:
            raise RuntimeError(
                f"{self._crashes} processes died one after the other while they executed this run; "
                "it is not tried again (MAX_CRASHES)"
            )
        beginning = self._beginning
        tags = {"llamaindex.handler_id": self.handler_id, "llamaindex.run_id": self.run_id}
        with instrument_tags(tags):
            await self._registered.workflow_run_fn(beginning.state, beginning.start_event, None)  # type: ignore[arg-type]

    def _cancel_unbegun(self) -> None:
        """End the run as cancelled without the engine, which would first start a step."""
        self._outbox.add_event(serialization.envelope(WorkflowCancelledEvent()))
        self._end(Ending(Handler.Status.CANCELLED, None, None, timezone.now()))
        self._outbox.kick()

    def _fail(self, error: Exception) -> None:
        """End the run as failed for a reason that the engine knows nothing of."""
        step = ""
        if self._poison is not None:
            error, step = self._poison
        if not isinstance(error, NotSerializable):
            self.log.error("the run cannot go on", exc_info=error)
        self._outbox.add_event(serialization.envelope(WorkflowFailedEvent(step_name=step, exception=error)))
        self._end(Ending(Handler.Status.FAILED, None, _text(error), timezone.now()))
        self._outbox.kick()

    def _end(self, ending: Ending) -> None:
        self._ending = ending
        self._outbox.set_ending(ending, mailed=self._was_mailed)

    def _left(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and self._outbox.refused is None:
            self.log.error("the run left memory with an error", exc_info=task.exception())
        if isinstance(self._outbox.refused, PersistenceFailed):
            self.log.error("the run is let go, because the database does not take its writes")
        if not self.ended.done():
            self.ended.cancel()
        if self.is_owned:
            self._on_left(self)
        # Nothing of it shall be in memory until garbage is collected: a cancelled task keeps all that ran in it.
        self.task, self.steps = None, ()
        self._outbox.close()

    # --- what the engine decides ----------------------------------------------------------------------

    def record_tick(self, tick: WorkflowTick) -> None:
        """Put a tick into the journal, with the consumption of the message that it stands for.

        Raises:
            NotSerializable: it holds what cannot be stored; the run must fail.
        """
        self._check_writable()
        if isinstance(tick, TickIdleCheck):
            # It changes nothing in the engine's state, so replay can do without.
            return
        try:
            message, tick = Mail.open(tick)
            data = ticks.dump(tick, self.serializer)
        except NotSerializable as error:
            self._poison = (error, str(tick.step_id) if isinstance(tick, TickStepResult) else "")
            raise
        self._outbox.add_tick(data, message)
        self._deadlines.passed(tick)
        if isinstance(tick, TickSessionStart):
            return
        if self._idle_since is not None:
            self._idle_since, self._idles = None, False
            self._outbox.set_idle(Idle(since=None))
        if self._crashes:
            self._crashes = 0
            self._outbox.set_progressed()

    async def record_event(self, event: Event) -> None:
        """Put an event into the event log; it is written soon, and before everything that comes later.

        An event of the engine that ends the run writes the run's end in the same transaction.
        """
        by_engine = asyncio.current_task() is self.task
        if self._ending is not None or (self._poison is not None and not by_engine):
            # A step that is being cancelled: the log ends with the terminal event.
            return
        self._outbox.check()
        try:
            if not isinstance(event, StopEvent):
                # The event that ends the run is always let in.
                limits.check_event_count(self._outbox.next_event)
            wire = serialization.envelope(event)
        except NotSerializable as error:
            self._poison = (error, _current_step())
            if by_engine:
                raise
            # The engine only logs what goes wrong in a step's ctx.write_event_to_stream(). Its next tick ends the
            # run, so it gets one: the step may go on writing for ever.
            self.inbox.put_nowait(TickIdleCheck())
            return
        self._outbox.add_event(wire)
        if by_engine:
            if isinstance(event, WorkflowIdleEvent):
                # A run that was loaded while it waited has waited since.
                self._idle_since = self._idle_since or timezone.now()
                self._idles = True
            elif isinstance(event, StopEvent):
                if isinstance(event, WorkflowFailedEvent):
                    self._failing_step = event.step_name
                self._end(_ending(event, wire.data))
                if all(step.done() for step in self.steps):
                    # Stored while the engine cleans up, which writes nothing more.
                    self._outbox.kick()
        else:
            self._outbox.kick_after_step()
            if self._outbox.behind > MAX_BEHIND:
                await self._outbox.flush()

    async def record_state(self, record: str) -> None:
        """Write the state store's record and return when it is committed."""
        self._check_writable()
        if self._ending is not None and self._outbox.is_ended:
            # Of a step that does not stop.
            raise LeaseLost("the run has ended")
        self._outbox.set_state(record)
        if self._ending is None:
            await self._outbox.flush()
        # Otherwise a step saves it while it is cancelled: it is stored with the end.

    async def record_snapshot(self, snapshot: Snapshot) -> None:
        """Write where the run stood, and return when it is committed; nothing when the run has ended meanwhile."""
        if self._ending is None and self._poison is None and snapshot.sequence > self.snapshot:
            self._outbox.check()
            self._outbox.set_snapshot(snapshot)
            await self._outbox.flush()

    async def barrier(self, timeout: float | None) -> None:
        """Return when all that was decided so far is committed, so that its consequences may begin.

        What only repeats the start event may be committed later: that is stored when the run owns its record.

        Args:
            timeout: seconds until the engine's next timer is due, None without one.

        Raises:
            LeaseLost: another process owns the run by now.
            PersistenceFailed: the database does not take it.
            NotSerializable: a step wrote an event that cannot be stored.
        """
        if not self.is_owned:
            self._owning = asyncio.get_running_loop().create_future()
            await self._owning
        if self._poison is not None:
            raise self._poison[0]
        self._deadlines.note_engine(timeout)
        if self._idles:
            self._idles = False
            self._outbox.set_idle(Idle(self._idle_since, self._deadlines.next))
        if self._must_wait:
            self._outbox.kick()
            await self._outbox.flush()
        else:
            # Its first steps may be done before that, and then one write does for all.
            self._outbox.kick_soon()
            self._must_wait = True

    # --- what became of it ----------------------------------------------------------------------------

    def _check_writable(self) -> None:
        self._outbox.check()
        if self._poison is not None:
            raise self._poison[0]

    def _written(self, changes: Changes) -> None:
        if changes.snapshot is not None:
            self.snapshot = changes.snapshot.sequence
        if changes.consumed:
            self.mail.difference_update(changes.consumed)
            self._on_consumed(self)
        if changes.ending is not None and not self.ended.done():
            self.ended.set_result(changes.ending)
        if changes.ticks:
            self._on_journaled(self)

    def _stop(self, error: BaseException) -> None:
        """Stop acting as the run's owner, or end the run, because something could not be written."""
        if isinstance(error, CancelWaits):
            self.log.info("the run was cancelled before its end was written; it ends as cancelled")
        elif isinstance(error, LeaseLost):
            self.log.warning("another process has taken the run over; it is dropped here")
        elif not isinstance(error, PersistenceFailed):
            self.log.error("the database will not take what the run writes", exc_info=error)
            if self._poison is None:
                why = str(error) if isinstance(error, TooLarge) else type(error).__name__
                what = f"The database cannot store what the run wrote ({why})"
                self._poison, self._ending = (NotSerializable(what), ""), None
            else:
                # Not even that it has failed.
                self._outbox.refuse(PersistenceFailed())
        if self.task is not None:
            self.task.cancel()


def _ending(event: StopEvent, data: str) -> Ending:
    now = timezone.now()
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
    # A bare assert has no text.
    return serialization.storable(str(error) or type(error).__name__)
