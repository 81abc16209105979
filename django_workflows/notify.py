"""Wake-up hints inside this process: "run R has reached sequence N", "there is mail".

A hint is never the truth. What is committed is in the database; whoever waits looks there when a hint comes,
and from time to time without one, so a lost hint costs latency and nothing else. Hints between processes go
over a channel layer on top of the same functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from django_workflows.eventlog import EventEntry

# A reader that has this many committed events waiting for it is no longer fed from memory: it goes back to
# reading the log from its own position, so a slow one costs no memory.
MAX_AHEAD = 1024


class Subscription:
    """One reader's view of one run: events that were committed while it watches, and a wake-up.

    Belongs to one event loop; use it only there.
    """

    def __init__(self, handler: int, run: int) -> None:
        self.handler = handler
        self.run = run
        self.loop = asyncio.get_running_loop()
        # Whether the run has ended; what is in memory are then its last events.
        self.ended = False
        # Committed events, contiguous, or None while the reader must look into the log.
        self._ahead: deque[EventEntry] | None = None
        self._woken = asyncio.Event()

    def follow(self) -> None:
        """Be fed from memory from now on. The reader then reads the log once more, to close the gap."""
        self._ahead = deque()

    def look(self) -> None:
        """Go back to the log: there may be something that was not handed over."""
        self._ahead = None

    def take(self, after: int) -> list[EventEntry] | None:
        """Return the committed events after a position that are in memory, None when the log must be read."""
        if self._ahead is None:
            return None
        events = [event for event in self._ahead if event.sequence > after]
        self._ahead.clear()
        if events and events[0].sequence != after + 1:
            self._ahead = None
            return None
        return events

    def offer(self, events: Sequence[EventEntry], ended: bool) -> None:
        """Hand committed events over; none, and no end, means that something else has changed."""
        if not events and not ended:
            self._ahead = None
        elif self._ahead is not None:
            if len(self._ahead) + len(events) > MAX_AHEAD:
                self._ahead = None
            else:
                self._ahead.extend(events)
        self.ended = self.ended or ended
        self._woken.set()

    async def wait(self, timeout: float) -> None:
        """Return when something may be there; after ``timeout`` seconds in any case, to look into the log."""
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            self._ahead = None
        self._woken.clear()


_lock = threading.Lock()
_subscriptions: dict[int, set[Subscription]] = defaultdict(set)
_mail_listeners: set[Callable[[], None]] = set()


def subscribe(handler: int, run: int) -> Subscription:
    """Watch a run from the running event loop, until :func:`unsubscribe`."""
    subscription = Subscription(handler, run)
    with _lock:
        _subscriptions[handler].add(subscription)
    return subscription


def unsubscribe(subscription: Subscription) -> None:
    with _lock:
        readers = _subscriptions.get(subscription.handler)
        if readers is not None:
            readers.discard(subscription)
            if not readers:
                del _subscriptions[subscription.handler]


def committed(handler: int, run: int, events: Sequence[EventEntry] = (), *, ended: bool = False) -> None:
    """Tell a run's readers that something of it was committed; from any thread.

    Args:
        handler: primary key of the handler.
        run: number of the run.
        events: the committed events, where the caller has them, in order.
        ended: whether the run's end was committed with them.
    """
    if not _subscriptions.get(handler):
        return
    here = _running_loop()
    with _lock:
        readers = set(_subscriptions.get(handler, ()))
    for reader in readers:
        # A reader of an earlier run of the handler is sent to the log, where it finds that its run is over.
        news = (events, ended) if reader.run == run else ((), False)
        if reader.loop is here:
            reader.offer(*news)
        else:
            _call(reader.loop, reader.offer, *news)


def on_mail(listener: Callable[[], None]) -> None:
    """Call ``listener``, from any thread, when mail or a run to claim may be there."""
    with _lock:
        _mail_listeners.add(listener)


def off_mail(listener: Callable[[], None]) -> None:
    with _lock:
        _mail_listeners.discard(listener)


def mail() -> None:
    """Say that a message was committed, or a run that somebody should claim; from any thread."""
    with _lock:
        listeners = list(_mail_listeners)
    for listener in listeners:
        listener()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    # A reader whose loop is closed is gone with it.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
