"""What the ORM would build and compile for each row again, written out once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, TypeVar

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.constants import OnConflict

from django_workflows.database import trip
from django_workflows.database.connections import alias, atomic

M = TypeVar("M", bound=models.Model)
V = TypeVar("V")

# Rows of one INSERT: MySQL and PostgreSQL take more, but parse a longer statement slower than two.
ROWS = 100
# Rows of one statement that PostgreSQL is told one by one, each number of them as a prepared statement. Unpacking
# arrays takes it a seventh longer.
FEW = 8
# Characters after which an INSERT takes no more rows: MySQL refuses a statement longer than max_allowed_packet, in
# which each of the rows may have its place.
CHARACTERS = 1_000_000
# Characters at the end of a time stamp that say that it is in UTC.
_OFFSET = len("+00:00")


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
        unique: columns of which an INSERT may find a row with the same values; then it overwrites ``replaced``.
        replaced: what it overwrites of such a row.
    """

    def __init__(
        self,
        model: type[models.Model],
        columns: Sequence[str],
        key: Sequence[str] = (),
        returning: Sequence[str] = (),
        unique: Sequence[str] = (),
        replaced: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._columns = tuple(columns)
        self._key = tuple(key)
        self._returning = tuple(returning)
        self._unique = tuple(unique)
        self._replaced = tuple(replaced)

    def execute(self, rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Write rows and return what they return, in any order; joined to the caller's transaction."""
        return self.send(rows)()

    def send(self, rows: Iterable[Sequence[Any]]) -> Callable[[], list[tuple[Any, ...]]]:
        """Write rows, and return what waits for what they return."""
        connection = connections[alias()]
        rows = self._adapted(rows, connection)
        cursors = []
        found: list[tuple[Any, ...]] = []
        if rows and trip.takes_literals(connection):
            for some in _portions(rows, ROWS):
                cursors.append(trip.execute(connection, *self._in_literals(some, connection.alias)))
        elif rows and (self._key or (connection.vendor == "sqlite" and not self._returning)):
            with connection.cursor() as cursor:
                # SQLite keeps the statement prepared; MySQL is told each UPDATE by itself anyway.
                using = connection.alias
                cursor.executemany(self._update(using) if self._key else self._insert(1, using), rows)
        elif rows:
            most = min(ROWS, _most_values(connection.alias) // len(self._columns))
            for some in _portions(rows, most):
                with connection.cursor() as cursor:
                    values = [value for row in some for value in row]
                    cursor.execute(self._insert(len(some), connection.alias), values)
                    found += cursor.fetchall() if self._returning else ()

        def returned() -> list[tuple[Any, ...]]:
            for cursor in cursors:
                found.extend(cursor.fetchall() if self._returning else ())
                cursor.close()
            return found

        return returned

    def _update(self, using: str) -> str:
        return _update(using, self._model, self._columns, self._key)

    def _insert(self, rows: int, using: str) -> str:
        return self._around(f"VALUES {', '.join([_places(self._columns)] * rows)}", using)

    def _in_literals(self, rows: Sequence[Sequence[Any]], using: str) -> tuple[str, Sequence[Any]]:
        """Return what PostgreSQL is told for rows, with its parameters; the same for all numbers but a few."""
        if len(rows) <= FEW and not self._key:
            return self._insert(len(rows), using), [value for row in rows for value in row]
        if len(rows) == 1:
            return self._update(using), rows[0]
        types = _types(using, self._model, (*self._columns, *self._key))
        given = f"unnest({', '.join([f'%s::{type}[]' for type in types])})"
        sql = _update_from(using, self._model, self._columns, self._key, given) if self._key else None
        arrays = [trip.Array(column, type) for column, type in zip(zip(*rows, strict=True), types, strict=True)]
        return sql or self._around(f"SELECT * FROM {given}", using), arrays  # noqa: S608  names of our own models

    def _around(self, rows: str, using: str) -> str:
        begin, end = _insert(using, self._model, self._columns, self._returning, self._unique, self._replaced)
        return f"{begin}{rows}{end}"

    def _adapted(self, rows: Iterable[Sequence[Any]], connection: BaseDatabaseWrapper) -> list[Sequence[Any]]:
        fields = [self._model._meta.get_field(name) for name in (*self._columns, *self._key)]
        # The keys of the site's users may be anything, UUIDs for instance, which not every driver takes.
        adapts: list[tuple[int, Callable[[Any], Any]]] = [
            (n, partial(field.get_db_prep_save, connection=connection))
            for n, field in enumerate(fields)
            if isinstance(field, models.ForeignKey) and not isinstance(field.target_field, models.IntegerField)
        ]
        if connection.vendor != "postgresql":
            adapt = _adapter(connection)
            adapts += [(n, adapt) for n, field in enumerate(fields) if isinstance(field, models.DateTimeField)]
        if not adapts:
            return list(rows)
        adapted: list[Sequence[Any]] = []
        for row in rows:
            values = list(row)
            for position, convert in adapts:
                values[position] = convert(values[position])
            adapted.append(values)
        return adapted


def _adapter(connection: BaseDatabaseWrapper) -> Callable[[datetime | None], str | None]:
    """Return what makes of a time stamp what SQLite and MySQL are given: its text, in the zone that they keep."""
    adapt: Callable[[datetime | None], str | None] = connection.ops.adapt_datetimefield_value
    if connection.timezone is not UTC:
        return adapt

    def adapted(time: datetime | None) -> str | None:
        # Most are in that zone: then without asking, which takes as long as SQLite does for a row.
        return time.isoformat(" ")[:-_OFFSET] if time is not None and time.tzinfo is UTC else adapt(time)

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


@lru_cache(maxsize=8)
def _most_values(using: str) -> int:
    """Return how many values a statement may have; SQLite's connections are asked, where no event loop may run."""
    return connections[using].features.max_query_params or ROWS**2


def _padded(values: Sequence[V]) -> list[V]:
    """Repeat the first of one or more values, so that few statements, which may be prepared, serve all numbers."""
    return [*values, *[values[0]] * ((1 << (len(values) - 1).bit_length()) - len(values))]


def _places(values: Sequence[Any]) -> str:
    return f"({', '.join(['%s'] * len(values))})"


def _named(using: str, model: type[models.Model], names: Iterable[str]) -> list[str]:
    """Return the columns of fields, as they stand in a statement."""
    return list(map(connections[using].ops.quote_name, _columns(model, names)))


def _columns(model: type[models.Model], names: Iterable[str]) -> list[str]:
    return [str(model._meta.get_field(name).column) for name in names]  # type: ignore[union-attr]


@lru_cache(maxsize=64)
def _update(using: str, model: type[models.Model], columns: tuple[str, ...], key: tuple[str, ...]) -> str:
    (table,) = map(connections[using].ops.quote_name, [model._meta.db_table])
    values = ", ".join(f"{name} = %s" for name in _named(using, model, columns))
    where = " AND ".join(f"{name} = %s" for name in _named(using, model, key))
    return f"UPDATE {table} SET {values} WHERE {where}"  # noqa: S608  names of our own models


@lru_cache(maxsize=64)
def _update_from(
    using: str, model: type[models.Model], columns: tuple[str, ...], key: tuple[str, ...], given: str
) -> str:
    """Return one UPDATE for rows that a function gives: their columns and then their key."""
    (table,) = map(connections[using].ops.quote_name, [model._meta.db_table])
    names = _named(using, model, (*columns, *key))
    pairs = [f"{name} = given.c{number}" for number, name in enumerate(names)]
    set_, where = ", ".join(pairs[: len(columns)]), [f"{table}.{pair}" for pair in pairs[len(columns) :]]
    listed = ", ".join(f"c{number}" for number in range(len(names)))
    return f"UPDATE {table} SET {set_} FROM {given} AS given ({listed}) WHERE {' AND '.join(where)}"  # noqa: S608


@lru_cache(maxsize=64)
def _types(using: str, model: type[models.Model], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the types of columns. Text without its length: a cast would cut off what is too long."""
    fields = [model._meta.get_field(name) for name in names]
    return tuple(
        "text"
        if isinstance(field, models.CharField | models.TextField)
        else str(field.db_type(connections[using]))
        for field in fields
    )


@lru_cache(maxsize=64)
def _insert(
    using: str,
    model: type[models.Model],
    columns: tuple[str, ...],
    returning: tuple[str, ...],
    unique: tuple[str, ...],
    replaced: tuple[str, ...],
) -> tuple[str, str]:
    """Return what stands before and after the rows."""
    ops = connections[using].ops
    names = ", ".join(_named(using, model, columns))
    begin = f"INSERT INTO {ops.quote_name(model._meta.db_table)} ({names}) "
    end = ""
    if replaced:
        end += " " + ops.on_conflict_suffix_sql(
            [model._meta.get_field(name) for name in columns],
            OnConflict.UPDATE,
            _columns(model, replaced),
            _columns(model, unique),
        )
    if returning:
        end += f" RETURNING {', '.join(_named(using, model, returning))}"
    return begin, end


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
        connection = connections[alias()]
        with connection.cursor() as cursor:
            cursor.execute(*self.written(keys, connection))
            return list(cursor.fetchall())

    def written(self, keys: Sequence[int], connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
        """Return the SELECT for one or more keys, with its parameters."""
        keys = _padded(keys)
        sql, parameters = self._sql(len(keys), connection)
        return sql, [keys[p.number] if isinstance(p, _Place) else p for p in parameters]

    def _sql(self, number: int, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        name = connection.alias, number
        if name not in self._compiled:
            query = self._make([-1 - n for n in range(number)]).query
            # The ORM writes down no lock outside of a transaction; that of one trip is none to it.
            locks = query.select_for_update and connection.features.has_select_for_update
            with atomic() if locks else nullcontext():
                sql, parameters = query.get_compiler(connection.alias).as_sql()
            # No key of a row is negative.
            places: Sequence[Any] = [_Place(-1 - p) if isinstance(p, int) and p < 0 else p for p in parameters]
            if trip.takes_literals(connection):
                # Prepared, a statement shall have no parameters but the keys: PostgreSQL would not know the type
                # of each, nor that a partial index has what is asked for.
                sql, places = trip.filled_in(connection, sql, places, _Place)
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


def delete(model: type[models.Model], lookup: Lookup, keys: Sequence[int]) -> None:
    """Delete the rows whose primary keys a lookup finds, in a statement that nobody has to wait for."""
    if not keys:
        return
    connection = connections[alias()]
    sql, parameters = lookup.written(keys, connection)
    table, key = map(connection.ops.quote_name, [model._meta.db_table, str(model._meta.pk.column)])
    sql = f"DELETE FROM {table} WHERE {key} IN ({sql})"  # noqa: S608  names of our own models
    if trip.takes_literals(connection):
        trip.execute(connection, sql, parameters)
    else:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)


def demand(lookup: Lookup, keys: Sequence[int], rows: Sequence[tuple[int, ...]]) -> None:
    """Let a transaction of one trip, or of a :class:`Carrier`, fail unless a lookup finds these rows.

    Args:
        lookup: what is looked up; its columns are numbers.
        keys: for which keys; nothing is asked without any.
        rows: all that must be found; without any, nothing may be.

    Raises:
        DemandFailed: it does not, where that is known at once.
    """
    if not keys:
        return
    connection = connections[alias()]
    if not trip.takes_literals(connection):
        if set(lookup(keys)) != set(map(tuple, rows)):
            raise trip.DemandFailed
        return
    sql, parameters = lookup.written(keys, connection)
    if not rows:
        sql = f"SELECT 1 / (NOT EXISTS ({sql}))::int"
    else:
        columns = ", ".join(f"c{number}" for number in range(len(rows[0])))
        if len(rows) <= FEW:
            wanted = _padded(rows)
            places = ", ".join(map(_places, wanted))
            sql = (
                f"SELECT 1 / (count(*) = %s)::int FROM ({sql}) AS found ({columns}) "  # noqa: S608  as above
                f"WHERE ({columns}) IN ({places})"
            )
            parameters = [len(set(rows)), *parameters, *(value for row in wanted for value in row)]
        else:
            asked = ", ".join(["%s::bigint[]"] * len(rows[0]))
            # By itself, so that it locks each row that it finds, and no more.
            sql = (
                f"WITH found ({columns}) AS MATERIALIZED ({sql}), "  # noqa: S608  as above
                f"asked ({columns}) AS (SELECT * FROM unnest({asked})) "
                f"SELECT 1 / ((SELECT count(*) FROM found JOIN asked USING ({columns})) = %s)::int"
            )
            parameters += [*(trip.Array(column, "bigint") for column in zip(*rows, strict=True)), len(rows)]
    trip.execute(connection, sql, parameters)
