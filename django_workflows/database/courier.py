"""A connection to PostgreSQL whose answers an event loop waits for by itself, without a thread.

With a thread, each transaction wakes somebody up four times, and the thread waits twice for its turn (the GIL)
while the loop computes; both together took longer than PostgreSQL does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_workflows import conf
from django_workflows.database.connections import alias, new_connection
from django_workflows.database.trip import DemandFailed, Failure, Literals, Trip

logger = logging.getLogger("django_workflows.database")

T = TypeVar("T")


class ConnectionLost(Exception):
    """The connection broke, or cannot be used; nobody knows what became of a transaction that was under way."""


def open_connection() -> BaseDatabaseWrapper:
    """Open a connection for a :class:`Courier`, in a thread."""
    connection = new_connection()
    connection.connect()
    return connection


class Courier:
    """Carries transactions of one trip for the running event loop, one at a time.

    Args:
        connection: from :func:`open_connection`; it is the courier's from now on.
        on_answered: called with None when what was carried is committed; with DemandFailed or another error when
            nothing of it is written; and with ConnectionLost, also when nothing is under way.
    """

    # What is carried is written when it is answered.
    is_immediate = False

    def __init__(self, connection: BaseDatabaseWrapper, on_answered: Callable[[Exception | None], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._raw: Any = connection.connection
        self._libpq = self._raw.pgconn
        self._libpq.nonblocking = 1
        self._literals = Literals(connection)
        self._on_answered = on_answered
        self._trip: Trip | None = None
        self._results: list[Any] = []
        # Django has the connections of an event loop in the context.
        self._context = contextvars.Context()
        self._context.run(connections.__setitem__, alias(), connection)
        # Heartbeats go over another connection: who hears nothing on this one must not wait for longer than they
        # would be missed.
        self._patience = conf.get().LEASE_TIMEOUT
        self._asked_at = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._socket = self._libpq.socket
        self._loop.add_reader(self._socket, self._readable)

    def gives_way(self) -> bool:
        """Whether the thread shall write next: never, as nothing takes the loop long."""
        return False

    def errand(self) -> Callable[[], None] | None:
        """Return what the thread shall do for it: nothing."""
        return None

    def carry(self, write: Callable[[], T]) -> T:
        """Send what a function writes; returns what it returns, whose rows are there once it is committed.

        Raises:
            ConnectionLost: it could not be sent.
            Exception: it could not be put together: it asks the database, or holds what that cannot store.
        """
        trip = Trip(self._connection, self._literals)
        with trip.gathering():
            found = self._context.run(write)
        message = trip.message()
        try:
            self._libpq.send_query(message.encode(self._raw.info.encoding))
            self._trip = trip
            self._flush()
            self._asked_at = self._loop.time()
            if self._alarm is None:
                # It stays for those that follow.
                self._alarm = self._loop.call_later(self._patience, self._ring)
        except self._raw.OperationalError as error:
            self._trip = None
            trip.failed(None)
            raise ConnectionLost from error
        return found

    def close(self) -> None:
        """Close the connection; of what is under way nobody hears any more."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._raw.close()
        self._connection.connection = None

    def _ring(self) -> None:
        self._alarm = None
        if self._trip is None:
            return
        due = self._asked_at + self._patience
        if self._loop.time() < due:
            self._alarm = self._loop.call_at(due, self._ring)
            return
        with self._watching():
            raise self._raw.OperationalError(f"no answer for {self._patience:.0f} s")

    def _flush(self) -> None:
        if self._libpq.flush():
            # PostgreSQL takes it more slowly than it is sent.
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket)
        with self._watching():
            self._flush()

    def _readable(self) -> None:
        with self._watching():
            self._libpq.consume_input()
            while self._trip is not None and not self._libpq.is_busy():
                result = self._libpq.get_result()
                if result is None:
                    self._answered()
                else:
                    self._results.append(result)

    @contextlib.contextmanager
    def _watching(self) -> Any:
        try:
            yield
        except self._raw.OperationalError as error:
            trip, self._trip = self._trip, None
            if trip is not None:
                trip.failed(None)
            logger.warning("the connection on which the event loop writes was lost: %s", error)
            self._on_answered(ConnectionLost())

    def _answered(self) -> None:
        from psycopg import pq

        trip, self._trip = self._trip, None
        results, self._results = self._results, []
        assert trip is not None
        last = results[-1]
        if last.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            answers = [result for result in results if result.command_status != b"PREPARE"]
            trip.succeeded(partial(self._rows, answer) for answer in answers)
            self._on_answered(None)
            return
        state = last.error_field(pq.DiagnosticField.SQLSTATE)
        failure = trip.failed(None if state is None else state.decode())
        if failure is Failure.DEMAND:
            self._on_answered(DemandFailed())
        elif self._libpq.status == pq.ConnStatus.OK:
            self._on_answered(RuntimeError(last.error_message.decode(errors="replace").strip()))
        else:
            self._on_answered(ConnectionLost())

    def _rows(self, result: Any) -> list[tuple[Any, ...]]:
        from psycopg.adapt import Transformer

        transformer = Transformer(self._raw)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)
