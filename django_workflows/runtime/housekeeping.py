"""What is done for runs now and then: those that wait leave memory, long journals get snapshots, old ones go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.utils import timezone

from django_workflows import conf, database, retention
from django_workflows.contexts import Snapshot
from django_workflows.exceptions import LeaseLost, PersistenceFailed
from django_workflows.leases import Lease
from django_workflows.runtime import replay
from django_workflows.runtime import run as runs
from django_workflows.runtime.outbox import Released
from django_workflows.runtime.run import Run
from django_workflows.runtime.writer import Writer

logger = logging.getLogger("django_workflows.runtime")

# Ticks below which a run leaves memory without a new snapshot.
WORTH_A_SNAPSHOT = 16
# Runs that leave memory at the same time.
RELEASING = 64
# Seconds between two looks for handlers past their RETENTION, at most.
RETENTION_INTERVAL = 600.0

Loop = Coroutine[Any, Any, None]


class Housekeeping:
    """Looks after the runs of a process.

    Args:
        runs: those in memory, by handler.
        writer: who writes.
        spawn: starts a task with a name.
        let_go: gives up a run that may still be ours.
    """

    def __init__(
        self,
        runs: Mapping[int, Run],
        writer: Writer,
        spawn: Callable[[Loop, str], object],
        let_go: Callable[[Lease], None],
    ) -> None:
        self._runs = runs
        self._writer = writer
        self._spawn = spawn
        self._let_go = let_go
        # Handlers of runs whose snapshot is being taken.
        self._summarizing: set[int] = set()

    def loops(self) -> Iterator[tuple[str, Loop]]:
        """Yield what shall go on as long as the process, by the settings, each with a name."""
        settings = conf.get()
        if settings.IDLE_TIMEOUT is not None:
            yield "release", self.release(settings.IDLE_TIMEOUT)
        if settings.RETENTION is not None:
            yield "retention", self.retention(settings.RETENTION)

    # --- memory -----------------------------------------------------------------------------------------

    async def release(self, timeout: float) -> None:
        """Let runs leave memory that have waited for so many seconds."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(timeout / 4)
            before = loop.time() - timeout
            quiet = [
                run
                for run in self._runs.values()
                if run.quiet_since is not None and run.quiet_since < before and run.is_quiet
            ]
            for first in range(0, len(quiet), RELEASING):
                await asyncio.gather(*map(self._release, quiet[first : first + RELEASING]))

    async def _release(self, run: Run) -> None:
        snapshot = await self._summarize(run) if run.position - run.snapshot > WORTH_A_SNAPSHOT else None
        try:
            if await run.release(snapshot):
                run.log.debug("the run waits and has left memory")
        except LeaseLost:
            run.log.debug("the run goes on elsewhere, or was taken up again before it was released")
        except Exception as error:
            run.log.warning("the run could not be released: %s", error)
            self._let_go(run.lease)

    # --- journals ---------------------------------------------------------------------------------------

    def journaled(self, run: Run) -> None:
        """A run's journal has grown: take a snapshot when it has become long."""
        if run.lease.handler not in self._summarizing and run.position >= run.snapshot_due:
            run.snapshot_due = run.position + runs.SNAPSHOT_INTERVAL
            self._summarizing.add(run.lease.handler)
            self._spawn(self._take_snapshot(run), f"snapshot of {run.run_id}")

    async def _take_snapshot(self, run: Run) -> None:
        try:
            snapshot = await self._summarize(run)
            if snapshot is not None:
                await run.record_snapshot(snapshot)
        except (LeaseLost, PersistenceFailed, Released):
            # It has left memory, and said why.
            pass
        finally:
            self._summarizing.discard(run.lease.handler)
        if self._runs.get(run.lease.handler) is run:
            # It may have become long again meanwhile, and wait now.
            self.journaled(run)

    async def _summarize(self, run: Run) -> Snapshot | None:
        try:
            return await database.read(replay.summarize, run.served, run.lease, run.run_id)
        except Exception as error:
            # Nothing is lost: the run goes on from its whole journal.
            run.log.warning("no snapshot of the run could be taken: %s", error)
            return None

    # --- handlers ---------------------------------------------------------------------------------------

    async def retention(self, age: timedelta) -> None:
        """Delete handlers whose run ended longer ago, in portions between which others write."""
        interval = min(RETENTION_INTERVAL, max(1.0, age.total_seconds() / 10))
        while True:
            try:
                await self._delete_expired(age)
            except Exception as error:
                logger.warning("deleting what is past its RETENTION failed: %s", error)
            await asyncio.sleep(interval)

    async def _delete_expired(self, age: timedelta) -> None:
        def expired() -> list[int]:
            return retention.expired(timezone.now() - age, limit=retention.PORTION)

        while keys := await database.read(expired):
            for key in keys:
                while await self._writer.submit(lambda key=key: retention.erase_some(key)):  # type: ignore[misc]
                    pass
            logger.info("deleted %d handlers past their RETENTION", len(keys))
