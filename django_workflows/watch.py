"""One look at the database for all in this process who wait for runs that are executed elsewhere, or by nobody.

Inside a process no hint is lost. Of what another has committed, hints may be, so somebody must look every
POLL_INTERVAL. If each who waits looked for itself, a thousand readers of runs that wait for an answer would keep a
processor busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from django_workflows import conf, database, eventlog, notify
from django_workflows.notify import Subscription
from django_workflows.runtime import supervisor

logger = logging.getLogger("django_workflows.watch")


@contextlib.contextmanager
def run(handler: int, run: int, *, until_end: bool = False) -> Iterator[Subscription]:
    """Be woken from the running event loop by what becomes of a run; see :func:`notify.subscribe`."""
    subscription = notify.subscribe(handler, run, until_end=until_end)
    watch = _watches.setdefault(subscription.loop, _Watch())
    watch.add(subscription)
    try:
        yield subscription
    finally:
        watch.discard(subscription)
        notify.unsubscribe(subscription)


class _Watch:
    """Those who wait on one event loop, and the task that looks for them."""

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
        current = supervisor.current()
        if current is None or not current.is_here:
            readers = list(self._readers)
        else:
            readers = [reader for reader in self._readers if current.run_of(reader.handler) is None]
        if not readers:
            return
        found = await database.read(eventlog.reached, {reader.handler for reader in readers})
        for reader in readers:
            if reader.misses(found.get(reader.handler)):
                reader.offer((), False)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()
