"""A connection to SQLite on which an event loop writes by itself, without a thread.

What is committed goes into the write-ahead log, and unless ``synchronous`` is FULL that waits for no disk: it
takes less time than to wake up a thread, which then waits for its turn (the GIL) at each statement while the loop
computes. What may take long is left to threads: to wait for somebody's lock, and to bring the log into the
database.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Self, TypeVar

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_workflows import conf
from django_workflows.database.connections import alias, new_connection
from django_workflows.database.courier import ConnectionLost

logger = logging.getLogger("django_workflows.database")

T = TypeVar("T")

# Seconds of writing after which the log is brought into the database: about as often as SQLite would by itself,
# after 1,000 pages.
LOGGING = 0.05
# A transaction that takes so many seconds has met a slow disk, or is too large.
LONG = 0.1
# Then the thread writes for so many.
REST = 2.0


def open_connection() -> BaseDatabaseWrapper | None:
    """Open a connection for a :class:`Clerk`, in a thread; None where its commits would wait for the disk."""
    if conf.get().SQLITE_SYNCHRONOUS != "NORMAL":
        return None
    connection = new_connection()
    # Somebody's lock is waited for in the thread.
    connection.settings_dict["OPTIONS"]["timeout"] = 0
    connection.connect()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        (mode,) = cursor.fetchone()
        cursor.execute("PRAGMA wal_autocheckpoint = 0")
    if mode != "wal":
        connection.close()
        return None
    # It is used where the event loop runs.
    connection.inc_thread_sharing()
    return connection


class Clerk:
    """Writes transactions to SQLite for the running event loop.

    Args:
        connection: from :func:`open_connection`; it is the clerk's from now on.
    """

    # What is carried is written when it returns.
    is_immediate = True

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._raw: sqlite3.Connection = connection.connection
        # Django has the connections of an event loop in the context.
        self._context = contextvars.Context()
        self._context.run(connections.__setitem__, alias(), _Unguarded(connection))  # type: ignore[arg-type]
        self._log = _Log()
        # Seconds of writing since the log was brought into the database.
        self._written = 0.0
        # What brings most of it in, while it does.
        self._bringing: Future[None] | None = None
        self._rests_until = 0.0

    def gives_way(self) -> bool:
        """Whether the thread shall write next."""
        return time.monotonic() < self._rests_until

    def errand(self) -> Callable[[], None] | None:
        """Return what the thread shall do for it, in a transaction of its own: nobody else writes then.

        To bring in a log takes 10 ms, so most of it is brought in while the loop goes on writing. SQLite begins
        the log anew only when all of it is in the database: that is the errand.
        """
        if self._bringing is None:
            if self._written >= LOGGING:
                self._written = 0.0
                self._bringing = self._log.bring_in()
        elif self._bringing.done():
            self._bringing = None
            return self._log.bring_in_rest
        return None

    def carry(self, write: Callable[[], T]) -> T:
        """Write what a function writes, and commit it; returns what the function returns.

        Raises:
            ConnectionLost: nobody knows whether it is committed.
            Exception: nothing of it is written: somebody has the lock, a demand has failed, it cannot be stored.
        """
        began = time.monotonic()
        found = self._context.run(self._write, write)
        took = time.monotonic() - began
        self._written += took
        if took > LONG:
            logger.debug("a transaction took the event loop %.0f ms: the thread writes for a while", took * 1000)
            self._rests_until = began + took + REST
        return found

    def _write(self, write: Callable[[], T]) -> T:
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            found = write()
        except BaseException:
            # After some errors, SQLite has rolled back by itself.
            if self._raw.in_transaction:
                self._end("ROLLBACK")
            raise
        self._end("COMMIT")
        return found

    def _end(self, statement: str) -> None:
        try:
            self._raw.execute(statement)
        except sqlite3.Error as error:
            # Closed then, so that it keeps no lock.
            raise ConnectionLost from error

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()
        self._connection.connection = None
        self._log.close()


class _Log:
    """Brings the write-ahead log into the database, in a thread and on a connection of its own."""

    def __init__(self) -> None:
        # One thread: Python's sqlite3 does not survive that a connection is closed while it is used.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="django-workflows-log")
        self._connection: BaseDatabaseWrapper | None = None

    def bring_in(self) -> Future[None]:
        """Bring in what is in the log now."""
        return self._thread.submit(self._bring_in)

    def bring_in_rest(self) -> None:
        """Bring in what has come since, and wait for it; for a thread that keeps others from writing."""
        # Otherwise closed meanwhile.
        with contextlib.suppress(RuntimeError):
            self.bring_in().result()

    def close(self) -> None:
        """Close the connection, as soon as it is not used any more."""
        # Otherwise the interpreter ends, and closes it.
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _bring_in(self) -> None:
        try:
            if self._connection is None:
                connection = new_connection()
                connection.connect()
                self._connection = connection
            self._connection.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (Error, sqlite3.Error) as error:
            # The disk is full, for instance, of which whoever writes next will hear.
            logger.debug("the log was not brought into the database: %s", error)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _Unguarded:
    """Django's connection, with cursors also where an event loop runs; there, Django refuses its own."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def cursor(self) -> _Cursor:
        return _Cursor(self._connection.connection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _Cursor:
    """A cursor of SQLite's own for statements as Django writes them.

    Django's rewrites each statement at each execution, which takes 7 µs, and asks who wants to hear of it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = sqlite3.Cursor(connection)
        self.fetchall = self._cursor.fetchall

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def execute(self, sql: str, values: Sequence[Any]) -> None:
        self._cursor.execute(_with_marks(sql), values)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._cursor.executemany(_with_marks(sql), rows)


@lru_cache(maxsize=256)
def _with_marks(sql: str) -> str:
    """Write a statement's places as SQLite has them."""
    return re.sub("(?<!%)%s", "?", sql).replace("%%", "%")
