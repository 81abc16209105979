"""The engine's view of a run: the adapter through which its control loop and steps reach the outside."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from workflows.context.state_store import StateStore
from workflows.events import Event
from workflows.runtime.types.named_task import NamedTask, PendingStart
from workflows.runtime.types.plugin import (
    InternalRunAdapter,
    WaitForNextTaskResult,
    WaitResult,
    WaitResultTick,
    WaitResultTimeout,
)
from workflows.runtime.types.ticks import WorkflowTick

from django_workflows.runtime.run import Run


class RunAdapter(InternalRunAdapter):
    """What happens inside a run, handed to :class:`Run`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def run_id(self) -> str:
        return self._run.run_id

    async def get_now(self) -> float:
        # The wall clock: timestamps are compared with those of earlier processes.
        return time.time()

    async def on_tick(self, tick: WorkflowTick) -> None:
        # Only gathered here: it is committed together with the events that it publishes, which the engine
        # hands over next, and before anything starts because of it (wait_for_next_task).
        self._run.record_tick(tick)

    async def write_to_event_stream(self, event: Event) -> None:
        await self._run.record_event(event)

    async def wait_for_next_task(
        self, running: list[NamedTask], pending: list[PendingStart], timeout: float | None = None
    ) -> WaitForNextTaskResult:
        try:
            await self._run.barrier()
        except BaseException:
            for start in pending:
                start.coro.close()
            raise
        self._run.wake_at = None if timeout is None else time.time() + timeout
        return await super().wait_for_next_task(running, pending, timeout)

    async def send_event(self, tick: WorkflowTick) -> None:
        # From a step: the engine's step result carries it as well, so a crash does not lose it.
        self._run.inbox.put_nowait(tick)

    async def wait_receive(self, timeout_seconds: float | None = None) -> WaitResult:
        try:
            async with asyncio.timeout(timeout_seconds):
                return WaitResultTick(tick=await self._run.inbox.get())
        except TimeoutError:
            return WaitResultTimeout()

    def get_state_store(self, namespace: tuple[str, ...] = ()) -> StateStore[Any] | None:
        return None if namespace else self._run.state_store
