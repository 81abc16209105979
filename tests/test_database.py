from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
)
from django.db.models import DurationField, ExpressionWrapper, F
from django.utils import timezone

from django_workflows import database, handlers, leases
from django_workflows.exceptions import HandlerNotFound
from django_workflows.models import Context, Handler, Worker
from tests.storage import PATIENCE, a_run, a_start, a_worker, race, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)

sqlite_only = pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="about SQLite")
postgresql_only = pytest.mark.skipif(connections["default"].vendor != "postgresql", reason="about PostgreSQL")


@pytest.fixture(autouse=True)
def _readers() -> Iterator[None]:
    yield
    database.read.close()


# --- statements ----------------------------------------------------------------------------------------


def test_insert_fills_in_the_keys() -> None:
    rows = database.insert(Handler, [a_start().row() for _ in range(3)])

    assert len({row.pk for row in rows}) == 3
    assert [Handler.objects.get(pk=row.pk).handler_id for row in rows] == [row.handler_id for row in rows]


def test_insert_of_one_and_of_none() -> None:
    (row,) = database.insert(Handler, [a_start().row()])

    assert Handler.objects.get().pk == row.pk
    assert database.insert(Handler, []) == []


def test_upsert_writes_only_what_it_is_told() -> None:
    handler = a_run()
    now = timezone.now()
    row = Context(handler=handler, state="old", snapshot="old", updated_at=now)
    database.upsert(Context, [row], key=["handler"], update=["state"])

    again = Context(handler=handler, state="new", snapshot="new", updated_at=now)
    database.upsert(Context, [again], key=["handler"], update=["state"])

    found = Context.objects.get()
    assert (found.state, found.snapshot) == ("new", "old")


@postgresql_only
def test_a_locked_row_can_be_skipped() -> None:
    handler = a_run()

    def others() -> list[Handler]:
        with database.atomic():
            return list(database.locked(Handler.objects.all(), skip_locked=True))

    with database.atomic():
        assert list(database.locked(Handler.objects.all())) == [handler]
        assert race(others) == [[]]
    assert others() == [handler]


@postgresql_only
def test_a_lock_lets_rows_that_refer_to_it_be_written() -> None:
    handler = a_run()

    with database.atomic():
        list(database.locked(Handler.objects.all()))
        assert race(lambda: Context.objects.create(handler=handler, updated_at=timezone.now()).pk)[0]


def test_atomic_joins_the_callers_transaction() -> None:
    with rolled_back(), database.atomic():
        a_worker()
    assert not Worker.objects.exists()


def test_the_databases_clock_is_right_and_in_utc() -> None:
    worker = a_worker()

    assert abs((timezone.now() - worker.started_at).total_seconds()) < 60
    ages = ExpressionWrapper(database.DatabaseNow() - F("started_at"), output_field=DurationField())
    (age,) = Worker.objects.annotate(age=ages).values_list("age", flat=True)
    assert 0 <= age.total_seconds() < 60


def test_identifiers_are_told_apart_by_case_on_mysql() -> None:
    mysql = SimpleNamespace(
        vendor="mysql",
        data_types={"CharField": "varchar(%(max_length)s)", "TextField": "longtext"},
        ops=SimpleNamespace(quote_name=str),
    )

    assert Handler._meta.get_field("handler_id").db_type(mysql) == (
        "varchar(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    )
    assert "utf8mb4" in Handler._meta.get_field("start_event").db_type(mysql)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("server closed the connection unexpectedly"), True),
        (OperationalError("database is locked"), True),
        (OperationalError("deadlock detected"), True),
        (InterfaceError("connection already closed"), True),
        (DatabaseError("something else"), True),
        (ProgrammingError("no such table yet"), True),
        (IntegrityError("UNIQUE constraint failed"), False),
        (DataError("value too long"), False),
        (ValueError("no database error"), False),
        (HandlerNotFound(), False),
    ],
)
def test_which_errors_may_go_away(error: Exception, expected: bool) -> None:
    assert database.is_transient(error) is expected


# --- connections ---------------------------------------------------------------------------------------


@sqlite_only
def test_our_own_connection_suits_several_writing_processes(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_WORKFLOWS = {"SQLITE_SYNCHRONOUS": "FULL"}
    settings_dict = connections["default"].settings_dict
    monkeypatch.setitem(settings_dict, "OPTIONS", {"timeout": 1})

    def look() -> dict[str, Any]:
        connection = database.own_connection()
        assert connections["default"] is connection
        with connection.cursor() as cursor:
            found = {}
            for name in ("journal_mode", "synchronous", "busy_timeout"):
                cursor.execute(f"PRAGMA {name}")
                found[name] = cursor.fetchone()[0]
        return {**found, "mode": connection.transaction_mode, "name": connection.settings_dict["NAME"]}

    (found,) = race(look)

    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 30_000,
        "mode": "IMMEDIATE",
        "name": settings_dict["NAME"],
    }
    # The site's own connections stay as it has configured them.
    assert settings_dict["OPTIONS"] == {"timeout": 1}


def test_our_own_connection_writes_to_the_same_database() -> None:
    def write() -> None:
        database.own_connection()
        a_worker()

    assert race(write) == [None]
    assert Worker.objects.count() == 1


def test_many_threads_that_read_before_they_write_do_not_fail() -> None:
    handler = a_run()

    def count() -> None:
        database.own_connection()
        for _ in range(20):
            with database.atomic():
                found = database.locked(Handler.objects.filter(pk=handler.pk)).get()
                Handler.objects.filter(pk=handler.pk).update(fence=found.fence + 1)

    assert race(*[count] * 4) == [None] * 4
    handler.refresh_from_db()
    assert handler.fence == 1 + 80


def test_a_dropped_connection_is_opened_anew() -> None:
    def use() -> int:
        database.own_connection()
        a_worker()
        database.drop_connection()
        return Worker.objects.count()

    assert race(use) == [1]


def test_dropping_a_connection_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OperationalError

    monkeypatch.setattr(connections["default"], "close", fail)

    database.drop_connection()


def test_a_pool_leaves_no_connection_open() -> None:
    def use() -> Any:
        assert Worker.objects.count() == 0
        return connections["default"]

    def fail() -> None:
        use()
        raise ZeroDivisionError

    # CONN_MAX_AGE is 0 in the tests' settings.
    with database.ManagedExecutor(1) as pool:
        connection = pool.submit(use).result(PATIENCE)
        assert connection.connection is None
        assert isinstance(pool.submit(fail).exception(PATIENCE), ZeroDivisionError)
        assert connection.connection is None


# --- reading for the event loop ------------------------------------------------------------------------


async def test_a_read_runs_in_a_thread_that_keeps_its_connection() -> None:
    def look() -> tuple[int, Any]:
        Worker.objects.count()
        return threading.get_ident(), connections["default"].connection

    found = [await database.read(look) for _ in range(20)]

    assert threading.get_ident() not in dict(found)
    assert all(connection is dict(found)[thread] for thread, connection in found)


async def test_reads_run_at_the_same_time() -> None:
    barrier = threading.Barrier(database.READERS, timeout=PATIENCE)

    await asyncio.gather(*[database.read(barrier.wait) for _ in range(database.READERS)])


async def test_a_read_passes_its_arguments_and_its_errors() -> None:
    assert await database.read(divmod, 7, 2) == (3, 1)
    with pytest.raises(HandlerNotFound):
        await database.read(handlers.find, "nobody")


@postgresql_only
async def test_a_read_is_repeated_when_the_connection_has_died() -> None:
    def process() -> int:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])

    def kill(pid: int) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    first = await database.read(process)
    assert await asyncio.to_thread(race, lambda: kill(first)) == [None]
    assert await database.read(process) != first


async def test_a_read_that_fails_again_fails() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise OperationalError("down")

    with pytest.raises(OperationalError):
        await database.read(fail)
    assert len(calls) == 2
    assert await database.read(Worker.objects.count) == 0


async def test_what_finds_nothing_keeps_the_connection() -> None:
    def look(found: dict[int, list[Any]]) -> None:
        """Note the thread's connection, and find nothing."""
        Worker.objects.count()
        found.setdefault(threading.get_ident(), []).append(connections["default"].connection)
        handlers.find("nobody")

    found: dict[int, list[Any]] = {}
    for _ in range(20):
        with pytest.raises(HandlerNotFound):
            await database.read(look, found)

    for of_one_thread in found.values():
        assert all(connection is of_one_thread[0] for connection in of_one_thread)


async def test_reading_can_be_ended_and_begun_anew() -> None:
    seen: list[Any] = []

    def look() -> int:
        seen.append(connections["default"])
        return Worker.objects.count()

    assert await database.read(look) == 0
    database.read.close()
    assert seen[0].connection is None
    database.read.close()
    assert await database.read(look) == 0


def test_the_alias_is_the_settings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert database.alias() == "default"
    monkeypatch.setitem(settings.DATABASES, "runs", settings.DATABASES["default"])
    settings.DJANGO_WORKFLOWS = {"DATABASE": "runs"}
    assert database.alias() == "runs"


def test_leases_are_on_the_databases_clock() -> None:
    """A worker whose own clock is an hour wrong is not silent."""
    worker = a_worker()

    assert leases.heartbeat(worker.pk)
    worker.refresh_from_db()
    assert abs((timezone.now() - worker.heartbeat_at).total_seconds()) < 60
