"""How long the databases need for a commit on this machine: what no durable step can do without.

It depends on the disk, and on what else the machine has to do.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.contenders import unavailable
from tests.servers import administer

COMMITS = 200


def describe() -> dict[str, str]:
    """Return the time of a small commit by itself, on each database that is there."""
    found = {"a commit, SQLite FULL": _milliseconds(_sqlite)}
    if unavailable("postgresql") is None:
        found["a commit, PostgreSQL"] = _milliseconds(_postgresql)
    return found


def _milliseconds(commit: Callable[[int], None]) -> str:
    commit(1)
    started = time.perf_counter()
    commit(COMMITS)
    return f"{(time.perf_counter() - started) / COMMITS * 1000:.2f} ms"


def _sqlite(count: int) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(sqlite3.connect(Path(directory) / "commits.sqlite3", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE commits (number INTEGER)")
        for number in range(count):
            connection.execute("INSERT INTO commits VALUES (?)", [number])


def _postgresql(count: int) -> None:
    # Goes to the log, as a row would, and into no table.
    statement = "SELECT pg_logical_emit_message(true, 'benchmark', 'commit')"
    administer({"DATABASE_VENDOR": "postgresql"}, *[statement] * count)
