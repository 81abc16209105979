"""A transaction that PostgreSQL gets in one message, instead of statement by statement and answer by answer."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DataError, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_workflows.database.connections import alias

logger = logging.getLogger("django_workflows.database")

# Characters of a message; PostgreSQL takes eight times as many.
MOST = 128_000_000
# Statements that a connection keeps prepared, at most. There are some sixty.
PREPARED = 200
# What PostgreSQL says of a prepared statement that it does not have, has already, or cannot execute any more:
# behind a pooler that gives each transaction another connection; and after a migration.
_UNPREPARED = {"26000", "42P05", "0A000"}
# This is how a demand says no.
_DIVISION_BY_ZERO = "22012"


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


@dataclass(frozen=True, slots=True)
class Array:
    """One column of several rows, as an array.

    Attributes:
        values: one or more.
        type: of each, as PostgreSQL calls it.
    """

    values: Sequence[Any]
    type: str


class Literals:
    """Writes values into a statement, escaped by PostgreSQL's own library as the connection's server reads them.

    Psycopg's ClientCursor does the same, with twice the processor time for a row of the event log: it asks for a
    dumper of each value and takes the statement apart.

    Args:
        connection: Django's; it is opened if it is not.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        from psycopg.pq import Escaping

        if connection.connection is None:
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
            Array: lambda array: f"ARRAY[{', '.join(self._each(array.values))}]::{array.type}[]",
        }

    def __call__(self, sql: str, values: Sequence[Any]) -> str:
        """Return a statement with values in its places.

        Raises:
            DataError: PostgreSQL cannot hold one of them.
        """
        return sql % tuple(self._each(values))

    def arguments(self, values: Sequence[Any]) -> str:
        """Return values as they stand behind the name of a prepared statement; raises as when it is called."""
        return f"({', '.join(self._each(values))})" if values else ""

    def _each(self, values: Sequence[Any]) -> list[str]:
        return [self._writers.get(type(value), self._anything)(value) for value in values]

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


def execute(connection: BaseDatabaseWrapper, sql: str, values: Sequence[Any]) -> Any:
    """Execute a statement whose values are written with :class:`Literals`; returns a cursor.

    In a transaction of one trip without Django's cursors, which take longer than the statement does here.
    """
    for wrapper in connection.execute_wrappers:
        if isinstance(wrapper, Trip):
            return wrapper.gather(sql, values)
    cursor = connection.cursor()
    cursor.execute(Literals(connection)(sql, values))
    return cursor


def filled_in(
    connection: BaseDatabaseWrapper, sql: str, values: Sequence[Any], place: type
) -> tuple[str, Sequence[Any]]:
    """Write values into a statement, apart from those of a class that stand for what is given later.

    Returns the statement with the values that are left.
    """
    literals = Literals(connection)
    texts = ["%s" if isinstance(value, place) else literals("%s", [value]).replace("%", "%%") for value in values]
    return sql.replace("%%", "%%%%") % tuple(texts), [value for value in values if isinstance(value, place)]


@contextmanager
def one_trip() -> Iterator[None]:
    """A transaction of which PostgreSQL gets all statements at once, and answers them once.

    What is executed in the block, by the ORM as well, is gathered, and sent at its end: the statements of one
    message are a transaction, without BEGIN and COMMIT. A process waits for each answer 0.2 to 1 ms, of which the
    server needs a tenth. Rows are fetched after the block from the cursors that asked for them; there are no row
    counts.

    Statements are prepared, which saves a third of PostgreSQL's time. Not by psycopg, which sends each of those by
    itself.

    Raises:
        DemandFailed: something that it demanded (:func:`database.demand`) was not so, or it is too long.
    """
    connection = connections[alias()]
    trip = Trip(connection, Literals(connection))
    with trip.gathering():
        yield
    trip.send()


class Trip:
    """Statements of one transaction, gathered to be sent in one message.

    It is a wrapper of Django's for what is executed on the connection.

    Args:
        connection: Django's, for which they are; open.
        literals: what writes values for it.
    """

    def __init__(self, connection: BaseDatabaseWrapper, literals: Literals) -> None:
        self._connection = connection
        self._literals = literals
        self._prepared = _prepared_on(connection)
        # With their values, None where the text has all of them.
        self._statements: list[tuple[str, Sequence[Any] | None]] = []
        self._cursors: list[Any] = []

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Gather what is executed on the connection in the block."""
        with self._connection.execute_wrapper(self):
            yield

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> None:
        for values in params if many else [params]:
            # Unprepared: there, PostgreSQL does not always know of which type a parameter is.
            self._statements.append((sql if values is None else self._literals(sql, values), None))
            self._cursors.append(context["cursor"])

    def gather(self, sql: str, values: Sequence[Any]) -> _Asked:
        asked = _Asked()
        self._statements.append((sql, values))
        self._cursors.append(asked)
        return asked

    def message(self) -> str:
        """Return what has to be sent, after which :meth:`succeeded` or :meth:`failed` must be called.

        Raises:
            DemandFailed: it is too long.
            Exception: PostgreSQL cannot hold a value of it.
        """
        try:
            message = "; ".join([self._written(*each) for each in self._statements])
        except BaseException:
            self._prepared.forget()
            raise
        if len(message) > MOST:
            self._prepared.forget()
            raise DemandFailed
        return message

    def succeeded(self, answers: Iterable[Callable[[], list[tuple[Any, ...]]]]) -> None:
        """Take the answers to the statements, in their order: what gives the rows of each, if somebody asks."""
        self._prepared.keep()
        for asking, rows in zip(self._cursors, answers, strict=True):
            asking.cursor = _Answer(rows)

    def failed(self, state: str | None) -> Failure:
        """Hear of an error instead: of PostgreSQL's code for it, None when the connection was lost."""
        self._prepared.forget()
        if state == _DIVISION_BY_ZERO:
            return Failure.DEMAND
        if state in _UNPREPARED and self._prepared.is_possible:
            self._prepared.give_up()
            return Failure.UNPREPARED
        return Failure.ERROR

    def send(self) -> None:
        """Send the message and wait for the answers.

        Raises:
            DemandFailed: something was not as demanded, or it is too long.
        """
        if not self._statements:
            return
        message = self.message()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(message)
                self.succeeded(_answers(cursor))
        except Error as error:
            failure = self.failed(getattr(error.__cause__, "sqlstate", None))
            if failure is Failure.DEMAND:
                raise DemandFailed from error
            if failure is Failure.ERROR:
                raise
            # Nothing of it was written; now with everything in the text.
            self.send()

    def _written(self, sql: str, values: Sequence[Any] | None) -> str:
        if values is None:
            return sql
        return self._prepared.executing(sql, values, self._literals) or self._literals(sql, values)


class Failure(Enum):
    """Why a trip has failed; in each case nothing of it is written, unless the connection was lost."""

    DEMAND = "something was not as demanded"
    UNPREPARED = "what was prepared is not there; the next try does without"
    ERROR = "the database refuses it, or is gone"


def _answers(cursor: Any) -> Iterator[Callable[[], list[tuple[Any, ...]]]]:
    more: Any = True
    while more:
        if cursor.statusmessage != "PREPARE":
            rows = cursor.fetchall() if cursor.description is not None else []
            yield partial(list, rows)
        more = cursor.nextset()


class _Prepared:
    """The statements that a connection has prepared.

    Behind a pooler, another process may get the same connection: its names are others.
    """

    def __init__(self) -> None:
        self.is_possible = True
        self._names: dict[str, str] = {}
        self._new: list[str] = []
        self._token = secrets.token_hex(8)
        self._numbers = count()

    def executing(self, sql: str, values: Sequence[Any], literals: Literals) -> str | None:
        """Return what executes a statement, and prepares it where it is not; None when it shall not be."""
        if not self.is_possible:
            return None
        name, prepare = self._names.get(sql), ""
        if name is None:
            if len(self._names) >= PREPARED:
                return None
            name = self._names[sql] = f"dwf_{self._token}_{next(self._numbers)}"
            self._new.append(sql)
            places = tuple([f"${number + 1}" for number in range(len(values))])
            prepare = f"PREPARE {name} AS {sql % places}; "
        return f"{prepare}EXECUTE {name}{literals.arguments(values)}"

    def keep(self) -> None:
        """Count on what was prepared since the last message."""
        self._new.clear()

    def forget(self) -> None:
        """Do not: the message has failed, before it was prepared or after."""
        for sql in self._new:
            del self._names[sql]
        self._new.clear()

    def give_up(self) -> None:
        """Prepare nothing more on this connection."""
        self.is_possible = False
        logger.info("the database keeps no statements prepared, perhaps because of a pooler; it gets them as text")


_prepared: WeakKeyDictionary[Any, _Prepared] = WeakKeyDictionary()


def _prepared_on(connection: BaseDatabaseWrapper) -> _Prepared:
    known = _prepared.get(connection.connection)
    return _prepared.setdefault(connection.connection, _Prepared()) if known is None else known


class _Asked:
    """What asks for rows in a transaction of one trip, as a cursor does."""

    def __init__(self) -> None:
        self.cursor = _Answer(list)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.cursor.fetchall()

    def close(self) -> None:
        """There is nothing to close."""


class _Answer:
    """Stands in a cursor for the rows that its statement was answered with."""

    def __init__(self, rows: Callable[[], list[tuple[Any, ...]]]) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows()

    def close(self) -> None:
        """There is nothing to close."""
