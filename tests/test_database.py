from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from decimal import Decimal
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
    models,
)
from django.db.models import DurationField, ExpressionWrapper, F
from django.test.utils import isolate_apps
from django.utils import timezone

from django_workflows import database, handlers, journal, leases, mailbox
from django_workflows.database import trip
from django_workflows.exceptions import HandlerNotFound
from django_workflows.journal import TickEntry
from django_workflows.models import Context, Event, Handler, Tick, Worker
from tests.storage import (
    PATIENCE,
    a_run,
    a_start,
    a_worker,
    end,
    race,
    rolled_back,
    terminate_other_connections,
)

pytestmark = pytest.mark.django_db(transaction=True)

sqlite_only = pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="about SQLite")
# Nor a server, whose connections can break.
row_locks_only = pytest.mark.skipif(connections["default"].vendor == "sqlite", reason="SQLite has no row locks")
postgresql_only = pytest.mark.skipif(connections["default"].vendor != "postgresql", reason="about PostgreSQL")


@pytest.fixture(autouse=True)
def _readers() -> Iterator[None]:
    yield
    database.read.close()


# --- statements ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 250])
def test_insert_fills_in_the_keys(count: int) -> None:
    rows = database.insert(Handler, [a_start().row() for _ in range(count)], unique="run_id")

    assert len({row.pk for row in rows}) == count
    assert [Handler.objects.get(pk=row.pk).handler_id for row in rows] == [row.handler_id for row in rows]


def test_insert_of_one_and_of_none() -> None:
    (row,) = database.insert(Handler, [a_start().row()], unique="run_id")

    assert Handler.objects.get().pk == row.pk
    assert database.insert(Handler, [], unique="run_id") == []


def test_insert_writes_what_the_orm_writes() -> None:
    (ours,) = database.insert(Handler, [a_start(worker=None).row()], unique="run_id")
    theirs = a_start().row()
    theirs.started_at = theirs.updated_at = ours.started_at
    theirs.save(force_insert=True)

    names = {"id", "handler_id", "run_id"}
    written, expected = (
        {name: value for name, value in row.items() if name not in names}
        for row in Handler.objects.order_by("pk").values()
    )
    assert written == expected
    assert (ours._state.adding, ours._state.db) == (theirs._state.adding, theirs._state.db)


def test_an_insert_overwrites_only_what_it_is_told() -> None:
    one, other = a_run(), a_run()
    columns = ("handler", "state", "snapshot", "snapshot_sequence", "updated_at")
    statement = database.Statement(Context, columns, unique=("handler",), replaced=("state",))

    statement.execute([(one.pk, "old", "old", 1, timezone.now())])
    statement.execute([(run.pk, "new", "new", 2, timezone.now()) for run in (one, other)])

    found = Context.objects.order_by("handler").values_list("state", "snapshot", "snapshot_sequence")
    assert list(found) == [("new", "old", 1), ("new", "new", 2)]


@row_locks_only
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


# --- statements of the hot path ------------------------------------------------------------------------

MOMENTS = [
    datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    # Another zone, without fractions of a second.
    datetime(2026, 7, 2, 23, 59, 59, tzinfo=timezone.get_fixed_timezone(120)),
]


def all_columns(model: Any, **filters: Any) -> list[dict[str, Any]]:
    rows = model.objects.filter(**filters).order_by("pk").values()
    return [{name: value for name, value in row.items() if name not in ("id", "handler_id")} for row in rows]


@pytest.mark.parametrize("count", [1, 2, 250])
def test_an_insert_statement_writes_what_the_orm_writes(count: int) -> None:
    columns = ("run", "sequence", "type", "internal", "data", "created_at")
    rows = [
        (
            1,
            number,
            "Ä" * 100,
            number % 2 == 0,
            f'{{"text": "\U0001f600 %s \' \\n ; -- {number}"}}',
            MOMENTS[number % 3],
        )
        for number in range(count)
    ]
    ours, theirs = a_run(), a_run()

    database.Statement(Event, ("handler", *columns)).execute((ours.pk, *row) for row in rows)
    Event.objects.bulk_create(Event(handler=theirs, **dict(zip(columns, row, strict=True))) for row in rows)

    assert len(all_columns(Event, handler=ours)) == count
    assert all_columns(Event, handler=ours) == all_columns(Event, handler=theirs)


@pytest.mark.parametrize("moment", [*MOMENTS, None])
def test_an_update_statement_writes_what_the_orm_writes(moment: datetime | None) -> None:
    ours, theirs, other = a_run(), a_run(), a_run()
    columns = ("status", "result", "completed_at", "worker")
    values = ("completed", '{"value": "%d"}', moment, None)

    database.Statement(Handler, columns, key=("id",)).execute([(*values, ours.pk)])
    Handler.objects.filter(pk=theirs.pk).update(**dict(zip(columns, values, strict=True)))

    written, expected = (
        Handler.objects.filter(pk=run.pk).values("status", "result", "completed_at", "worker", "wake_at").get()
        for run in (ours, theirs)
    )
    assert written == expected
    assert Handler.objects.get(pk=other.pk).status == "running"


@pytest.mark.parametrize("count", [2, 250])
def test_an_update_of_many_rows_writes_to_each_its_own(count: int) -> None:
    first, *others = runs = [a_run() for _ in range(count)]
    columns = ("status", "error", "completed_at", "worker", "crashes")

    rows = [("failed", None if run is first else f"'{run.pk}'\\ %s", MOMENTS[0], None, 3, run.pk) for run in runs]
    database.Statement(Handler, columns, key=("id",)).execute(rows)

    found = Handler.objects.order_by("pk").values_list(*columns, "pk")
    assert list(found) == rows
    database.Statement(Handler, ("error", "completed_at"), key=("id",)).execute(
        (None, None, run.pk) for run in others
    )
    assert list(Handler.objects.exclude(completed_at=None)) == [first]


@postgresql_only
@pytest.mark.parametrize("count", [1, 2])
def test_what_a_column_cannot_hold_is_refused(count: int) -> None:
    runs = [a_run() for _ in range(count)]
    statement = database.Statement(Handler, ("status", "error"), key=("id",))

    for wrong in [("x" * 17, None), ("failed", "a\0b")]:
        with pytest.raises(DataError):
            statement.execute([(*wrong, run.pk) for run in runs])
    assert set(Handler.objects.values_list("status", "error")) == {("running", None)}


@postgresql_only
def test_values_are_written_as_psycopg_writes_them() -> None:
    """Whatever they are, they are what they were."""
    from psycopg import ClientCursor

    connection = connections["default"]
    write = trip.Literals(connection)
    values = [
        *("", "'", "\\", "\\'", "%s", "$1", "\n", "\U0001f600", "'; DROP TABLE x; --"),
        *(0, -1, 2**62, True, False, None, Decimal("-1.50"), Handler.Status.FAILED),
        *(*MOMENTS, datetime(2026, 1, 2, 3, 4, 5)),
    ]
    with connection.cursor() as cursor:
        for value in values:
            for sql in ("SELECT %s", "SELECT 1 -%s" if isinstance(value, Decimal) else "SELECT '%%', %s"):
                cursor.execute(write(sql, [value]))
                ours = cursor.fetchall()
                cursor.execute(ClientCursor(connection.connection).mogrify(sql, [value]))
                assert ours == cursor.fetchall(), value


@pytest.fixture
def owned() -> Iterator[type[models.Model]]:
    """A table whose rows belong to what has a UUID as its key, as a site's users may."""
    with isolate_apps("tests"):

        class Person(models.Model):  # noqa: DJ008
            id = models.UUIDField(primary_key=True, default=uuid.uuid4)

            class Meta:
                app_label = "tests"

        class Thing(models.Model):  # noqa: DJ008
            name = models.CharField(max_length=10)
            owner = models.ForeignKey(Person, models.CASCADE, null=True, db_constraint=False)

            class Meta:
                app_label = "tests"

        with connections["default"].schema_editor() as editor:
            editor.create_model(Person)
            editor.create_model(Thing)
        yield Thing
        with connections["default"].schema_editor() as editor:
            editor.delete_model(Thing)
            editor.delete_model(Person)


def test_rows_may_belong_to_users_whose_keys_are_no_numbers(owned: type[models.Model]) -> None:
    owner = uuid.uuid4()
    rows: list[Any] = [owned(name="his", owner_id=owner), owned(name="nobody's")]
    database.insert(owned, rows, unique="name")
    database.Statement(owned, ("owner",), key=("id",)).execute([(owner, rows[1].pk)])
    found = owned._default_manager.order_by("pk").values_list("name", "owner_id")
    assert list(found) == [("his", owner), ("nobody's", owner)]


def test_a_statement_without_rows_writes_nothing(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        database.Statement(Event, ("handler",)).execute([])


def test_a_statement_is_part_of_the_callers_transaction() -> None:
    run = a_run()
    with rolled_back():
        database.Statement(Handler, ("error",), key=("id",)).execute([("why", run.pk)])

    assert Handler.objects.get().error is None


def test_a_lookup_finds_what_the_orm_finds(django_assert_num_queries: Any) -> None:
    runs = [a_run() for _ in range(5)]
    lookup = database.Lookup(
        lambda keys: Handler.objects.filter(pk__in=keys, status="running").order_by("pk").values_list("pk", "run")
    )
    for number in range(1, len(runs) + 1):
        keys = [run.pk for run in runs[:number]]
        with django_assert_num_queries(1):
            assert lookup(keys) == [(key, 1) for key in keys]
    with django_assert_num_queries(0):
        assert lookup([]) == []
    assert lookup([runs[0].pk, 0, runs[0].pk]) == [(runs[0].pk, 1)]


def _in_one_trip(*demanded: tuple[list[int], list[tuple[int, ...]]]) -> None:
    """Write that a run failed, if what is demanded of running ones is so."""
    lookup = database.Lookup(
        lambda keys: (
            database.locked(Handler.objects.filter(pk__in=keys, status="running"))
            .order_by("pk")
            .values_list("pk", "run")
        )
    )
    with database.one_trip():
        for keys, rows in demanded:
            database.demand(lookup, keys, rows)
        database.Statement(Handler, ("error",), key=("id",)).execute([("why", keys[0]) for keys, _ in demanded])


@postgresql_only
@pytest.mark.parametrize("others", [0, 1, 6])
def test_a_transaction_of_one_trip_is_committed(others: int) -> None:
    runs = [a_run() for _ in range(1 + others)]
    ended = a_run()
    end(ended)

    _in_one_trip(([run.pk for run in runs], [(run.pk, 1) for run in runs]), ([ended.pk], []))

    failed = {runs[0].pk, ended.pk}
    assert race(lambda: set(Handler.objects.filter(error="why").values_list("pk", flat=True))) == [failed]
    # Django knows that it is over.
    connection = connections["default"]
    assert connection.get_autocommit()
    assert connection.connection.info.transaction_status == 0


@postgresql_only
@pytest.mark.parametrize("wrong", ["another row", "one too few", "one too many", "last"])
def test_a_transaction_whose_demand_fails_changes_nothing(wrong: str) -> None:
    run, other, ended = a_run(), a_run(), a_run()
    end(ended)
    demanded = {
        "another row": [([run.pk], [(run.pk, 2)])],
        "one too few": [([run.pk, ended.pk], [(run.pk, 1), (ended.pk, 1)])],
        "one too many": [([run.pk], [])],
        "last": [([run.pk], [(run.pk, 1)]), ([other.pk], [])],
    }[wrong]

    with pytest.raises(database.DemandFailed):
        _in_one_trip(*demanded)

    assert not Handler.objects.filter(error="why").exists()
    _in_one_trip(([run.pk], [(run.pk, 1)]))
    assert Handler.objects.get(error="why") == run


@postgresql_only
def test_what_else_fails_in_a_transaction_of_one_trip_is_raised_as_it_is() -> None:
    run = a_run()
    with pytest.raises(IntegrityError), database.one_trip():
        database.Statement(Handler, ("worker",), key=("id",)).execute([(0, run.pk)])
    with pytest.raises(DataError), database.one_trip():
        database.Statement(Handler, ("status",), key=("id",)).execute([("x" * 100, run.pk)])

    def change_and_fail() -> None:
        database.Statement(Handler, ("error",), key=("id",)).execute([("why", run.pk)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), database.one_trip():
        change_and_fail()

    run.refresh_from_db()
    assert (run.status, run.error, run.worker) == ("running", None, None)


@postgresql_only
def test_rows_are_fetched_when_the_transaction_of_one_trip_is_over() -> None:
    run = a_run()
    statement = database.Statement(Tick, ("handler", "run", "sequence", "data"), returning=("sequence", "data"))
    rows = [(run.pk, 1, number, f"'; DROP TABLE \\ %s {number}") for number in range(150)]

    with database.one_trip():
        database.Statement(Handler, ("error",), key=("id",)).execute([("why", run.pk)])
        answered = statement.send(rows)
        again = statement.send([])

    assert sorted(answered()) == [row[2:] for row in rows]
    assert again() == []
    assert list(Tick.objects.order_by("sequence").values_list("sequence", "data")) == [row[2:] for row in rows]


@postgresql_only
def test_what_the_orm_writes_is_part_of_a_transaction_of_one_trip() -> None:
    run, other = a_run(), a_run()

    def change_and_demand() -> None:
        Handler.objects.filter(pk=run.pk).update(error="why")
        keys = database.Lookup(lambda keys: Handler.objects.filter(pk__in=keys).values_list("pk"))
        database.demand(keys, [0], [(0,)])

    with pytest.raises(database.DemandFailed), database.one_trip():
        change_and_demand()
    assert not Handler.objects.filter(error="why").exists()

    with database.one_trip():
        Handler.objects.filter(pk=run.pk).update(error="why")
        assert race(lambda: Handler.objects.filter(error="why").exists()) == [False]
        Handler.objects.filter(pk=other.pk).update(error="why not")

    assert race(lambda: set(Handler.objects.values_list("error", flat=True))) == [{"why", "why not"}]


def _prepared() -> list[tuple[str, list[str]]]:
    """Return what this thread's connection keeps prepared of our statements: names and types of parameters."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT name, parameter_types::text[] FROM pg_prepared_statements WHERE name LIKE 'dwf%'")
        return list(cursor.fetchall())


@postgresql_only
def test_a_statement_of_one_trip_is_prepared_once() -> None:
    for count in (1, 2, 3, 2, 4, 1, 3):
        runs = [a_run() for _ in range(count)]
        _in_one_trip(([run.pk for run in runs], [(run.pk, 1) for run in runs]))
        if count == 4:
            prepared = _prepared()

    # What is demanded of one, two and four keys, and the UPDATE.
    assert len(prepared) == 3 + 1
    assert _prepared() == prepared
    assert Handler.objects.filter(error="why").count() == 7


@postgresql_only
def test_what_was_never_sent_is_not_taken_for_prepared() -> None:
    lease = leases.of(a_run())
    for text in ("NUL \0", "{}"):
        with pytest.raises(DataError) if "\0" in text else nullcontext(), database.one_trip():
            journal.append([(lease, TickEntry(0, text))])

    assert Tick.objects.get().data == "{}"
    assert len(_prepared()) == 1


@postgresql_only
def test_what_failed_is_not_taken_for_prepared(caplog: pytest.LogCaptureFixture) -> None:
    """A transaction may fail before or after a statement of its message was prepared."""
    caplog.set_level("INFO", "django_workflows.database")
    run = a_run()
    for _ in range(2):
        with pytest.raises(database.DemandFailed):
            _in_one_trip(([run.pk], [(run.pk, 2)]))
        _in_one_trip(([run.pk], [(run.pk, 1)]))

    assert Handler.objects.get().error == "why"
    assert not caplog.records


@postgresql_only
def test_a_pooler_that_keeps_nothing_prepared_costs_no_write(caplog: pytest.LogCaptureFixture) -> None:
    """It gives each transaction another of its connections, or forgets on them what was prepared."""
    caplog.set_level("INFO", "django_workflows.database")
    for number in range(3):
        run = a_run()
        _in_one_trip(([run.pk], [(run.pk, 1)]))
        assert Handler.objects.filter(error="why").count() == number + 1
        with connections["default"].cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")

    assert [record.getMessage() for record in caplog.records] == [
        "the database keeps no statements prepared, perhaps because of a pooler; it gets them as text"
    ]
    with pytest.raises(database.DemandFailed):
        _in_one_trip(([run.pk], [(run.pk, 2)]))


@postgresql_only
def test_no_more_is_prepared_than_a_connection_shall_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trip, "PREPARED", 3)
    runs = [a_run() for _ in range(5)]
    for count in range(1, 6):
        _in_one_trip(([run.pk for run in runs[:count]], [(run.pk, 1) for run in runs[:count]]))

    assert len(_prepared()) == 3


@postgresql_only
def test_what_is_prepared_while_a_table_is_small_is_fast_when_it_is_large() -> None:
    def write(runs: list[Handler]) -> None:
        keys = [run.pk for run in runs]
        with database.one_trip():
            leases.demand([leases.of(run) for run in runs])
            mailbox.demand_no_cancellation(keys)
            mailbox.discard(keys)
            ending = handlers.Ending(Handler.Status.FAILED, None, "why", timezone.now())
            handlers.end((leases.of(run), ending) for run in runs)

    def plans() -> list[str]:
        connection = database.own_connection()
        try:
            write([a_run()])
            write([a_run(), a_run()])
            database.insert(Handler, [a_start().row() for _ in range(1000)], unique="run_id")
            found = []
            with connection.cursor() as cursor:
                for name, types in _prepared():
                    arguments = [_ARGUMENTS.get(type, "'{1}'" if type.endswith("[]") else "'1'") for type in types]
                    cursor.execute(f"EXPLAIN EXECUTE {name}({', '.join(arguments)})")
                    found.append("\n".join(line for (line,) in cursor.fetchall()))
            return found
        finally:
            database.drop_connection()

    (found,) = race(plans)

    assert len(found) == 8
    for plan in found:
        assert "Seq Scan" not in plan
        assert "on django_workflows_handler" not in plan or "django_workflows_handler_pkey" in plan
        assert "dwf_handler" not in plan


_TIME = "2026-01-02 03:04:05Z"
_ARGUMENTS = {"timestamp with time zone": f"'{_TIME}'", "timestamp with time zone[]": f"'{{{_TIME}}}'"}


@postgresql_only
def test_what_is_too_long_for_one_trip_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run()
    monkeypatch.setattr(trip, "MOST", 1000)

    with pytest.raises(database.DemandFailed), database.one_trip():
        database.Statement(Handler, ("error",), key=("id",)).execute([("x" * 500, run.pk), ("y" * 500, run.pk)])

    run.refresh_from_db()
    assert run.error is None


@postgresql_only
def test_the_rows_of_a_demand_are_locked() -> None:
    """Who holds one of them is waited for, and what he has done counts."""
    run = a_run()
    locked, go_on = threading.Event(), threading.Event()

    def take_over() -> None:
        with database.atomic():
            Handler.objects.select_for_update().get(pk=run.pk)
            locked.set()
            go_on.wait(PATIENCE)
            Handler.objects.filter(pk=run.pk).update(run=2)

    def write() -> None:
        assert locked.wait(PATIENCE)
        threading.Timer(0.2, go_on.set).start()
        _in_one_trip(([run.pk], [(run.pk, 1)]))

    assert [type(result) for result in race(take_over, write)] == [type(None), database.DemandFailed]
    assert Handler.objects.get().error is None


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


@row_locks_only
def test_our_own_connection_does_not_wait_long_for_a_lock(settings: Any) -> None:
    """Somebody's long transaction must not keep a process's only writer from its heartbeat."""
    settings.DJANGO_WORKFLOWS = {**settings.DJANGO_WORKFLOWS, "LEASE_TIMEOUT": 6}
    started, tried = threading.Event(), threading.Event()

    def begin_a_long_transaction() -> None:
        with database.atomic():
            a_run("chosen")
            started.set()
            assert tried.wait(PATIENCE)

    def want_the_same_id() -> None:
        database.own_connection()
        assert started.wait(PATIENCE)
        try:
            a_run("chosen")
        finally:
            tried.set()
            database.drop_connection()

    _, error = race(begin_a_long_transaction, want_the_same_id)

    assert isinstance(error, OperationalError)
    assert database.is_transient(error)


@row_locks_only
def test_who_stands_still_in_a_transaction_keeps_no_locks(settings: Any) -> None:
    """A process that was stopped, or whose host is gone: the server would wait for its next word for hours."""
    settings.DJANGO_WORKFLOWS = {**settings.DJANGO_WORKFLOWS, "LEASE_TIMEOUT": 6}
    connection: Any = connections["default"]
    if connection.vendor == "mysql" and not connection.mysql_is_mariadb:
        pytest.skip("MySQL has no such limit")
    run = a_run(worker=a_worker().pk)
    holding, taken = threading.Event(), threading.Event()

    def stand_still() -> None:
        database.own_connection()
        try:
            with database.atomic():
                assert leases.hold([leases.of(run)])
                holding.set()
                assert taken.wait(PATIENCE)
                Handler.objects.filter(pk=run.pk).update(error="written by the dead")
        finally:
            database.drop_connection()

    def take_over() -> int:
        assert holding.wait(PATIENCE)
        runs = leases.retire(run.worker_id or 0)
        taken.set()
        return runs

    error, runs = race(stand_still, take_over)

    assert runs == 1
    assert database.is_transient(error)
    assert Handler.objects.get(pk=run.pk).error is None


@postgresql_only
@pytest.mark.parametrize(("given", "expected"), [({}, "6000"), ({"tcp_user_timeout": 999}, "999")])
def test_a_host_that_is_gone_is_not_waited_for_long(
    settings: Any, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], expected: str
) -> None:
    settings.DJANGO_WORKFLOWS = {**settings.DJANGO_WORKFLOWS, "LEASE_TIMEOUT": 6}
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", given)

    def look() -> str:
        connection = database.own_connection()
        try:
            connection.ensure_connection()
            return connection.connection.info.get_parameters()["tcp_user_timeout"]
        finally:
            database.drop_connection()

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(look).result() == expected


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


@row_locks_only
async def test_a_read_is_repeated_when_the_connection_has_died() -> None:
    def process() -> int:
        with connections["default"].cursor() as cursor:
            mysql = connections["default"].vendor == "mysql"
            cursor.execute("SELECT connection_id()" if mysql else "SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])

    first = await database.read(process)
    assert await asyncio.to_thread(race, terminate_other_connections) == [None]
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


# --- time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_moment_compares_with_the_databases_clock(settings: Any, use_tz: bool, zone: str) -> None:
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    now = time.time()
    worker = a_worker()
    assert abs(database.seconds(worker.heartbeat_at) - now) < PATIENCE
    assert abs(database.seconds(database.moment(now)) - now) < 0.001

    run = a_run()
    for wake_at, is_due in [
        (database.at_once(), True),
        (database.moment(now - 60), True),
        (database.moment(now + 60), False),
    ]:
        Handler.objects.filter(pk=run.pk).update(wake_at=wake_at)
        assert Handler.objects.due().exists() is is_due
