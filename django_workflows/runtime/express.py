"""What a process writes, in line: by the writer's thread, or where possible by the event loop itself.

Where the database takes a transaction in one message (PostgreSQL), or without waiting for a disk (SQLite), the
event loop writes what is usual without a thread in between. The thread does everything else, and whatever fails:
it tells why, tries again, and finds out whose lease it was.

There is one order: while the thread is at work the loop writes nothing, and the thread gets nothing while
something of the loop's is under way. So what it reads is all that was written before, and nothing of what is
written later. When the thread takes long, as it does with what is put off for another try, it gets the usual as
well, and writes that meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django_workflows import database, threads
from django_workflows.runtime import lull

logger = logging.getLogger("django_workflows.writer")

# Seconds that what is usual waits for the thread before it goes there too.
PATIENCE = 0.05

# Seconds that requests gather while the event loop is busy, where a transaction is over as soon as it is begun.
GATHERING = 0.008

Waiting = tuple[Any, asyncio.Future[Any]]


class Express:
    """The line of one event loop.

    Args:
        is_usual: whether a request needs nothing from the database but that it is written.
        write: writes usual ones in a transaction under way; returns what gives their results after it.
        hand_over: gives a request to the thread; returns a future of the running loop.
        on_committed: called with each request that the event loop has written.
        on_failed: called when nobody knows what became of a transaction.
        most: requests in one transaction.
    """

    def __init__(
        self,
        *,
        is_usual: Callable[[Any], bool],
        write: Callable[[Sequence[Any]], Callable[[], list[Any]]],
        hand_over: Callable[[Any], asyncio.Future[Any]],
        on_committed: Callable[[Any], None],
        on_failed: Callable[[], None],
        most: int,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._is_usual = is_usual
        self._write = write
        self._hand_over = hand_over
        self._on_committed = on_committed
        self._on_failed = on_failed
        self._most = most
        self._carrier: database.Carrier | None = None
        self._usual: deque[Waiting] = deque()
        self._others: deque[Waiting] = deque()
        # What is on its way, with what gives its results.
        self._carried: tuple[list[Waiting], Callable[[], list[Any]]] | None = None
        # How many the thread has.
        self._in_thread = 0
        # Whether others come first, since usual ones were written last.
        self._others_first = False
        self._is_due = False
        self._lull = lull.Lull(self.loop, GATHERING)
        # What runs out when the thread takes long, and whether it has.
        self._timer: asyncio.TimerHandle | None = None
        self._is_impatient = False
        self._arrived: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def has_carrier(self) -> bool:
        return self._carrier is not None or self._closed

    def use(self, connection: Any) -> None:
        """Write on a connection of :func:`database.open_connection` from now on."""
        carrier = database.carrier(connection, self._answered)
        if self.has_carrier:
            carrier.close()
        else:
            self._carrier = carrier

    def submit(self, request: Any) -> asyncio.Future[Any]:
        """Write a request in one of the next transactions; see :meth:`Writer.submit`."""
        future: asyncio.Future[Any] = self.loop.create_future()
        (self._usual if self._is_usual(request) else self._others).append((request, future))
        if self._carrier is None:
            self._go_on()
        elif self._carrier.is_immediate and not self._is_due:
            # Others will have something to write until the loop has nothing else to do.
            self._is_due = True
            self._lull.wait(self._go_on)
        else:
            # Others will in the same turn of the loop, and then while this is on its way.
            self._go_on_soon()
        return future

    async def close(self) -> None:
        """Wait for what is under way, and leave the rest to the thread."""
        self._closed = True
        if self._carried is not None:
            self._arrived = self.loop.create_future()
            await self._arrived
        self.abandon()
        self._go_on()

    def abandon(self) -> None:
        """Close the connection; of what is under way nobody hears any more."""
        self._closed = True
        self._lose()

    # --- the line -------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        self._is_due = False
        if self._carried is not None:
            return
        if self._carrier is None or self._closed or self._is_impatient:
            self._leave_to_thread(self._usual)
            self._leave_to_thread(self._others)
        elif self._in_thread:
            return
        elif self._others and (self._others_first or not self._usual):
            self._others_first = False
            self._leave_to_thread(self._others)
        elif self._usual and self._carrier.gives_way():
            self._leave_to_thread(self._usual)
        elif self._usual:
            self._others_first = True
            self._carry([self._usual.popleft() for _ in range(min(len(self._usual), self._most))])

    def _go_on_soon(self) -> None:
        if not self._is_due and (self._usual or self._others):
            self._is_due = True
            self.loop.call_soon(self._go_on)

    def _leave_to_thread(self, waiting: deque[Waiting]) -> None:
        if waiting and self._timer is None:
            self._timer = self.loop.call_later(PATIENCE, self._lose_patience)
        while waiting:
            request, future = waiting.popleft()
            self._in_thread += 1
            self._hand_over(request).add_done_callback(partial(self._done, future))

    def _lose_patience(self) -> None:
        self._is_impatient = True
        self._go_on()

    def _done(self, future: asyncio.Future[Any], answered: asyncio.Future[Any]) -> None:
        self._in_thread -= 1
        error = answered.exception()
        threads.give([(future, None if error else answered.result(), error)])
        if not self._in_thread:
            assert self._timer is not None
            self._timer.cancel()
            self._timer, self._is_impatient = None, False
            self._go_on()

    def _carry(self, batch: list[Waiting]) -> None:
        assert self._carrier is not None
        requests = [request for request, _ in batch]
        try:
            self._carried = batch, self._carrier.carry(lambda: self._write(requests))
        except database.ConnectionLost:
            self._lose()
            self._on_failed()
            self._leave_to_thread(deque(batch))
        except Exception as error:
            # Somebody has the lock, a demand has failed, or it cannot be stored; or it was never asked before and
            # has to be written out.
            logger.debug("left to the thread: %s", error)
            self._leave_to_thread(deque(batch))
        else:
            if self._carrier.is_immediate:
                self._answered(None)

    def _answered(self, error: Exception | None) -> None:
        carried, self._carried = self._carried, None
        if isinstance(error, database.ConnectionLost):
            self._lose()
        if carried is not None:
            batch, results = carried
            if error is None:
                self._send_on_errand()
                if self._carrier is not None and self._carrier.is_immediate:
                    self._go_on_soon()
                else:
                    # The next one can be on its way while those of this one are told.
                    self._go_on()
                answers = [(future, result, None) for (_, future), result in zip(batch, results(), strict=True)]
                threads.give(answers)
                for request, _ in batch:
                    self._on_committed(request)
            else:
                if not isinstance(error, database.DemandFailed):
                    self._on_failed()
                self._leave_to_thread(deque(batch))
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _send_on_errand(self) -> None:
        errand = self._carrier.errand() if self._carrier is not None else None
        if errand is not None:
            self._others.append((errand, self.loop.create_future()))

    def _lose(self) -> None:
        if self._carrier is not None:
            self._carrier.close()
            self._carrier = None
