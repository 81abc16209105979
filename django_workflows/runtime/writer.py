"""Group commit: one thread with one connection writes what everybody in this process has to write.

Whoever has something to write submits it and awaits a future. The thread takes what has gathered into one
transaction, commits, and resolves the futures: so the price of a commit is shared by all that waited for one,
the event loop is never blocked, and nobody hears of a success that is not on disk.

A request that cannot be written must not hurt the others. When a transaction fails and the database is there,
its requests are repeated one by one; when the database is not there (or says that another try may help), each
is put off by PERSISTENCE_BACKOFF and, after the last try, refused with PersistenceFailed. What the database closes
the connection on again and again, while it answers everything else, is too large for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connections

from django_workflows import conf, database, handlers, threads
from django_workflows.exceptions import LeaseLost, PersistenceFailed, TooLarge, WorkflowsError
from django_workflows.handlers import Start
from django_workflows.runtime.express import Express
from django_workflows.runtime.writes import Changes, Request, commit, is_usual, tell, write_usual

logger = logging.getLogger("django_workflows.writer")

# A transaction takes at most this many requests, so that the first of them does not wait for long.
MAX_BATCH = 256
# After a transaction with so many requests, those whom it has woken are about to send their next ones. So many
# seconds are given to them to share a transaction again (PostgreSQL's commit_siblings and commit_delay). Where it
# is one trip, most of its work is the server's: then some are better prepared while others are written.
CROWD = 5
GATHERING = 0.0005
# Connections that the database has answered on, and then closes on one write, until that is the write's own fault.
MAX_CLOSED = 3
# Seconds that the thread rests after what nobody has thought of, since it may happen again at once.
RECOVERY = 0.1


@dataclass(slots=True)
class _Submitted:
    request: Request
    # Called in the writer's thread with (result, error); the first answer counts.
    reply: Callable[[Any, BaseException | None], None]
    attempts: int = 0
    # Connections that were lost on it alone while the database was there.
    closed: int = 0


class Writer:
    """The writing thread of a process.

    Args:
        on_interval: called in the thread every ``interval`` seconds, with the thread's connection; for the
            worker's heartbeat, which must not depend on an event loop that a step may block.
        interval: seconds.
    """

    def __init__(self, *, on_interval: Callable[[], None] | None = None, interval: float = 10.0) -> None:
        self._queue: queue.SimpleQueue[_Submitted | None] = queue.SimpleQueue()
        self._postponed: list[tuple[float, int, _Submitted]] = []
        self._order = itertools.count()
        self._on_interval = on_interval
        self._interval = interval
        self._next_interval = time.monotonic() + interval
        self._next_connection = 0.0
        self._stopping = False
        self._last_batch = 0
        # How many transactions the database has failed. Of one that failed in its commit nobody knows whether it
        # took place.
        self.failures = 0
        self._express: Express | None = None
        self._replies: dict[asyncio.AbstractEventLoop, list[threads.Answer]] = {}
        self._thread = threading.Thread(target=self._run, name="django-workflows-writer", daemon=True)

    def start(self) -> None:
        """Begin; on an event loop, which then writes what it can by itself (see ``express``)."""
        if database.writes_on_loop():
            self._express = Express(
                is_usual=is_usual,
                write=write_usual,
                hand_over=self._hand_over,
                on_committed=tell,
                on_failed=self._count_failure,
                most=MAX_BATCH,
            )
        self._thread.start()

    async def close(self) -> None:
        """Write what was submitted, without further retries, and end the thread."""
        if self._express is not None:
            await self._express.close()
        # A thread may have to be made for it: the loop's own may be at work for steps.
        with database.ManagedExecutor(1) as joining:
            await asyncio.get_running_loop().run_in_executor(joining, self.stop)

    def stop(self, timeout: float | None = None) -> None:
        """As :meth:`close`, of what the thread has got."""
        self._queue.put(None)
        self._thread.join(timeout)

    def submit(self, request: Request) -> asyncio.Future[Any]:
        """Write a request in one of the next transactions; from an event loop.

        Returns a future with the result once it is committed: None for Changes, the Handler for a Start, what
        it returned for a callable. It raises LeaseLost, PersistenceFailed, or what the callable raised.
        """
        if self._express is not None and self._express.loop is asyncio.get_running_loop():
            return self._express.submit(request)
        return self._hand_over(request)

    def _hand_over(self, request: Request) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def reply(result: Any, error: BaseException | None) -> None:
            self._replies.setdefault(loop, []).append((future, result, error))

        self._queue.put(_Submitted(request, reply))
        return future

    def _count_failure(self) -> None:
        self.failures += 1

    # --- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        database.own_connection()
        try:
            while not (self._stopping and self._queue.empty()):
                self._turn()
            for _, _, submitted in self._postponed:
                submitted.reply(None, PersistenceFailed())
            self._deliver()
        finally:
            database.drop_connection()

    def _turn(self) -> None:
        """Write once what there is; should that fail in a way that nobody has thought of, the thread goes on."""
        batch: list[_Submitted] = []
        try:
            self._gather(batch)
            if batch:
                self._write(batch)
                self._deliver()
                self._lend_connection()
            self._interval_passed()
        except BaseException as error:
            logger.critical("the writer failed unexpectedly, and refuses what it had to write", exc_info=error)
            self.failures += 1
            database.drop_connection()
            postponed = {id(submitted) for _, _, submitted in self._postponed}
            for submitted in batch:
                if id(submitted) not in postponed:
                    # Who has an answer already keeps it.
                    submitted.reply(None, PersistenceFailed())
            self._deliver()
            time.sleep(RECOVERY)

    def _gather(self, batch: list[_Submitted]) -> None:
        """Wait for something to write and take what else is there."""
        now = time.monotonic()
        until = self._next_interval
        if self._postponed:
            until = min(until, self._postponed[0][0])
        with contextlib.suppress(queue.Empty):
            self._take(self._queue.get(timeout=max(0.0, until - now)), batch)
            if self._last_batch >= CROWD and not database.takes_one_trip():
                time.sleep(GATHERING)
            while len(batch) < MAX_BATCH:
                self._take(self._queue.get_nowait(), batch)
        self._last_batch = len(batch)
        now = time.monotonic()
        while self._postponed and self._postponed[0][0] <= now:
            batch.append(heapq.heappop(self._postponed)[2])

    def _take(self, submitted: _Submitted | None, batch: list[_Submitted]) -> None:
        if submitted is None:
            self._stopping = True
        else:
            batch.append(submitted)

    def _write(self, batch: Sequence[_Submitted]) -> None:
        usual = [submitted for submitted in batch if is_usual(submitted.request)]
        if 0 < len(usual) < len(batch) and database.takes_one_trip():
            # What goes in one trip needs not wait for what does not.
            others = [submitted for submitted in batch if not is_usual(submitted.request)]
            self._write(usual)
            self._write(others)
            return
        try:
            results = commit([submitted.request for submitted in batch])
        except Exception as error:
            self._failed(batch, error)
            return
        for submitted, result in zip(batch, results, strict=True):
            if isinstance(result, LeaseLost):
                submitted.reply(None, result)
            else:
                submitted.reply(result, None)
                tell(submitted.request)

    def _failed(self, batch: Sequence[_Submitted], error: Exception) -> None:
        if not isinstance(error, WorkflowsError):
            self.failures += 1
        is_lost = database.is_connection_lost(error)
        available = _database_answers()
        if len(batch) > 1 and available:
            for submitted in batch:
                self._write([submitted])
                # Each may have to wait for somebody's lock.
                self._interval_passed()
            return
        for submitted in batch:
            request = submitted.request
            if isinstance(error, WorkflowsError):
                submitted.reply(None, error)
            elif isinstance(error, IntegrityError) and isinstance(request, Changes):
                # Somebody else wrote this position of the journal: the constraint behind the fence.
                submitted.reply(None, LeaseLost())
            elif isinstance(error, IntegrityError) and isinstance(request, Start):
                self._settle_start(submitted, request)
            elif is_lost and available:
                self._closed_on(submitted, error)
            elif database.is_transient(error):
                self._postpone(submitted, error)
            else:
                logger.error("a write failed for good: %s", error, exc_info=error)
                submitted.reply(None, error)

    def _settle_start(self, submitted: _Submitted, request: Start) -> None:
        """Answer a start whose row is there already: it is ours when an earlier try was committed unheard."""
        try:
            found = handlers.of_run(request.run_id)
        except Exception as error:
            self._postpone(submitted, error)
            return
        submitted.reply(found, None if found is not None else PersistenceFailed())

    def _closed_on(self, submitted: _Submitted, error: Exception) -> None:
        """Try again at once what a connection was lost on, on the one that has just answered.

        MySQL and MariaDB say in no other way that a statement is longer than max_allowed_packet.
        """
        submitted.closed += 1
        if submitted.closed <= MAX_CLOSED:
            self._write([submitted])
            return
        logger.error("the database closes every connection on a write: %s", error, exc_info=error)
        refused = TooLarge(
            "The database closes the connection on it: it is probably larger than it takes (max_allowed_packet)"
        )
        refused.__cause__ = error
        submitted.reply(None, refused)

    def _postpone(self, submitted: _Submitted, error: Exception) -> None:
        backoff = conf.get().PERSISTENCE_BACKOFF
        if submitted.attempts >= len(backoff) or self._stopping:
            logger.error("a write failed %d times, giving up: %s", submitted.attempts + 1, error, exc_info=error)
            refused = PersistenceFailed()
            refused.__cause__ = error
            submitted.reply(None, refused)
            return
        delay = backoff[submitted.attempts]
        submitted.attempts += 1
        logger.warning("a write failed, trying again in %.1f s: %s", delay, error)
        heapq.heappush(self._postponed, (time.monotonic() + delay, next(self._order), submitted))

    def _lend_connection(self) -> None:
        """Open a connection for the event loop, unless it has one or was offered one lately."""
        express, now = self._express, time.monotonic()
        if express is None or express.has_carrier or now < self._next_connection or self._stopping:
            return
        self._next_connection = now + self._interval
        try:
            connection = database.open_connection()
        except Exception as error:
            logger.warning("the event loop gets no connection, so the thread writes everything: %s", error)
            return
        if connection is not None:
            try:
                express.loop.call_soon_threadsafe(express.use, connection)
            except RuntimeError:
                # A loop that is closed needs none.
                connection.close()

    def _deliver(self) -> None:
        """Resolve the futures of a batch with one wake-up of each event loop."""
        replies, self._replies = self._replies, {}
        for loop, results in replies.items():
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(threads.give, results)

    def _interval_passed(self) -> None:
        if time.monotonic() < self._next_interval:
            return
        self._next_interval = time.monotonic() + self._interval
        if self._on_interval is not None:
            try:
                self._on_interval()
            except Exception as error:
                logger.warning("the heartbeat failed: %s", error)
                database.drop_connection()


def _database_answers() -> bool:
    """Reconnect after an error and tell whether the database is there."""
    database.drop_connection()
    try:
        with connections[database.alias()].cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except Exception:
        database.drop_connection()
        return False
    return True
