"""What the event loop writes by itself, with the writer's thread behind it: on PostgreSQL and SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from django.db import DataError, OperationalError, connections
from django.db.models import F
from django.utils import timezone

from django_workflows import database, leases
from django_workflows.contexts import Snapshot
from django_workflows.database import clerk, courier
from django_workflows.eventlog import EventEntry
from django_workflows.exceptions import LeaseLost
from django_workflows.handlers import Idle, Start
from django_workflows.journal import TickEntry
from django_workflows.models import Handler, Tick
from django_workflows.runtime import express
from django_workflows.runtime.writer import Writer
from django_workflows.runtime.writes import Changes
from tests.storage import CARRIER, PATIENCE, a_run, a_start, a_worker, an_ending, race, terminate_other_connections

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CARRIER is None, reason="there the thread writes everything"),
]
about_postgresql = pytest.mark.skipif(connections["default"].vendor != "postgresql", reason="about PostgreSQL")
about_sqlite = pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="about SQLite")


@pytest.fixture
async def writer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Writer]:
    # However slow the machine is, the thread writes nothing for that reason.
    monkeypatch.setattr(clerk, "LONG", PATIENCE)
    writer = Writer(interval=0.05)
    writer.start()
    await _ready(writer)
    yield writer
    await writer.close()


async def _ready(writer: Writer) -> None:
    """Wait until the event loop has a connection, and has written of each kind."""
    assert writer._express is not None
    async with asyncio.timeout(PATIENCE):
        while not writer._express.has_carrier:
            await writer.submit(lambda: None)
            await asyncio.sleep(0.01)
        for count in (1, 2, 3):
            runs = await _runs(count)
            await _write(writer, *(Changes(leases.of(run), ending=an_ending()) for run in runs))
        await _write(writer, a_start())


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each transaction that the event loop was to carry, whether it was sent."""
    found: list[bool] = []
    assert CARRIER is not None
    carry = CARRIER.carry

    def look(carrier: Any, write: Any) -> Any:
        found.append(False)
        written = carry(carrier, write)
        found[-1] = True
        return written

    monkeypatch.setattr(CARRIER, "carry", look)
    return found


async def _runs(count: int) -> list[Handler]:
    (runs,) = await asyncio.to_thread(race, lambda: [a_run(worker=a_worker().pk) for _ in range(count)])
    return runs


async def _write(writer: Writer, *requests: Any) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*map(writer.submit, requests), return_exceptions=True)


async def _until(look: Callable[[], Awaitable[Any]], expected: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await look() == expected:
                return
            await asyncio.sleep(0.01)


async def _ticks() -> dict[int, list[str]]:
    (found,) = await asyncio.to_thread(
        race, lambda: list(Tick.objects.order_by("pk").values_list("handler_id", "data"))
    )
    return {key: [data for other, data in found if other == key] for key, _ in found}


def _tick(run: Handler, data: str, sequence: int = 0) -> Changes:
    return Changes(leases.of(run), ticks=[TickEntry(sequence, data)])


async def test_what_comes_together_is_one_transaction_without_the_thread(
    writer: Writer, carried: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = await _runs(3)
    monkeypatch.setattr(writer, "_hand_over", None)
    start = a_start()

    *results, handler = await _write(writer, *(_tick(run, "{}") for run in runs), start)

    assert results == [None] * 3
    assert isinstance(handler, Handler)
    assert handler.run_id == start.run_id
    assert carried == [True]
    assert await _ticks() == {run.pk: ["{}"] for run in runs}


async def test_nothing_usual_needs_the_thread(writer: Writer, carried: list[bool]) -> None:
    """Also where what Django does for a statement differs between its versions."""
    (run,) = await _runs(1)
    lease, now = leases.of(run), timezone.now()
    for number in range(2):
        carried.clear()
        entry = EventEntry(number, False, "{}", "Event", now)
        snapshot = Snapshot(sequence=number, data="{}")
        usual = [
            Changes(lease, ticks=[TickEntry(number, "{}")], events=[entry]),
            Changes(lease, state="{}"),
            Changes(lease, snapshot=snapshot),
            Changes(lease, consumed=[10**6]),
            Changes(lease, idle=Idle(since=now)),
            Changes(lease, progressed=True),
        ]
        for changes in usual:
            assert await _write(writer, changes) == [None]
        assert isinstance((await _write(writer, a_start()))[0], Handler)
    for mailed, run in zip((True, False), await _runs(2), strict=True):
        assert await _write(writer, Changes(leases.of(run), ending=an_ending(), mailed=mailed)) == [None]

    assert carried == [True] * 9


async def test_the_thread_reads_all_that_was_written_before_and_nothing_of_what_comes_later(
    writer: Writer, carried: list[bool]
) -> None:
    before = await asyncio.to_thread(race, Handler.objects.count)
    counts = []
    for _ in range(20):
        first = asyncio.ensure_future(writer.submit(a_start()))
        await first
        look, then = writer.submit(Handler.objects.count), writer.submit(a_start())
        await asyncio.sleep(0)
        also = writer.submit(a_start())
        counts.append(await look)
        # It came first, or they did, but never half of it.
        await asyncio.gather(then, also)

    assert all(carried)
    steps = [count - before[0] - 3 * number for number, count in enumerate(counts)]
    assert set(steps) <= {1, 2, 3}


async def test_nobody_starves(writer: Writer) -> None:
    """While there is always something usual to write, the thread has its turn, and the other way round."""
    is_over = False

    async def go_on(make: Any) -> int:
        count = 0
        while not is_over:
            await writer.submit(make())
            count += 1
        return count

    both = [asyncio.ensure_future(go_on(make)) for make in (a_start, lambda: lambda: None) for _ in range(3)]
    await asyncio.sleep(0.5)
    is_over = True
    async with asyncio.timeout(PATIENCE):
        counts = await asyncio.gather(*both)

    assert min(counts) > 5, counts


async def test_what_is_put_off_holds_up_nobody(writer: Writer, carried: list[bool], settings: Any) -> None:
    """A write that fails is tried again after a while; others are written meanwhile, and by the loop after it."""
    settings.DJANGO_WORKFLOWS = {**settings.DJANGO_WORKFLOWS, "PERSISTENCE_BACKOFF": [2]}
    (run,) = await _runs(1)
    tries = []

    def fail_once() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise OperationalError("the server closed the connection unexpectedly")

    put_off = writer.submit(fail_once)
    for number in range(3):
        assert await _write(writer, _tick(run, str(number), number)) == [None]
    assert not put_off.done()
    assert await put_off is None
    await asyncio.sleep(0)
    carried.clear()
    assert await _write(writer, _tick(run, "3", 3)) == [None]

    assert carried == [True]
    assert (await _ticks())[run.pk] == list("0123")


async def test_a_lease_that_was_lost_costs_only_its_own_run(writer: Writer, carried: list[bool]) -> None:
    runs = await _runs(3)
    taken = Handler.objects.filter(pk=runs[1].pk)
    await asyncio.to_thread(race, lambda: taken.update(fence=F("fence") + 1))

    results = await _write(writer, *(_tick(run, "{}") for run in runs))

    assert [type(result) for result in results] == [type(None), LeaseLost, type(None)]
    assert len(carried) == 1
    assert (await _ticks()).keys() == {runs[0].pk, runs[2].pk}
    # It was refused, so there is no doubt about a commit.
    assert writer.failures == 0


@about_postgresql
async def test_what_cannot_be_stored_costs_only_its_own_run(writer: Writer) -> None:
    runs = await _runs(3)
    wrong = [
        _tick(runs[0], "NUL \0"),
        Changes(leases.of(runs[1]), ending=an_ending(Handler.Status.FAILED, error="a\0b")),
        _tick(runs[2], "{}"),
    ]

    results = await _write(writer, *wrong)

    assert [type(result) for result in results] == [DataError, DataError, type(None)]
    assert await _ticks() == {runs[2].pk: ["{}"]}


@about_postgresql
async def test_a_connection_that_breaks_in_between_loses_nothing(writer: Writer, carried: list[bool]) -> None:
    (run,) = await _runs(1)
    for number in range(3):
        await asyncio.to_thread(race, terminate_other_connections)
        assert await _write(writer, _tick(run, str(number), 2 * number)) == [None]
        # And it has one again.
        await _ready(writer)
        carried.clear()
        assert await _write(writer, _tick(run, f"{number} again", 2 * number + 1)) == [None]
        assert carried == [True]

    expected = [text for number in range(3) for text in (str(number), f"{number} again")]
    assert (await _ticks())[run.pk] == expected


@about_postgresql
async def test_a_connection_that_breaks_under_way_loses_nothing(writer: Writer, carried: list[bool]) -> None:
    """The transaction waits for somebody's lock when its connection is cut off."""
    run, other = await _runs(2)
    start = a_start()
    locked, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        with database.atomic():
            Handler.objects.select_for_update().get(pk=run.pk)
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(PATIENCE)

    def cut_off() -> int:
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return len(cursor.fetchall())

    holding = asyncio.create_task(asyncio.to_thread(race, hold))
    await locked.wait()
    writing = asyncio.create_task(_write(writer, _tick(run, "{}"), _tick(other, "{}"), start))
    await _until(lambda: asyncio.to_thread(race, cut_off), [1])
    assert carried == [True]
    go_on.set()
    assert await holding == [None]

    results = await writing

    assert results[:2] == [None, None]
    assert results[2].run_id == start.run_id
    assert await _ticks() == {run.pk: ["{}"], other.pk: ["{}"]}
    # Somebody has to look whether something was committed unheard.
    assert writer.failures >= 1


class Relay:
    """Between clients and PostgreSQL; once it is silent, it passes no answers on."""

    def __init__(self, host: str, port: int) -> None:
        self.is_silent = False
        self._address = host, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._address)
                threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                if not (answers and self.is_silent):
                    target.sendall(data)


@about_postgresql
async def test_a_connection_that_falls_silent_holds_up_nobody_for_longer_than_a_lease(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Heartbeats go over another connection, so that nobody else takes the runs."""
    settings.DJANGO_WORKFLOWS = {**settings.DJANGO_WORKFLOWS, "LEASE_TIMEOUT": 1.0}
    given = connections["default"].settings_dict
    relay = Relay(given["HOST"] or "127.0.0.1", int(given["PORT"] or 5432))
    straight = courier.new_connection

    def relayed() -> Any:
        connection = straight()
        connection.settings_dict = {**connection.settings_dict, "HOST": "127.0.0.1", "PORT": relay.port}
        return connection

    monkeypatch.setattr(courier, "new_connection", relayed)
    writer = Writer(interval=0.05)
    writer.start()
    await _ready(writer)
    monkeypatch.setattr(courier, "new_connection", straight)
    (run,) = await _runs(1)
    relay.is_silent = True

    written, started = await _write(writer, _tick(run, "{}"), a_start())

    # The first was committed unheard: whoever takes the run up finds it.
    assert isinstance(written, LeaseLost)
    assert await _ticks() == {run.pk: ["{}"]}
    assert isinstance(started, Handler)
    await writer.close()
    relay.close()


@about_postgresql
async def test_a_commit_that_was_not_heard_of_is_not_repeated(
    writer: Writer, carried: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has committed, and then the connection breaks before it could say so."""
    (run,) = await _runs(1)
    start = a_start()
    monkeypatch.setattr(database.Courier, "_readable", lambda courier: None)
    assert writer._express is not None
    courier = writer._express._carrier
    assert isinstance(courier, database.Courier)
    courier._loop.remove_reader(courier._socket)

    writing = asyncio.create_task(_write(writer, start, _tick(run, "{}")))
    await _until(_ticks, {run.pk: ["{}"]})
    writer._express._answered(database.ConnectionLost())
    started, changed = await writing

    assert carried == [True]
    assert started.run_id == start.run_id
    # Its owner must not go on as if nothing had happened, and takes it up again from what is stored.
    assert isinstance(changed, LeaseLost)
    assert await _ticks() == {run.pk: ["{}"]}
    (count,) = await asyncio.to_thread(race, Handler.objects.filter(run_id=start.run_id).count)
    assert count == 1


@about_postgresql
async def test_what_is_larger_than_a_socket_takes_is_sent_bit_by_bit(writer: Writer, carried: list[bool]) -> None:
    (run,) = await _runs(1)
    texts = [letter * 20_000_000 for letter in "xy"]

    assert await _write(writer, *(_tick(run, text, number) for number, text in enumerate(texts[:1]))) == [None]
    assert await _write(writer, _tick(run, texts[1], 1)) == [None]

    assert carried == [True, True]
    assert (await _ticks())[run.pk] == texts


async def test_who_goes_away_does_not_undo_what_he_has_submitted(writer: Writer, carried: list[bool]) -> None:
    runs = await _runs(2)
    gone, stays = (writer.submit(_tick(run, "{}")) for run in runs)
    gone.cancel()

    assert await stays is None
    assert (await _ticks()).keys() == {run.pk for run in runs}
    assert carried == [True]


async def test_the_end_of_a_writer_waits_for_what_is_under_way(writer: Writer) -> None:
    starts: list[Start] = [a_start() for _ in range(5)]
    first = [writer.submit(start) for start in starts[:2]]
    await asyncio.sleep(0)
    then = [writer.submit(start) for start in starts[2:]]
    look = writer.submit(lambda: 1)

    async with asyncio.timeout(PATIENCE):
        await writer.close()
        results = await asyncio.gather(*first, *then, look)

    assert [handler.run_id for handler in results[:-1]] == [start.run_id for start in starts]
    assert results[-1] == 1


async def test_without_a_connection_for_the_event_loop_the_thread_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise OSError("no connection is left")

    monkeypatch.setattr(database, "open_connection", fail)
    writer = Writer()
    writer.start()
    (run,) = await _runs(1)
    try:
        for number in range(3):
            assert await _write(writer, _tick(run, str(number), number)) == [None]
    finally:
        await writer.close()

    assert await _ticks() == {run.pk: ["0", "1", "2"]}


@about_sqlite
async def test_a_lock_is_waited_for_in_the_thread_while_the_loop_goes_on(
    writer: Writer, carried: list[bool]
) -> None:
    (run,) = await _runs(1)
    locked, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        with database.atomic():
            Handler.objects.filter(pk=run.pk).update(error="somebody writes")
            loop.call_soon_threadsafe(locked.set)
            assert go_on.wait(PATIENCE)

    holding = asyncio.create_task(asyncio.to_thread(race, hold))
    await locked.wait()
    writing = writer.submit(_tick(run, "{}"))
    await _until(lambda: asyncio.sleep(0, carried), [False])
    assert not writing.done()
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        assert await writing is None
    assert await holding == [None]

    assert await _ticks() == {run.pk: ["{}"]}
    # Nothing was written by the loop's try, so nobody has to look.
    assert writer.failures == 0


@about_sqlite
async def test_the_thread_brings_the_log_into_the_database(
    writer: Writer, carried: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the loop writes would otherwise make the log longer and longer."""
    monkeypatch.setattr(clerk, "LOGGING", 0.005)
    monkeypatch.setattr(express, "PATIENCE", PATIENCE)
    (run,) = await _runs(1)
    text = "x" * 20_000
    count = 1500

    for number in range(count):
        assert await _write(writer, _tick(run, text, number)) == [None]

    name = connections["default"].settings_dict["NAME"]
    assert 0 < os.stat(f"{name}-wal").st_size < count * len(text) / 2
    assert sum(carried) == count


@about_sqlite
@pytest.mark.parametrize("took", ["long", "short"])
async def test_after_what_took_long_the_thread_writes_for_a_while(
    writer: Writer, carried: list[bool], monkeypatch: pytest.MonkeyPatch, took: str
) -> None:
    monkeypatch.setattr(clerk, "LONG", 0.0 if took == "long" else PATIENCE)
    (run,) = await _runs(1)
    for number in range(3):
        assert await _write(writer, _tick(run, "{}", number)) == [None]
    assert carried == [True] * (1 if took == "long" else 3)
    monkeypatch.setattr(clerk, "LONG", PATIENCE)
    assert writer._express is not None
    assert isinstance(writer._express._carrier, database.Clerk)
    writer._express._carrier._rests_until -= clerk.REST
    assert await _write(writer, _tick(run, "{}", 3)) == [None]

    assert carried[-1]
    assert (await _ticks())[run.pk] == ["{}"] * 4


@about_sqlite
async def test_a_commit_of_which_nobody_knows_is_not_repeated(
    writer: Writer, carried: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has committed, and the disk reports an error all the same."""
    run, other = await _runs(2)
    start = a_start()
    assert writer._express is not None
    carrier = writer._express._carrier
    assert isinstance(carrier, database.Clerk)
    raw = carrier._raw

    class Failing:
        def execute(self, sql: str) -> None:
            raw.execute(sql)
            if sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")

        def __getattr__(self, name: str) -> Any:
            return getattr(raw, name)

    monkeypatch.setattr(carrier, "_raw", Failing())
    started, changed = await _write(writer, start, _tick(run, "{}"))

    assert started.run_id == start.run_id
    assert isinstance(changed, LeaseLost)
    assert writer.failures >= 1
    assert await _ticks() == {run.pk: ["{}"]}
    (count,) = await asyncio.to_thread(race, Handler.objects.filter(run_id=start.run_id).count)
    assert count == 1
    await _ready(writer)
    carried.clear()
    assert await _write(writer, _tick(other, "{}")) == [None]
    assert carried == [True]


@about_sqlite
@pytest.mark.parametrize("setting", ["NORMAL", "FULL"])
async def test_an_event_loop_waits_for_no_disk(settings: Any, setting: str) -> None:
    settings.DJANGO_WORKFLOWS = {**settings.DJANGO_WORKFLOWS, "SQLITE_SYNCHRONOUS": setting}
    (connection,) = await asyncio.to_thread(race, database.open_connection)
    assert (connection is not None) == (setting == "NORMAL")
    if connection is not None:
        database.Clerk(connection).close()


@about_sqlite
async def test_however_much_has_gathered_the_loop_has_its_turns(
    writer: Writer, carried: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction after the other, and each in a turn of its own."""
    monkeypatch.setattr(clerk, "LOGGING", PATIENCE)
    (run,) = await _runs(1)
    assert writer._express is not None
    writer._express._most = 1
    count = 1500
    writing = [writer.submit(_tick(run, "{}", number)) for number in range(count)]
    turns = 0
    async with asyncio.timeout(3 * PATIENCE):
        while not writing[-1].done():
            await asyncio.sleep(0)
            turns += 1

    assert await asyncio.gather(*writing) == [None] * count
    assert carried == [True] * count
    assert turns >= count


class _Slow:
    """A connection to the log that waits for a word before each statement."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.connection = self
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.happened: list[str] = []

    def execute(self, sql: str) -> Any:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        self.happened.append("log")
        return self._connection.connection.execute(sql)

    def close(self) -> None:
        self.happened.append("close")
        self._connection.close()


@about_sqlite
async def test_the_loop_goes_on_writing_while_the_log_is_brought_in(
    writer: Writer, carried: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the little that has come since needs a moment in which nobody writes."""
    (run,) = await _runs(1)
    assert writer._express is not None
    carrier = writer._express._carrier
    assert isinstance(carrier, database.Clerk)
    # The log's connection is opened, and then slow.
    await asyncio.wrap_future(carrier._log.bring_in())
    slow = _Slow(carrier._log._connection)
    carrier._log._connection = slow  # type: ignore[assignment]
    monkeypatch.setattr(clerk, "LOGGING", 0.0)
    count = 20

    async with asyncio.timeout(PATIENCE):
        for number in range(count):
            assert await writer.submit(_tick(run, "{}", number)) is None
        assert await asyncio.to_thread(slow.begun.wait, PATIENCE)
        assert not slow.happened
        assert carried == [True] * count
        slow.go_on.set()
        while slow.happened[:2] != ["log", "log"]:
            assert await writer.submit(_tick(run, "{}", count)) is None
            count += 1
    carrier._log._connection = slow._connection


@about_sqlite
async def test_a_connection_is_not_closed_while_it_brings_in_the_log() -> None:
    (connection,) = await asyncio.to_thread(race, database.open_connection)
    carrier = database.Clerk(connection)
    log = carrier._log
    await asyncio.wrap_future(log.bring_in())
    slow = _Slow(log._connection)
    log._connection = slow  # type: ignore[assignment]
    bringing = log.bring_in()
    assert await asyncio.to_thread(slow.begun.wait, PATIENCE)

    # Nor is it waited for, on an event loop.
    carrier.close()
    assert not bringing.done()
    slow.go_on.set()
    await asyncio.wrap_future(bringing)
    await asyncio.to_thread(log._thread.shutdown, wait=True)

    assert slow.happened == ["log", "close"]
    # And what comes too late does no harm.
    log.bring_in_rest()
