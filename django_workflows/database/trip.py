"""A transaction that PostgreSQL gets in one message, instead of statement by statement and answer by answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import DataError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_workflows.database.connections import alias

# Characters of a message; PostgreSQL takes eight times as many.
MOST = 128_000_000


class DemandFailed(Exception):
    """Something was not as a transaction demanded, or it is too long for one message; nothing has changed."""


def takes_one_trip() -> bool:
    """Whether :func:`one_trip` is possible: with PostgreSQL and psycopg 3."""
    return takes_literals(connections[alias()])


def takes_literals(connection: BaseDatabaseWrapper) -> bool:
    """Whether values can be written into the text of statements with :class:`Literals`."""
    if connection.vendor != "postgresql":
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3)


class Literals:
    """Writes values into a statement, escaped by PostgreSQL's own library as the connection's server reads them.

    Psycopg's ClientCursor does the same, with twice the processor time for a row of the event log: it asks for a
    dumper of each value and takes the statement apart.

    Args:
        connection: Django's; it is opened if it is not.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        from psycopg.pq import Escaping

        connection.ensure_connection()
        self._connection = connection
        self._encoding = connection.connection.info.encoding
        self._escape = Escaping(connection.connection.pgconn).escape_literal
        self._writers: dict[type, Callable[[Any], str]] = {
            str: self._text,
            # With parentheses, as an operator may stand before it.
            int: lambda number: str(number) if number >= 0 else f"({number})",
            bool: lambda value: "true" if value else "false",
            type(None): lambda _: "NULL",
            datetime: lambda time: f"'{time.isoformat()}'::timestamp{'' if time.tzinfo is None else 'tz'}",
        }

    def __call__(self, sql: str, values: Sequence[Any]) -> str:
        """Return a statement with values in its places.

        Raises:
            DataError: PostgreSQL cannot hold one of them.
        """
        return sql % tuple([self._writers.get(type(value), self._anything)(value) for value in values])

    def _text(self, text: str) -> str:
        data = text.encode(self._encoding)
        if b"\0" in data:
            # What escapes would end there, without a word.
            raise DataError("PostgreSQL text cannot contain NUL characters (0x00)")
        return self._escape(data).decode(self._encoding)

    def _anything(self, value: Any) -> str:
        if isinstance(value, str):
            # One of TextChoices.
            return self._text(value)
        from psycopg import ClientCursor

        with self._connection.wrap_database_errors:
            return ClientCursor(self._connection.connection).mogrify("%s", [value])


@contextmanager
def one_trip() -> Iterator[None]:
    """A transaction of which PostgreSQL gets all statements at once, and answers them once.

    What is executed in the block, by the ORM as well, is gathered, and sent at its end: the statements of one
    message are a transaction, without BEGIN and COMMIT. A process waits for each answer 0.2 to 1 ms, of which the
    server needs a tenth. Rows are fetched after the block from the cursors that asked for them; there are no row
    counts.

    Raises:
        DemandFailed: something that it demanded (:func:`database.demand`) was not so, or it is too long.
    """
    connection = connections[alias()]
    gathered = _Gathered(connection)
    with connection.execute_wrapper(gathered):
        yield
    gathered.send()


class _Gathered:
    """Statements that wait to be sent; a wrapper of Django's for whatever is executed."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._written = Literals(connection)
        self._statements: list[str] = []
        self._cursors: list[Any] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> None:
        for values in params if many else [params]:
            self._statements.append(sql if values is None else self._written(sql, values))
            self._cursors.append(context["cursor"])

    def send(self) -> None:
        if sum(map(len, self._statements)) > MOST:
            raise DemandFailed
        if not self._statements:
            return
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("; ".join(self._statements))
                for asking in self._cursors:
                    if cursor.description is not None:
                        asking.cursor = _Answer(cursor.fetchall())
                    cursor.nextset()
        except DataError as error:
            if _is_division_by_zero(error):
                raise DemandFailed from error
            raise


def _is_division_by_zero(error: DataError) -> bool:
    from psycopg.errors import DivisionByZero

    return isinstance(error.__cause__, DivisionByZero)


class _Answer:
    """Stands in a cursor for the rows that its statement was answered with."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def close(self) -> None:
        """There is nothing to close."""
