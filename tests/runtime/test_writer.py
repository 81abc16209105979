"""The writing thread by itself: what must not end it, nor keep it from its heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.models import F

from django_workflows import database, handlers, leases, mailbox
from django_workflows.exceptions import CancelWaits, HandlerFinished, LeaseLost, PersistenceFailed
from django_workflows.journal import TickEntry
from django_workflows.mailbox import Letter
from django_workflows.models import Handler, Message, Tick, Worker
from django_workflows.runtime.writer import Writer
from django_workflows.runtime.writes import Changes
from tests.storage import CARRIER, PATIENCE, a_run, a_start, a_worker, an_ending, race

pytestmark = pytest.mark.django_db(transaction=True)

Make = Callable[..., Writer]


@pytest.fixture(params=["thread", "loop"] if CARRIER else ["thread"])
async def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Make writers that run until the test is over; those that can, with a connection of the event loop's."""
    made: list[Writer] = []
    opened = database.open_connection
    monkeypatch.setattr(database, "open_connection", lambda: None)

    def make(**options: Any) -> Writer:
        writer = Writer(**options)
        writer.start()
        if request.param == "loop":
            assert writer._express is not None
            (connection,) = race(opened)
            writer._express.use(connection)
        made.append(writer)
        return writer

    yield make
    for writer in made:
        await writer.close()


async def test_heartbeats_go_on_while_many_writes_wait_for_a_lock(make: Make, settings: Any) -> None:
    """Each waits for a lock as long as it may; all of them together, longer than the lease."""
    settings.DJANGO_WORKFLOWS = {"PERSISTENCE_BACKOFF": []}
    happened: list[str] = []
    writer = make(on_interval=lambda: happened.append("h"), interval=0.0)

    def wait_in_vain() -> None:
        happened.append("w")
        raise OperationalError("canceling statement due to lock timeout")

    await asyncio.gather(*(writer.submit(wait_in_vain) for _ in range(20)), return_exceptions=True)

    # All of a batch in vain, then the first of them by itself.
    assert "www" not in "".join(happened)


async def test_a_start_that_meets_itself_survives_another_outage(
    make: Make, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was committed unheard; and when the writer looks whose the row is, the database is away again."""
    settings.DJANGO_WORKFLOWS = {"PERSISTENCE_BACKOFF": [0.01]}
    request = a_start()
    (stored,) = await asyncio.to_thread(race, lambda: handlers.start(request))
    look, outages = handlers.of_run, iter([OperationalError("the server closed the connection unexpectedly")])

    def look_in_vain(run_id: str) -> Any:
        for outage in outages:
            raise outage
        return look(run_id)

    monkeypatch.setattr(handlers, "of_run", look_in_vain)
    writer = make()
    async with asyncio.timeout(PATIENCE):
        assert (await writer.submit(request)).pk == stored.pk
        assert (await writer.submit(a_start())).pk != stored.pk


@pytest.mark.parametrize("autocommit", [True, False])
async def test_a_start_alone_is_one_statement(
    make: Make, monkeypatch: pytest.MonkeyPatch, autocommit: bool
) -> None:
    """Committed by itself, also where the site has switched that off for its own connections."""
    monkeypatch.setitem(connections.settings[database.alias()], "AUTOCOMMIT", autocommit)
    writer = make()
    statements: list[str] = []

    def log(execute: Any, sql: str, *args: Any) -> Any:
        statements.append(sql.split()[0])
        return execute(sql, *args)

    await writer.submit(lambda: connections[database.alias()].execute_wrappers.append(log))
    start, among = a_start(), a_start()
    handler = await writer.submit(start)
    if writer._express is None or not writer._express.has_carrier:
        # PostgreSQL prepares it in the same message, which is a transaction.
        assert statements == ["PREPARE" if database.takes_one_trip() else "INSERT"]
    await asyncio.gather(writer.submit(among), writer.submit(lambda: None))

    (found,) = await asyncio.to_thread(race, lambda: dict(Handler.objects.values_list("run_id", "pk")))
    assert found[start.run_id] == handler.pk
    assert found.keys() == {start.run_id, among.run_id}


async def test_a_refusal_leaves_no_doubt_about_a_commit(make: Make) -> None:
    """Whoever sends events to runs that have ended must not make the process look through all that it has."""
    writer = make()

    def refuse() -> None:
        raise HandlerFinished

    with pytest.raises(HandlerFinished):
        await writer.submit(refuse)
    assert writer.failures == 0


async def test_nothing_that_a_request_raises_ends_the_writer(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Else nothing would be written any more, and who waits would wait for ever."""
    writer = make()

    def leave() -> None:
        raise SystemExit

    start = a_start()
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(
            writer.submit(lambda: 1), writer.submit(leave), writer.submit(start), return_exceptions=True
        )
        assert await writer.submit(lambda: 2) == 2

    assert isinstance(results[1], PersistenceFailed)
    stored = await writer.submit(lambda: Handler.objects.filter(run_id=start.run_id).exists())
    assert stored == isinstance(results[2], Handler)
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    # Of what was under way it is not known whether it was committed.
    assert writer.failures == 1


async def test_nothing_that_a_heartbeat_raises_ends_the_writer(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    beats = iter([SystemExit(), MemoryError()])

    def beat() -> None:
        for error in beats:
            raise error

    writer = make(on_interval=beat, interval=0.0)
    async with asyncio.timeout(PATIENCE):
        while len(caplog.records) < 2:
            assert await writer.submit(lambda: 2) == 2

    assert await writer.submit(lambda: 3) == 3
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "WARNING"]


def _runs_with_mail() -> tuple[list[Handler], list[Handler]]:
    """Return runs that have consumed a message and have another, and runs without any."""
    worker = a_worker()
    mailed, others = ([a_run(worker=worker.pk) for _ in range(2)] for _ in range(2))
    for run in mailed:
        mailbox.post(Letter(run.pk, run.run, Message.Kind.EVENT, "{}"))
    mailbox.consume([message.pk for message in mailbox.fetch(worker.pk, 100)])
    for run in mailed:
        mailbox.post(Letter(run.pk, run.run, Message.Kind.EVENT, "{}"))
    return mailed, others


@pytest.mark.parametrize("known", [True, False])
async def test_the_end_leaves_no_mail(make: Make, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """Also of a run to which a message came just before its end, and that knows of none."""
    ((mailed, others),) = await asyncio.to_thread(race, _runs_with_mail)
    writer = make()
    hold, looks = leases.hold, []

    def look(held: Any) -> Any:
        looks.append(held)
        return hold(held)

    monkeypatch.setattr(leases, "hold", look)

    await asyncio.gather(
        writer.submit(Changes(leases.of(mailed[0]), ending=an_ending(), mailed=known)),
        writer.submit(Changes(leases.of(others[0]), ending=an_ending(), mailed=False)),
        # Not even what else is to be done makes it look.
        writer.submit(Worker.objects.count),
        writer.submit(Changes(leases.of(mailed[1]), progressed=True)),
    )

    left = await writer.submit(lambda: [(m.handler_id, m.consumed_at is None) for m in Message.objects.all()])
    assert sorted(left) == [(mailed[1].pk, False), (mailed[1].pk, True)]
    # PostgreSQL does it in one trip, and the event loop in one go, without a look at each when it is as they know.
    carried = writer._express is not None and (database.takes_one_trip() or writer._express.has_carrier)
    assert bool(looks) == (not carried or not known)


@pytest.mark.parametrize("known", [True, False])
async def test_a_cancellation_that_was_answered_holds(make: Make, known: bool) -> None:
    """A run that would complete is dropped; one that ends as cancelled, or goes on, is not."""

    def cancel_some() -> list[Handler]:
        runs = [a_run(worker=a_worker().pk) for _ in range(4)]
        for run in runs[:3]:
            mailbox.post(Letter(run.pk, run.run, Message.Kind.CANCEL))
        return runs

    ((completes, is_cancelled, goes_on, other),) = await asyncio.to_thread(race, cancel_some)
    writer = make()

    results = await asyncio.gather(
        writer.submit(Changes(leases.of(completes), ending=an_ending(), mailed=known)),
        writer.submit(Changes(leases.of(is_cancelled), ending=an_ending(Handler.Status.CANCELLED), mailed=known)),
        writer.submit(Changes(leases.of(goes_on), progressed=True)),
        writer.submit(Changes(leases.of(other), ending=an_ending(), mailed=known)),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [CancelWaits, type(None), type(None), type(None)]
    ended = await writer.submit(
        lambda: set(Handler.objects.exclude(status="running").values_list("pk", flat=True))
    )
    assert ended == {is_cancelled.pk, other.pk}


async def test_one_run_that_was_taken_over_keeps_no_other_from_being_written(make: Make) -> None:
    """PostgreSQL is told to write all of a batch or nothing, at first."""

    def take_one_over() -> list[Handler]:
        runs = [a_run(worker=a_worker().pk) for _ in range(3)]
        Handler.objects.filter(pk=runs[1].pk).update(fence=F("fence") + 1)
        return runs

    (runs,) = await asyncio.to_thread(race, take_one_over)
    writer = make()
    starts = [a_start() for _ in range(2)]

    results = await asyncio.gather(
        *(writer.submit(Changes(leases.of(run), ticks=[TickEntry(0, "{}")])) for run in runs),
        *map(writer.submit, starts),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [type(None), LeaseLost, type(None), Handler, Handler]
    assert [handler.run_id for handler in results[3:]] == [start.run_id for start in starts]
    written = await writer.submit(lambda: set(Tick.objects.values_list("handler_id", flat=True)))
    assert written == {runs[0].pk, runs[2].pk}
    assert writer.failures == 0


async def test_starts_and_changes_are_written_together(make: Make) -> None:
    ((run, other),) = await asyncio.to_thread(race, lambda: [a_run(worker=a_worker().pk) for _ in range(2)])
    writer = make()
    starts = [a_start() for _ in range(3)]

    results = await asyncio.gather(
        writer.submit(starts[0]),
        writer.submit(Changes(leases.of(run), ticks=[TickEntry(0, "{}")], state='{"a": 1}')),
        writer.submit(starts[1]),
        writer.submit(Changes(leases.of(other), ticks=[TickEntry(0, "{}")], ending=an_ending())),
        writer.submit(starts[2]),
    )

    stored = await writer.submit(lambda: dict(Handler.objects.values_list("run_id", "pk")))
    assert [result and stored[result.run_id] == result.pk for result in results] == [True, None, True, None, True]
    assert [result.run_id for result in results[::2]] == [start.run_id for start in starts]
    assert await writer.submit(lambda: Handler.objects.get(pk=other.pk).status) == "completed"
    assert await writer.submit(lambda: Tick.objects.count()) == 2
