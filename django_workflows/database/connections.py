"""Connections of our own threads: how they are opened, what their errors mean, when they are closed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import (
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from django_workflows import conf

logger = logging.getLogger("django_workflows.database")

T = TypeVar("T")

# SQLite waits this long for another process's transaction; four writing processes were seen to need 4.9 s.
SQLITE_TIMEOUT = 30.0
# Threads that read for streams and replays; the queries are short.
READERS = 4


def alias() -> str:
    """Return the alias of the database that holds the app's tables."""
    return conf.get().DATABASE


@contextmanager
def atomic() -> Iterator[None]:
    """A transaction on the app's database, joined to the caller's when there is one."""
    with transaction.atomic(using=alias()):
        yield


def commits_by_itself() -> bool:
    """Whether the next statement is a transaction by itself: none is under way."""
    return connections[alias()].get_autocommit()


def is_transient(error: BaseException) -> bool:
    """Tell whether repeating the transaction may succeed.

    Lost connections, locks, deadlocks and serialization failures are operational; what the data itself
    causes (a constraint, a value that the column cannot hold) would fail again.
    """
    if isinstance(error, (IntegrityError, DataError)):
        return False
    return isinstance(error, Error)


def own_connection() -> BaseDatabaseWrapper:
    """Give this thread a connection of its own to write with; for a thread that we started.

    It gets what a process needs whose only writer it is, whatever the site has configured. It takes no place in
    the site's connection pool, which it would keep for good.
    """
    connections[alias()] = connection = new_connection()
    return connection


def new_connection() -> BaseDatabaseWrapper:
    """Make a connection for :func:`own_connection` that is nobody's yet."""
    connection = connections.create_connection(alias())
    options = {**connection.settings_dict.get("OPTIONS", {}), **_own_options(connection)}
    options.pop("pool", None)
    # Without autocommit, nothing would ever be committed: Django then leaves that to whoever has switched it off.
    connection.settings_dict = {**connection.settings_dict, "OPTIONS": options, "AUTOCOMMIT": True}
    return connection


def _own_options(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return the connection options of a process's writer.

    SQLite: write-ahead log, transactions that take the write lock when they begin (a deferred one fails at once
    with "database is locked" when it is upgraded), and a timeout that outlasts the others' transactions.

    The others wait for a lock for so long only that heartbeats are still sent in time: somebody's long
    transaction may hold the row or the key that one of many requests is about. Nor may ours hold others up: when
    this process stands still in the middle of a transaction, or its host is gone without a word, the server ends
    the transaction, where it would keep the locks on our runs from whoever takes them over.
    """
    patience = conf.get().LEASE_TIMEOUT / 6
    given = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor == "sqlite":
        return {
            "transaction_mode": "IMMEDIATE",
            "timeout": SQLITE_TIMEOUT,
            "init_command": f"PRAGMA journal_mode=WAL; PRAGMA synchronous={conf.get().SQLITE_SYNCHRONOUS}",
        }
    if connection.vendor == "postgresql":
        wait = round(patience * 1000)
        limits = f"-c lock_timeout={wait} -c idle_in_transaction_session_timeout={wait}"
        # What is asked goes by keys. A statement that was prepared while a table had few rows would go on reading
        # all of them until the next ANALYZE.
        plans = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off"
        return {
            "options": f"{given.get('options', '')} {limits} {plans}".strip(),
            # A server whose host is gone is not waited for as long as TCP would.
            "tcp_user_timeout": given.get("tcp_user_timeout", round(conf.get().LEASE_TIMEOUT * 1000)),
        }
    if connection.vendor == "mysql":
        wait = max(1, round(patience))
        # What MySQL takes for a comment: it has no such limit.
        idle = f"/*M!100300 , idle_transaction_timeout = {wait} */"
        ours = f"SET SESSION innodb_lock_wait_timeout = {wait} {idle}"
        return {"init_command": "; ".join(filter(None, [given.get("init_command"), ours]))}
    return {}


# Of MySQL's client: gone away, lost in a query, packet too large, lost by a system error; of its server: packet
# too large.
_LOST = {2006, 2013, 2020, 2055, 1153}


def is_connection_lost(error: BaseException) -> bool:
    """Tell, right after an error, whether it has cost this thread its connection."""
    connection = connections[alias()]
    if connection.vendor == "mysql":
        # Its client may have connected anew by now, without a word.
        return isinstance(error, Error) and bool(_LOST.intersection(error.args[:1]))
    return connection.connection is None or not connection.is_usable()


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
    """Threads for short queries on behalf of the event loop, each with a connection that it keeps.

    From a connection pool of the site's, it takes one for each query.
    """

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
        finally:
            if "pool" in connection.settings_dict.get("OPTIONS", {}):
                # Back into it: kept, a small one would have none left for requests.
                connection.close()

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
