"""The servers that are measured: ours on each database, the reference on each of its stores."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import httpx

from benchmarks import load
from tests import servers
from tests.settings import database as django_database


@dataclass(frozen=True)
class Contender:
    """One way to serve the workflows.

    Attributes:
        key: its name on the command line and in results.
        label: its name in tables and plots.
        vendor: the database, "" for memory.
        server: the ASGI server of ours, None for the reference, which brings uvicorn.
        synchronous: what a commit on SQLite promises.
    """

    key: str
    label: str
    vendor: str
    server: str | None = None
    synchronous: str = "NORMAL"

    @property
    def is_ours(self) -> bool:
        return self.server is not None


_ALL = (
    Contender("memory", "reference, memory", ""),
    Contender("reference-sqlite", "reference, SQLite", "sqlite"),
    Contender("reference-postgresql", "reference, PostgreSQL", "postgresql"),
    Contender("sqlite", "ours, SQLite", "sqlite", "uvicorn"),
    Contender("sqlite-full", "ours, SQLite, FULL", "sqlite", "uvicorn", "FULL"),
    Contender("postgresql", "ours, PostgreSQL", "postgresql", "uvicorn"),
    Contender("postgresql-two", "ours, PostgreSQL, two processes", "postgresql", "uvicorn"),
    Contender("daphne-sqlite", "ours, SQLite, Daphne", "sqlite", "daphne"),
    Contender("daphne-postgresql", "ours, PostgreSQL, Daphne", "postgresql", "daphne"),
)
CONTENDERS = {contender.key: contender for contender in _ALL}
OURS = ("sqlite", "postgresql")


class Running:
    """A contender's process, healthy.

    Attributes:
        server: the process.
        database: where ours keeps its runs; None for the reference.
        http: a client for what is not measured.
    """

    def __init__(self, server: servers.Server, database: servers.Database | None) -> None:
        self.server = server
        self.database = database
        self.http = httpx.Client(base_url=server.url, timeout=120, verify=False)

    def start(self) -> Self:
        self.server.start()
        request = ("POST", self.path("/workflows/one/run"), '{"start_event": {}}')
        load.closed_loop(self.server.port, [request] * WARM_UP, clients=4)
        return self

    @property
    def pid(self) -> int:
        return self.server.pid

    def path(self, path: str) -> str:
        """Return a path of the API as it stands in a request."""
        return self.server.url.removeprefix(self.server.origin) + path

    def query(self, sql: str) -> Any:
        """Return the first column of the first row that our database answers, None when there is no row."""
        assert self.database is not None
        settings = django_database({**os.environ, **self.database.environment})
        if self.database.vendor == "sqlite":
            with contextlib.closing(sqlite3.connect(settings["NAME"], timeout=30)) as connection:
                row = connection.execute(sql).fetchone()
                return row and row[0]
        import psycopg

        names = {"dbname": "NAME", "host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
        with psycopg.connect(**{name: settings[key] for name, key in names.items()}) as postgresql:
            row = postgresql.execute(sql.encode()).fetchone()
            return row and row[0]


@cache
def unavailable(vendor: str) -> str | None:
    """Say why a database cannot be measured here, None when it can."""
    if vendor != "postgresql":
        return None
    for module in ("psycopg", "asyncpg"):
        if not find_spec(module):
            return f"{module} is not installed"
    try:
        servers.administer({"DATABASE_VENDOR": "postgresql"}, "SELECT 1")
    except Exception as error:
        return f"it does not answer: {error}".strip()
    return None


def available(keys: Sequence[str]) -> list[str]:
    """Return those of some contenders whose database is there."""
    return [key for key in keys if unavailable(CONTENDERS[key].vendor) is None]


# What each serves before anything is measured, so that all is imported and connected.
WARM_UP = 50

_Kept = dict[tuple[str, tuple[tuple[str, str], ...]], "Running"]
# Those that stay for the next measure, with what stops them; None when none do.
_kept: tuple[_Kept, contextlib.ExitStack] | None = None


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Let contenders stay for the measures that follow, which saves the time to start them again."""
    global _kept
    with contextlib.ExitStack() as stack:
        _kept = {}, stack
        try:
            yield
        finally:
            _kept = None


@contextlib.contextmanager
def field(
    keys: Sequence[str], environment: Mapping[str, str] | None = None, *, fresh: bool = False
) -> Iterator[dict[str, Running]]:
    """Start contenders, each with an empty database of its own, and stop them at the end.

    Args:
        keys: who; those whose database is not there are left out.
        environment: variables for ``site`` and ``reference``.
        fresh: whether they must be new, with nothing stored.
    """
    given = tuple(sorted((environment or {}).items()))
    with contextlib.ExitStack() as own:
        running, stack = ({}, own) if fresh or _kept is None else _kept
        wanted = [(key, given) for key in available(keys)]
        new = [each for each in wanted if each not in running]
        for key, _ in new:
            running[key, given] = _make(stack, CONTENDERS[key], dict(given))
        with ThreadPoolExecutor(4) as starting:
            list(starting.map(lambda each: running[each].start(), new))
        yield {key: running[key, given] for key, _ in wanted}


@contextlib.contextmanager
def another(running: Running, contender: str) -> Iterator[Running]:
    """Start a second process of ours on the database of the first."""
    assert running.database is not None
    with contextlib.closing(_ours(CONTENDERS[contender], running.database, {})) as server:
        second = Running(server, running.database)
        with second.http:
            yield second.start()


def _make(stack: contextlib.ExitStack, contender: Contender, environment: dict[str, str]) -> Running:
    """Return a contender that is not started, and leave to the stack what must be done at the end."""
    if contender.is_ours:
        database = stack.enter_context(servers.Database(contender.vendor))
        server = _ours(contender, database, environment)
    else:
        database = None
        server = _reference(stack, contender, environment)
    stack.callback(server.close)
    running = Running(server, database)
    stack.callback(running.http.close)
    return running


def _ours(contender: Contender, database: servers.Database, environment: dict[str, str]) -> servers.Server:
    return servers.runworkflows(
        database,
        site="benchmarks.site",
        server=contender.server,
        environment={
            "BENCHMARK_SERVER": str(contender.server),
            "BENCHMARK_SYNCHRONOUS": contender.synchronous,
            **environment,
        },
    )


def _reference(stack: contextlib.ExitStack, contender: Contender, environment: dict[str, str]) -> servers.Server:
    if contender.vendor == "sqlite":
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="reference-"))
        environment["BENCHMARK_SQLITE"] = str(Path(directory) / "workflows.sqlite3")
    elif contender.vendor == "postgresql":
        environment["BENCHMARK_POSTGRESQL"] = stack.enter_context(_postgresql())
    command = [sys.executable, "-m", "benchmarks.reference", "{port}"]
    return servers.Server(command, environment=environment, name=contender.label)


@contextlib.contextmanager
def _postgresql() -> Iterator[str]:
    """Make an empty database for the reference and yield its URL."""
    where = {"DATABASE_VENDOR": "postgresql"}
    name = f"reference_{secrets.token_hex(6)}"
    servers.administer(where, f"CREATE DATABASE {name}")
    try:
        settings = django_database({**os.environ, **where})
        login = settings["USER"] + (f":{settings['PASSWORD']}" if settings["PASSWORD"] else "")
        yield f"postgresql://{login}@{settings['HOST']}:{settings['PORT']}/{name}"
    finally:
        servers.administer(where, f"DROP DATABASE {name} WITH (FORCE)")
