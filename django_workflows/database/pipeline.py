"""Statements that PostgreSQL gets together, where each would wait for the answer to the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from django.db import DataError, connections

from django_workflows.database.connections import alias, atomic
from django_workflows.database.statements import Lookup


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
