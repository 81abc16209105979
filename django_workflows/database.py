"""What differs between databases, with the reason; and connections for our own threads.

Everything else in the app goes through the ORM and does not know which database it talks to.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings
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
from django.utils import timezone

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


def moment(seconds: float) -> datetime:
    """Return seconds since the epoch in the form that compares with :class:`DatabaseNow`.

    Without USE_TZ there are only times without a zone: PostgreSQL reads them in the site's, while the other two,
    as DatabaseNow makes them, are told UTC.
    """
    if settings.USE_TZ:
        return datetime.fromtimestamp(seconds, UTC)
    return datetime.fromtimestamp(seconds, _zone_without_zones()).replace(tzinfo=None)


def seconds(moment: datetime) -> float:
    """Return a time that the database has made of DatabaseNow as seconds since the epoch."""
    return (moment if timezone.is_aware(moment) else moment.replace(tzinfo=_zone_without_zones())).timestamp()


def at_once() -> datetime:
    """Return a moment that is long due, whatever a host's clock says."""
    return moment(0.0)


def _zone_without_zones() -> tzinfo:
    return timezone.get_default_timezone() if connections[alias()].vendor == "postgresql" else UTC


def starts_with(field: str, prefix: str) -> models.Q:
    """Return the condition that an identifier begins with ``prefix``, in the form that its index serves.

    PostgreSQL keeps a second index for LIKE. SQLite and MySQL order identifiers by their bytes, so there it is a
    range; LIKE would read the whole table, because it ignores case (SQLite) or is compared as binary (MySQL).
    """
    if connections[alias()].vendor == "postgresql":
        return models.Q(**{f"{field}__startswith": prefix})
    return models.Q(**{f"{field}__gte": prefix, f"{field}__lt": prefix + "\U0010ffff"})


def insert(model: type[M], rows: list[M], *, unique: str) -> list[M]:
    """Insert rows in one statement and fill in their primary keys.

    MySQL cannot return the keys of several rows, so there each is a statement.

    Args:
        model: whose table.
        rows: instances that are not stored yet.
        unique: a field whose value no two rows share; databases need not answer in the order of the rows.
    """
    return send_insert(model, rows, unique=unique)()


def send_insert(model: type[M], rows: list[M], *, unique: str) -> Callable[[], list[M]]:
    """Insert rows as :func:`insert`, and return what waits for their primary keys."""
    using = alias()
    if not connections[using].features.can_return_rows_from_bulk_insert:
        for row in rows:
            row.save(using=using, force_insert=True)
        return lambda: rows
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    statement = Statement(model, [field.name for field in fields], returning=(unique, str(model._meta.pk.name)))
    returned = statement.send([[getattr(row, field.attname) for field in fields] for row in rows])

    def fill_in() -> list[M]:
        keys = dict(returned())
        for row in rows:
            row.pk = keys[getattr(row, unique)]
            row._state.adding, row._state.db = False, using
        return rows

    return fill_in


def upsert(model: type[M], rows: list[M], *, key: list[str], update: list[str]) -> None:
    """Insert rows, or update the columns ``update`` of those whose ``key`` is there already."""
    using = alias()
    # MySQL finds the violated constraint by itself and refuses to be told which.
    named = connections[using].features.supports_update_conflicts_with_target
    model._default_manager.using(using).bulk_create(
        rows, update_conflicts=True, unique_fields=key if named else None, update_fields=update
    )


# --- statements of the hot path ---------------------------------------------------------------------

# Rows of one INSERT: MySQL and PostgreSQL take more, but parse a longer statement slower than two.
ROWS = 100
# Characters after which an INSERT takes no more rows: MySQL refuses a statement longer than max_allowed_packet, in
# which each of the rows may have its place.
CHARACTERS = 1_000_000


class Statement:
    """An INSERT or UPDATE that is written out once, for the rows that every run writes.

    What the ORM does for each row again (build instances, ask each field, compile the SQL) was two thirds of the
    writer's time. Only columns that hold text, numbers, booleans and time stamps can be written so: for these, the
    vendors differ in how they take a time stamp alone. ``tests/test_database.py`` holds it to what the ORM writes.

    Args:
        model: whose table.
        columns: names of fields, in the order in which each row has its values.
        key: the columns that name the row to update; none for an INSERT.
        returning: columns that an INSERT returns, on a database that can.
    """

    def __init__(
        self,
        model: type[models.Model],
        columns: Sequence[str],
        key: Sequence[str] = (),
        returning: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._columns = tuple(columns)
        self._key = tuple(key)
        self._returning = tuple(returning)

    def execute(self, rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Write rows and return what they return, in any order; joined to the caller's transaction."""
        return self.send(rows)()

    def send(self, rows: Iterable[Sequence[Any]]) -> Callable[[], list[tuple[Any, ...]]]:
        """Write rows, and return what waits for what they return."""
        connection = connections[alias()]
        rows = self._adapted(rows, connection)
        if rows and (self._key or (connection.vendor == "sqlite" and not self._returning)):
            with connection.cursor() as cursor:
                # SQLite keeps the statement prepared; the other two are told each UPDATE by itself anyway.
                cursor.executemany(self._sql(1), rows)
            rows = []
        most = min(ROWS, (connection.features.max_query_params or ROWS**2) // len(self._columns))
        cursors = []
        for some in _portions(rows, most) if rows else ():
            cursor = connection.cursor()
            cursor.execute(self._sql(len(some)), [value for row in some for value in row])
            cursors.append(cursor)

        def returned() -> list[tuple[Any, ...]]:
            found: list[tuple[Any, ...]] = []
            for cursor in cursors:
                with cursor:
                    found += cursor.fetchall() if self._returning else ()
            return found

        return returned

    def _sql(self, rows: int) -> str:
        return _sql(alias(), self._model, self._columns, self._key, self._returning, rows)

    def _adapted(self, rows: Iterable[Sequence[Any]], connection: BaseDatabaseWrapper) -> list[Sequence[Any]]:
        fields = [self._model._meta.get_field(name) for name in (*self._columns, *self._key)]
        times = [n for n, field in enumerate(fields) if isinstance(field, models.DateTimeField)]
        if not times or connection.vendor == "postgresql":
            return list(rows)
        adapt = connection.ops.adapt_datetimefield_value
        adapted: list[Sequence[Any]] = []
        for row in rows:
            values = list(row)
            for position in times:
                values[position] = adapt(values[position])
            adapted.append(values)
        return adapted


def _portions(rows: list[Sequence[Any]], most: int) -> Iterator[list[Sequence[Any]]]:
    """Cut rows into what one INSERT takes, at most so many at a time."""
    portion: list[Sequence[Any]] = []
    length = 0
    for row in rows:
        if len(portion) == most or length > CHARACTERS:
            yield portion
            portion, length = [], 0
        portion.append(row)
        length += sum(len(value) for value in row if isinstance(value, str))
    yield portion


@lru_cache(maxsize=512)
def _sql(
    using: str,
    model: type[models.Model],
    columns: tuple[str, ...],
    key: tuple[str, ...],
    returning: tuple[str, ...],
    rows: int,
) -> str:
    quote = connections[using].ops.quote_name

    def named(names: Iterable[str]) -> list[str]:
        return [quote(str(model._meta.get_field(name).column)) for name in names]  # type: ignore[union-attr]

    table = quote(model._meta.db_table)
    if key:
        values = ", ".join(f"{name} = %s" for name in named(columns))
        where = " AND ".join(f"{name} = %s" for name in named(key))
        return f"UPDATE {table} SET {values} WHERE {where}"  # noqa: S608  names of our own models
    row = f"({', '.join(['%s'] * len(columns))})"
    end = f" RETURNING {', '.join(named(returning))}" if returning else ""
    return f"INSERT INTO {table} ({', '.join(named(columns))}) VALUES {', '.join([row] * rows)}{end}"  # noqa: S608


class Lookup:
    """A SELECT by keys that the ORM writes out once for each number of keys, for what every run asks.

    To build and compile such a query takes many times as long as the database needs for it.

    Args:
        make: builds the query for keys; it must give values that no field has to convert (numbers and text).
    """

    def __init__(self, make: Callable[[Sequence[int]], models.QuerySet[Any, tuple[Any, ...]]]) -> None:
        self._make = make
        self._compiled: dict[tuple[str, int], tuple[str, tuple[Any, ...]]] = {}

    def __call__(self, keys: Iterable[int]) -> list[tuple[Any, ...]]:
        """Return the rows; a key may be named twice."""
        keys = list(keys)
        if not keys:
            return []
        with connections[alias()].cursor() as cursor:
            cursor.execute(*self.written(keys))
            return list(cursor.fetchall())

    def written(self, keys: Sequence[int]) -> tuple[str, list[Any]]:
        """Return the SELECT for one or more keys, with its parameters."""
        # Few statements serve all numbers of keys, and the database may keep them prepared.
        keys = [*keys, *[keys[0]] * ((1 << (len(keys) - 1).bit_length()) - len(keys))]
        sql, parameters = self._sql(len(keys))
        return sql, [keys[p.number] if isinstance(p, _Place) else p for p in parameters]

    def _sql(self, number: int) -> tuple[str, tuple[Any, ...]]:
        name = alias(), number
        if name not in self._compiled:
            query = self._make([-1 - n for n in range(number)]).query
            sql, parameters = query.get_compiler(alias()).as_sql()
            # No key of a row is negative.
            places = (_Place(-1 - p) if isinstance(p, int) and p < 0 else p for p in parameters)
            self._compiled[name] = sql, tuple(places)
        return self._compiled[name]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a key stands among a query's parameters."""

    number: int


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


def commits_by_itself() -> bool:
    """Whether the next statement is a transaction by itself: none is under way."""
    return connections[alias()].get_autocommit()


@contextmanager
def pipelined() -> Iterator[None]:
    """Send statements whose results nobody reads to PostgreSQL together, where each would wait for its answer.

    What fails of them raises at the end of the block at the latest.
    """
    connection = connections[alias()]
    if not can_pipeline():
        yield
        return
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


class DemandFailed(Exception):
    """Something was not as a transaction demanded, so it has changed nothing."""


@contextmanager
def one_trip() -> Iterator[None]:
    """A transaction that PostgreSQL gets whole, with its COMMIT, and answers once; only where it can pipeline.

    A process waits for each answer 0.2 to 1 ms, of which the server needs a tenth. Results are read after it.

    Raises:
        DemandFailed: something that it demanded (:func:`demand`) was not so.
    """
    from psycopg.errors import DivisionByZero

    try:
        with atomic(), pipelined():
            yield
            # Django's own, at the end of the block, finds nothing left to commit.
            connections[alias()].connection.execute("COMMIT")
    except DataError as error:
        if isinstance(error.__cause__, DivisionByZero):
            raise DemandFailed from error
        raise


def demand(lookup: Lookup, keys: Sequence[int], rows: Sequence[Sequence[int]]) -> None:
    """Let a transaction of :func:`one_trip` fail unless a lookup finds these rows.

    Args:
        lookup: what is looked up; its columns are numbers.
        keys: for which keys; nothing is asked without any.
        rows: all that must be found; without any, nothing may be.
    """
    if not keys:
        return
    sql, parameters = lookup.written(keys)
    if rows:
        columns = ", ".join(f"c{number}" for number in range(len(rows[0])))
        asked = ", ".join(f"({', '.join(['%s'] * len(row))})" for row in rows)
        found = f"(SELECT count(*) FROM found JOIN asked USING ({columns})) = {len(rows)}"  # noqa: S608
        # By itself, so that it locks each row that it finds, and no more.
        sql = (
            f"WITH found ({columns}) AS MATERIALIZED ({sql}), asked ({columns}) AS (VALUES {asked}) "
            f"SELECT 1 / ({found})::int"
        )
        parameters += [value for row in rows for value in row]
    else:
        sql = f"SELECT 1 / (NOT EXISTS ({sql}))::int"
    with connections[alias()].cursor() as cursor:
        cursor.execute(sql, parameters)


def can_pipeline() -> bool:
    """Whether the database takes statements without waiting for the answers of those before."""
    return connections[alias()].vendor == "postgresql" and _has_pipeline()


@cache
def _has_pipeline() -> bool:
    """Whether the client library is PostgreSQL 14's or newer."""
    from psycopg import Pipeline

    return Pipeline.is_supported()


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

    It gets what a process needs whose only writer it is, whatever the site has configured. It takes no place in
    the site's connection pool, which it would keep for good.
    """
    using = alias()
    connection = connections.create_connection(using)
    options = {**connection.settings_dict.get("OPTIONS", {}), **_own_options(connection)}
    options.pop("pool", None)
    # Without autocommit, nothing would ever be committed: Django then leaves that to whoever has switched it off.
    connection.settings_dict = {**connection.settings_dict, "OPTIONS": options, "AUTOCOMMIT": True}
    connections[using] = connection
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
        return {
            "options": f"{given.get('options', '')} {limits}".strip(),
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


__all__ = [
    "DEFAULT_DB_ALIAS",
    "DatabaseNow",
    "DocumentField",
    "IdentifierField",
    "Lookup",
    "ManagedExecutor",
    "Statement",
    "alias",
    "atomic",
    "can_pipeline",
    "commits_by_itself",
    "drop_connection",
    "insert",
    "is_connection_lost",
    "is_transient",
    "locked",
    "managed",
    "own_connection",
    "pipelined",
    "read",
    "starts_with",
    "upsert",
]
