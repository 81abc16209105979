"""The engine's view of a run: the adapter through which its control loop and steps reach the outside."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError
from django.db import close_old_connections
from workflows.context.state_store import StateStore
from workflows.events import Event
from workflows.runtime.types.named_task import NamedTask, PendingStart, PullTask, all_tasks
from workflows.runtime.types.plugin import (
    InternalRunAdapter,
    WaitForNextTaskResult,
    WaitResult,
    WaitResultTick,
    WaitResultTimeout,
)
from workflows.runtime.types.results import StepWorkerFailed
from workflows.runtime.types.ticks import TickStepResult, WorkflowTick

from django_workflows.exceptions import LeaseLost
from django_workflows.runtime import clock
from django_workflows.runtime.run import Run

# As the engine: seconds that a cancelled step may take to clean up.
CANCEL_TIMEOUT = 0.5


class RunAdapter(InternalRunAdapter):
    """What happens inside a run, handed to :class:`Run`."""

    def __init__(self, run: Run) -> None:
        # Weak: what the engine keeps of a step that waited or failed is in memory until garbage is collected, and
        # with it this; the run shall not be.
        self._reference = weakref.ref(run)
        self._run_id = run.run_id

    @property
    def _run(self) -> Run:
        run = self._reference()
        if run is None:
            raise LeaseLost("the run has left memory")
        return run

    @property
    def run_id(self) -> str:
        # Also for a step that outlives its run.
        return self._run_id

    async def get_now(self) -> float:
        # Not a monotonic clock: time stamps are compared with those of earlier processes.
        return clock.now()

    async def on_tick(self, tick: WorkflowTick) -> None:
        if _failed_in_the_database(tick):
            # Async steps use the one thread of Django's async ORM, where nobody else replaces a broken connection.
            await sync_to_async(close_old_connections)()
        # Only gathered here: it is committed together with the events that it publishes, which the engine
        # hands over next, and before anything starts because of it (wait_for_next_task).
        self._run.record_tick(tick)

    async def write_to_event_stream(self, event: Event) -> None:
        await self._run.record_event(event)

    async def wait_for_next_task(
        self, running: list[NamedTask], pending: list[PendingStart], timeout: float | None = None
    ) -> WaitForNextTaskResult:
        try:
            await self._run.barrier(timeout)
        except BaseException:
            for start in pending:
                start.coro.close()
            raise
        started = [start.start(asyncio.create_task(start.coro)) for start in pending]
        self._run.steps = [each.task for each in (*running, *started) if not isinstance(each, PullTask)]
        if all(isinstance(task, PullTask) for task in (*running, *started)):
            self._run.quiet_since = asyncio.get_running_loop().time()
        try:
            waited = await super().wait_for_next_task([*running, *started], [], timeout)
        except asyncio.CancelledError:
            # The engine cancels the tasks that it knows; of these it would only hear now.
            tasks = all_tasks(started)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
            raise
        finally:
            self._run.quiet_since = None
        return WaitForNextTaskResult(waited.completed, started)

    async def send_event(self, tick: WorkflowTick) -> None:
        # From a step: the engine's step result carries it as well, so a crash does not lose it.
        self._run.inbox.put_nowait(tick)

    async def wait_receive(self, timeout_seconds: float | None = None) -> WaitResult:
        if timeout_seconds is None:
            return WaitResultTick(tick=await self._run.inbox.get())
        try:
            async with asyncio.timeout(timeout_seconds):
                return WaitResultTick(tick=await self._run.inbox.get())
        except TimeoutError:
            return WaitResultTimeout()

    def get_state_store(self, namespace: tuple[str, ...] = ()) -> StateStore[Any] | None:
        return None if namespace else self._run.state_store


def _failed_in_the_database(tick: WorkflowTick) -> bool:
    if not isinstance(tick, TickStepResult):
        return False
    errors = [result.exception for result in tick.result if isinstance(result, StepWorkerFailed)]
    # What the step's own code made of a database error counts as well.
    causes = [cause for error in errors for cause in (error, error.__cause__, error.__context__)]
    return any(isinstance(cause, DatabaseError) for cause in causes)
