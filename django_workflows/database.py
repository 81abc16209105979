"""What differs between databases, with the reason; and connections for our own threads.

Everything else in the app goes through the ORM and does not know which database it talks to.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import (
    DEFAULT_DB_ALIAS,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connections,
    models,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler

from django_workflows import conf

logger = logging.getLogger("django_workflows.database")

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)

# SQLite waits this long for another process's transaction; four writing processes were seen to need 4.9 s.
SQLITE_TIMEOUT = 30.0
# Threads that read for streams and replays; the queries are short.
READERS = 4


def alias() -> str:
    """Return the alias of the database that holds the app's tables."""
    return conf.get().DATABASE


if TYPE_CHECKING:
    _CharField = models.CharField[str, str]
else:
    # Generic for type checkers alone.
    _CharField = models.CharField


class IdentifierField(_CharField):
    """A CharField that compares byte by byte on every database.

    MySQL and MariaDB compare case-insensitively by default, so ``abc`` would find the run of ``ABC``.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        column = super().db_type(connection)
        if connection.vendor == "mysql":
            return f"{column} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return column


class DocumentField(models.TextField):  # type: ignore[type-arg]  # str, or str and None with null=True
    """A TextField that holds every character on every database.

    MySQL's default character set may be one of three bytes, which has no emoji.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        if connection.vendor == "mysql":
            return "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return super().db_type(connection)


class DatabaseNow(Now):
    """The database's own clock in UTC, the one clock that every process shares.

    On MySQL, ``CURRENT_TIMESTAMP`` follows the session's time zone, which Django leaves alone while it
    stores UTC.
    """

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


def insert(model: type[M], rows: list[M]) -> list[M]:
    """Insert rows in one statement and fill in their primary keys.

    MySQL cannot return the keys of several rows, so there each is a statement.
    """
    using = alias()
    if len(rows) == 1 or not connections[using].features.can_return_rows_from_bulk_insert:
        for row in rows:
            row.save(using=using, force_insert=True)
        return rows
    return model._default_manager.using(using).bulk_create(rows)


def upsert(model: type[M], rows: list[M], *, key: list[str], update: list[str]) -> None:
    """Insert rows, or update the columns ``update`` of those whose ``key`` is there already."""
    using = alias()
    # MySQL finds the violated constraint by itself and refuses to be told which.
    named = connections[using].features.supports_update_conflicts_with_target
    model._default_manager.using(using).bulk_create(
        rows, update_conflicts=True, unique_fields=key if named else None, update_fields=update
    )


def locked(queryset: models.QuerySet[M], *, skip_locked: bool = False) -> models.QuerySet[M]:
    """Lock the rows until the transaction ends, without hindering foreign keys to them where possible.

    SQLite has no row locks; there a transaction that writes is alone.
    """
    features = connections[alias()].features
    return queryset.select_for_update(
        no_key=features.has_select_for_no_key_update,
        skip_locked=skip_locked and features.has_select_for_update_skip_locked,
    )


@contextmanager
def atomic() -> Iterator[None]:
    """A transaction on the app's database, joined to the caller's when there is one."""
    with transaction.atomic(using=alias()):
        yield


def is_transient(error: BaseException) -> bool:
    """Tell whether repeating the transaction may succeed.

    Lost connections, locks, deadlocks and serialization failures are operational; what the data itself
    causes (a constraint, a value that the column cannot hold) would fail again.
    """
    if isinstance(error, (IntegrityError, DataError)):
        return False
    return isinstance(error, Error)


# --- connections of our own threads ------------------------------------------------------------------


def own_connection() -> BaseDatabaseWrapper:
    """Give this thread a connection of its own to write with; for a thread that we started.

    SQLite gets what several writing processes need, whatever the site has configured: write-ahead log,
    transactions that take the write lock when they begin (a deferred one fails at once with "database is
    locked" when it is upgraded), and a timeout that outlasts the others' transactions.
    """
    using = alias()
    connection = connections[using]
    if connection.vendor == "sqlite":
        connection = connections.create_connection(using)
        options = {
            **connection.settings_dict.get("OPTIONS", {}),
            "transaction_mode": "IMMEDIATE",
            "timeout": SQLITE_TIMEOUT,
            "init_command": f"PRAGMA journal_mode=WAL; PRAGMA synchronous={conf.get().SQLITE_SYNCHRONOUS}",
        }
        connection.settings_dict = {**copy.copy(connection.settings_dict), "OPTIONS": options}
        connections[using] = connection
    return connection


def drop_connection() -> None:
    """Close this thread's connection after an error, so that the next use opens a fresh one."""
    try:
        connections[alias()].close()
    except Exception:
        logger.debug("closing a broken connection failed", exc_info=True)


def managed(function: Callable[..., T]) -> Callable[..., T]:
    """Wrap a function for a pool thread so that it begins and ends as a request would.

    Django closes connections that are broken or too old only around requests; a thread of a pool has none.
    """

    def call(*args: Any, **kwargs: Any) -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return call


class ManagedExecutor(ThreadPoolExecutor):
    """A thread pool whose jobs leave no database connection open longer than CONN_MAX_AGE allows."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(managed(fn), *args, **kwargs)


class _Readers:
    """Threads for short queries on behalf of the event loop, each with a connection that it keeps."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._connections: list[BaseDatabaseWrapper] = []
        self._lock = threading.Lock()

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(READERS, thread_name_prefix="django-workflows-read")
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, function, args)

    def _read(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        connection = connections[alias()]
        if getattr(self._local, "connection", None) is not connection:
            self._local.connection = connection
            connection.inc_thread_sharing()
            with self._lock:
                self._connections.append(connection)
        try:
            try:
                return function(*args)
            except (OperationalError, InterfaceError):
                # The connection may have died since it was last used; a read can be repeated.
                connection.close()
                return function(*args)
        except Error:
            connection.close()
            raise

    def close(self) -> None:
        """End the threads and close their connections."""
        with self._lock:
            executor, self._executor = self._executor, None
            opened, self._connections = self._connections, []
        self._local = threading.local()
        if executor is None:
            return

        def end() -> None:
            executor.shutdown(wait=True)
            for connection in opened:
                connection.close()

        # In a thread, since Django refuses to close a connection where an event loop runs.
        ending = threading.Thread(target=end, name="django-workflows-read-end")
        ending.start()
        ending.join()


# ``await read(function, *args)``: run a function that only reads the database in a thread.
read = _Readers()


__all__ = [
    "DEFAULT_DB_ALIAS",
    "DatabaseNow",
    "DocumentField",
    "IdentifierField",
    "ManagedExecutor",
    "alias",
    "atomic",
    "drop_connection",
    "insert",
    "is_transient",
    "locked",
    "managed",
    "own_connection",
    "read",
    "upsert",
]
