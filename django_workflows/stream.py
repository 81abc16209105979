"""Reading a run's event log as it grows.

A reader catches up from its cursor in the database and is then fed from memory where its process executes the
run; everywhere else it reads again when a hint comes, or when the process's look at all such runs, every
POLL_INTERVAL, finds that there is more. While it waits it holds neither a thread nor a connection, and one that is
too slow goes back to the database instead of making others keep events for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import AsyncGenerator
from weakref import WeakKeyDictionary

from django_workflows import conf, database, eventlog, notify
from django_workflows.eventlog import EventEntry
from django_workflows.models import Handler
from django_workflows.notify import Subscription
from django_workflows.runtime import supervisor

logger = logging.getLogger("django_workflows.stream")

# Events read at once: few to begin with, then more, as long as they are not too much to hold for every reader.
FIRST_PAGE = 16
PAGE = 500
PAGE_CHARACTERS = 1024 * 1024
# Seconds after which a reader looks for itself, whatever it has not heard.
PATIENCE = 30.0


async def subscribe(
    handler: int, run: int, after: int, *, heartbeat: float | None = None, internal: bool = True
) -> AsyncGenerator[list[EventEntry] | None, None]:
    """Yield the events of a run after a position, in order and without a gap, and end after its last one.

    Args:
        handler: primary key of the handler.
        run: number of the run.
        after: position of the last event that the reader has, -1 for none.
        heartbeat: seconds of silence after which None is yielded; None for never.
        internal: with internal events.

    Ends also when the handler is deleted or continued with another run, and when this process begins to end.
    """
    if _is_draining():
        return
    subscription = notify.subscribe(handler, run)
    watch = _watches.setdefault(subscription.loop, _Watch())
    now = subscription.loop.time
    limit = FIRST_PAGE
    look_at = math.inf
    beat_at = math.inf if heartbeat is None else now() + heartbeat
    try:
        while True:
            events = subscription.take(after)
            if events is None:
                # From here on commits are kept for us, so that none falls between the read and the wait.
                subscription.follow()
                ended, page = await database.read(_page, handler, run, after, limit)
                if len(page) == limit:
                    subscription.look()
                    limit = _next_limit(page)
                elif ended:
                    if wanted := page if internal else _public(page):
                        yield wanted
                    return
                events = page
                watch.add(subscription)
                look_at = now() + PATIENCE
            if events:
                after = events[-1].sequence
                if wanted := events if internal else _public(events):
                    yield wanted
                look_at = now() + PATIENCE
                beat_at = math.inf if heartbeat is None else now() + heartbeat
            elif subscription.ended:
                return
            elif subscription.nudged:
                subscription.nudged = False
                if _is_draining():
                    return
            elif not await subscription.wait(min(look_at, beat_at)):
                if now() >= look_at:
                    # Hints may be lost.
                    subscription.look()
                if now() >= beat_at:
                    beat_at += heartbeat or 0
                    yield None
    finally:
        watch.discard(subscription)
        notify.unsubscribe(subscription)


def _public(events: list[EventEntry]) -> list[EventEntry]:
    return [event for event in events if not event.internal]


def _is_draining() -> bool:
    current = supervisor.current()
    return current is not None and current.draining.is_set()


class _Watch:
    """One look at the database for all readers on an event loop whose runs are executed elsewhere, or by nobody.

    If each looked for itself, a thousand readers of runs that wait would keep a processor busy.
    """

    def __init__(self) -> None:
        self._readers: set[Subscription] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, reader: Subscription) -> None:
        self._readers.add(reader)
        if self._task is None:
            looking = self._look_again_and_again()
            self._task = reader.loop.create_task(looking, name="look for events", context=contextvars.Context())

    def discard(self, reader: Subscription) -> None:
        self._readers.discard(reader)
        if not self._readers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(conf.get().POLL_INTERVAL)
            try:
                await self._look()
            except Exception as error:
                logger.warning("looking for events of other processes failed: %s", error)

    async def _look(self) -> None:
        readers = [reader for reader in self._readers if not _is_executed_here(reader.handler)]
        if not readers:
            return
        found = await database.read(eventlog.reached, {reader.handler for reader in readers})
        for reader in readers:
            if found.get(reader.handler) != (reader.run, reader.position):
                reader.offer((), False)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


def _is_executed_here(handler: int) -> bool:
    """Whether a run is in this process's memory: inside a process no hint is lost."""
    current = supervisor.current()
    return current is not None and current.is_here and current.run_of(handler) is not None


def _next_limit(page: list[EventEntry]) -> int:
    if sum(len(event.data) for event in page) > PAGE_CHARACTERS:
        return max(len(page) // 2, 1)
    return min(len(page) * 2, PAGE)


def _page(handler: int, run: int, after: int, limit: int) -> tuple[bool, list[EventEntry]]:
    """Read the next events; first whether the run has ended, so that its last events are seen when it has."""
    found = Handler.objects.using(database.alias()).filter(pk=handler).values_list("run", "status").first()
    ended = found is None or found != (run, Handler.Status.RUNNING)
    return ended, eventlog.read(handler, run, after, limit)
