"""Wake-up hints: "run R has reached sequence N", "there is mail for worker W".

A hint is never the truth. What is committed is in the database; whoever waits looks there when a hint comes,
and from time to time without one, so a lost hint costs latency and nothing else. What is said here reaches this
process at once, and the others through a :class:`Relay`.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from django_workflows.eventlog import EventEntry

# A reader that has this many committed events, or characters of them, waiting for it is no longer fed from memory:
# it goes back to reading the log from its own position, so a slow one costs no memory.
MAX_AHEAD = 1024
MAX_AHEAD_CHARACTERS = 1024 * 1024


class Subscription:
    """One reader's view of one run: events that were committed while it watches, and a wake-up.

    Belongs to one event loop; use it only there.

    Args:
        handler: primary key of the handler.
        run: number of the run.
        until_end: whether the reader waits for the run's end, and is not woken by events before it.
    """

    def __init__(self, handler: int, run: int, *, until_end: bool = False) -> None:
        self.handler = handler
        self.run = run
        self._until_end = until_end
        self.loop = asyncio.get_running_loop()
        # Whether the run has ended; what is in memory are then its last events.
        self.ended = False
        # Whether it was woken by :meth:`nudge`; for the reader to reset.
        self.nudged = False
        # Position that the reader has reached, as far as we know.
        self._position = -1
        # Committed events, contiguous, or None while the reader must look into the log.
        self._ahead: deque[EventEntry] | None = None
        self._characters = 0
        self._is_woken = False
        # Resolved when the wait that is under way shall end.
        self._waiter: asyncio.Future[None] | None = None
        self._until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def position(self) -> int:
        """Position of the last event that the reader is known to have, -1 before the first."""
        return self._position

    def follow(self) -> None:
        """Be fed from memory from now on. The reader then reads the log once more, to close the gap."""
        self._ahead = deque()
        self._characters = 0

    def look(self) -> None:
        """Go back to the log: there may be something that was not handed over."""
        self._ahead = None

    def take(self, after: int) -> list[EventEntry] | None:
        """Return the committed events after a position that are in memory, None when the log must be read."""
        self._position = after
        if self._ahead is None:
            return None
        events = [event for event in self._ahead if event.sequence > after]
        self._ahead.clear()
        self._characters = 0
        if events and events[0].sequence != after + 1:
            self._ahead = None
            return None
        return events

    def misses(self, reached: tuple[int, int] | None) -> bool:
        """Whether there is something for the reader, given how far the handler is (:func:`eventlog.reached`)."""
        if reached is None or self._until_end:
            return reached is None or reached[0] != self.run
        return reached != (self.run, self._position)

    def offer(self, events: Sequence[EventEntry], ended: bool) -> None:
        """Hand committed events over; none, and no end, means that something else has changed."""
        if self._until_end and events and not ended:
            return
        if not events and not ended:
            self._ahead = None
        elif self._ahead is not None:
            self._characters += sum(len(event.data) for event in events)
            if len(self._ahead) + len(events) > MAX_AHEAD or self._characters > MAX_AHEAD_CHARACTERS:
                self._ahead = None
            else:
                self._ahead.extend(events)
        self.ended = self.ended or ended
        self._wake()

    def hear(self, run: int, sequence: int) -> None:
        """Take a hint from another process; see :meth:`Relay.progress`."""
        if run != self.run or sequence < 0 or (sequence > self._position and not self._until_end):
            self.offer((), False)

    def nudge(self) -> None:
        """Wake the reader to look around, at something else than the run."""
        self.nudged = True
        self._wake()

    async def wait(self, until: float) -> bool:
        """Return when something may be there; at a moment of the loop's clock in any case, and then False.

        The moment may be infinitely far away.
        """
        if not self._is_woken:
            self._until = until
            if until < math.inf and (self._alarm is None or until < self._alarm.when()):
                self._set_alarm()
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        is_woken, self._is_woken = self._is_woken, False
        return is_woken

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _wake(self) -> None:
        self._is_woken = True
        self._end_wait()

    def _end_wait(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_alarm(self) -> None:
        """Call :meth:`_ring` when the wait shall end.

        It stays when the wait ends earlier: a reader of many events would set and cancel one for each of them.
        """
        self.close()
        self._alarm = self.loop.call_at(self._until, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self.loop.time() >= self._until:
            self._end_wait()
        elif self._waiter is not None and self._until < math.inf:
            self._set_alarm()


class Relay(Protocol):
    """What passes hints on to other processes. It must neither block nor raise."""

    def progress(self, handler: int, run: int, sequence: int) -> None:
        """A run's events up to a position are committed; -1 when its end is, or something else has changed."""

    def mail(self, worker: int | None) -> None:
        """There is mail for a worker, or (None) a run that anybody may claim."""

    def listen(self) -> None:
        """Somebody in this process waits for hints from now on."""


# Called with the worker that has mail, or None; True when it is this process's, so that others need not hear.
MailListener = Callable[[int | None], bool]

_lock = threading.Lock()
_subscriptions: dict[int, set[Subscription]] = defaultdict(set)
_mail_listeners: set[MailListener] = set()
_relay: Relay | None = None


def pass_on_to(relay: Relay | None) -> None:
    """Pass hints on to other processes from now on."""
    global _relay
    _relay = relay


def subscribe(handler: int, run: int, *, until_end: bool = False) -> Subscription:
    """Hear of a run on the running event loop, until :func:`unsubscribe`; see :class:`Subscription`."""
    if _relay is not None:
        _relay.listen()
    subscription = Subscription(handler, run, until_end=until_end)
    with _lock:
        _subscriptions[handler].add(subscription)
    return subscription


def unsubscribe(subscription: Subscription) -> None:
    subscription.close()
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
    if _relay is not None:
        _relay.progress(handler, run, events[-1].sequence if events and not ended else -1)

    def tell(reader: Subscription) -> None:
        # A reader of an earlier run of the handler is sent to the log, where it finds that its run is over.
        reader.offer(*((events, ended) if reader.run == run else ((), False)))

    _tell(_readers(handler), tell)


def on_mail(listener: MailListener) -> None:
    """Call ``listener``, from any thread, when mail or a run to claim may be there."""
    with _lock:
        _mail_listeners.add(listener)
    if _relay is not None:
        _relay.listen()


def off_mail(listener: MailListener) -> None:
    with _lock:
        _mail_listeners.discard(listener)


def mail(worker: int | None = None) -> None:
    """Say that a message was committed, or a run that somebody should claim; from any thread.

    Args:
        worker: primary key of the worker that executes the message's run, None when anybody may claim it.
    """
    if not hear_mail(worker) and _relay is not None:
        _relay.mail(worker)


# --- what other processes say ------------------------------------------------------------------------


def hear_progress(handler: int, run: int, sequence: int) -> None:
    """Tell this process's readers of a run what another process has said; see :meth:`Relay.progress`."""
    _tell(_readers(handler), lambda reader: reader.hear(run, sequence))


def hear_mail(worker: int | None) -> bool:
    """Tell this process of mail; True when it is for this process's own worker."""
    with _lock:
        listeners = list(_mail_listeners)
    return any([listener(worker) for listener in listeners])


def look_again() -> None:
    """Let everybody in this process look into the database once: hints may have been lost."""
    _tell(_all_readers(), lambda reader: reader.offer((), False))
    hear_mail(None)


def nudge() -> None:
    """Wake all readers in this process to look around: it begins to end."""
    _tell(_all_readers(), Subscription.nudge)


# --- delivery ----------------------------------------------------------------------------------------


def _readers(handler: int) -> set[Subscription]:
    if not _subscriptions.get(handler):
        return set()
    with _lock:
        return set(_subscriptions.get(handler, ()))


def _all_readers() -> list[Subscription]:
    with _lock:
        return [reader for watching in _subscriptions.values() for reader in watching]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


# What the readers on an event loop shall be told at its next wake-up.
_untold: dict[asyncio.AbstractEventLoop, list[tuple[list[Subscription], Callable[[Subscription], None]]]] = {}


def _tell(readers: Iterable[Subscription], tell: Callable[[Subscription], None]) -> None:
    """Tell readers something on their event loops, each of which is woken once for all that was said meanwhile."""
    here = _running_loop()
    by_loop: dict[asyncio.AbstractEventLoop, list[Subscription]] = {}
    for reader in readers:
        by_loop.setdefault(reader.loop, []).append(reader)
    for loop, told in by_loop.items():
        if loop is here:
            _tell_each(told, tell)
            continue
        with _lock:
            waiting = _untold.setdefault(loop, [])
            waiting.append((told, tell))
            if len(waiting) > 1:
                continue
        try:
            loop.call_soon_threadsafe(_tell_all, loop)
        except RuntimeError:
            # A reader whose loop is closed is gone with it.
            _untold.pop(loop, None)


def _tell_all(loop: asyncio.AbstractEventLoop) -> None:
    with _lock:
        waiting = _untold.pop(loop, ())
    for readers, tell in waiting:
        _tell_each(readers, tell)


def _tell_each(readers: Iterable[Subscription], tell: Callable[[Subscription], None]) -> None:
    for reader in readers:
        tell(reader)
