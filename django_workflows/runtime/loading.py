"""Taking up runs that began elsewhere or earlier: reads where they stand, several together; then they go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from django_workflows import conf, database, leases, registry
from django_workflows.exceptions import LeaseLost
from django_workflows.leases import Lease
from django_workflows.models import Handler
from django_workflows.registry import Served
from django_workflows.runtime import replay
from django_workflows.runtime.replay import Beginning
from django_workflows.runtime.run import Run

logger = logging.getLogger("django_workflows.runtime")

# Claimed runs that are not read yet: what others left is spread over all who have room.
MOST = 64
# Runs that are read together, and how many times that at once.
PORTION = 8
READING = 4


class Loading:
    """Takes up runs whose leases this process has.

    Args:
        runs: those in memory, by handler.
        spawn: starts a task with a name.
        launch: lets a run go on; returns None when the process ends.
        let_go: gives up a run that may still be ours.
        on_loaded: called with each handler whose run goes on, or cannot.

    Attributes:
        under_way: handlers whose runs are not read yet.
        unreadable: handlers whose runs are ours but could not be read; their mail must not stand before that of
            others.
    """

    def __init__(
        self,
        runs: Mapping[int, Run],
        *,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        launch: Callable[[Served, Handler, Beginning], Run | None],
        let_go: Callable[[Lease], None],
        on_loaded: Callable[[int], None],
    ) -> None:
        self.under_way: set[int] = set()
        self.unreadable: set[int] = set()
        self._runs = runs
        self._spawn = spawn
        self._launch = launch
        self._let_go = let_go
        self._on_loaded = on_loaded
        self._limit = asyncio.Semaphore(READING)

    @property
    def room(self) -> int:
        """How many more runs may be claimed."""
        return max(0, MOST - len(self.under_way))

    def take(self, handlers: Sequence[Handler]) -> list[asyncio.Task[None]]:
        """Take up runs; returns what is done when they go on."""
        # Those that lost their lease and are on their way out let the others not wait for that.
        leaving = [handler for handler in handlers if handler.pk in self._runs]
        others = [handler for handler in handlers if handler.pk not in self._runs]
        portions = [others[first : first + PORTION] for first in range(0, len(others), PORTION)]
        return [self._take(portion) for portion in [*portions, *([handler] for handler in leaving)]]

    def _take(self, handlers: Sequence[Handler]) -> asyncio.Task[None]:
        self.under_way.update(handler.pk for handler in handlers)
        return self._spawn(self._resume(handlers), f"resume {', '.join(handler.run_id for handler in handlers)}")

    async def _resume(self, handlers: Sequence[Handler]) -> None:
        try:
            for handler in handlers:
                previous = self._runs.get(handler.pk)
                if previous is not None and previous.task is not None:
                    previous.interrupt()
                    await asyncio.wait([previous.task])
            await self._load(handlers)
        finally:
            for handler in handlers:
                self.under_way.discard(handler.pk)
                self._on_loaded(handler.pk)

    async def _load(self, handlers: Sequence[Handler]) -> None:
        claimed = [(registry.get(handler.workflow_name), handler) for handler in handlers]
        found: list[Beginning | Exception]
        try:
            async with self._limit:
                found = await database.read(replay.load, claimed)
        except Exception as error:
            if len(handlers) > 1 and not database.is_transient(error):
                # Each by itself, so that one hurts no other.
                for handler in handlers:
                    await self._load([handler])
                return
            found = [error] * len(handlers)
            if database.is_transient(error):
                # Not again at once.
                await asyncio.sleep(conf.get().POLL_INTERVAL)
        for (served, handler), beginning in zip(claimed, found, strict=True):
            if isinstance(beginning, Exception):
                self._failed(handler, beginning)
                continue
            self.unreadable.discard(handler.pk)
            run = self._launch(served, handler, beginning)
            if run is not None:
                run.log.info("the run goes on here")

    def _failed(self, handler: Handler, error: Exception) -> None:
        extra = {
            "handler_id": handler.handler_id,
            "run_id": handler.run_id,
            "workflow": handler.workflow_name,
        }
        if isinstance(error, LeaseLost):
            logger.warning("another process has taken the run over", extra=extra)
        elif database.is_transient(error):
            logger.warning("the run's journal could not be read, trying again: %s", error, extra=extra)
            self._let_go(leases.of(handler))
        else:
            # It stays with this worker, so that it is not tried over and over; the next start tries again.
            self.unreadable.add(handler.pk)
            logger.error(
                "the run cannot go on here, because its journal cannot be read: %s",
                error,
                exc_info=error,
                extra=extra,
            )
