"""What a process does for its runs: it takes them up, lets them go, and stops when it is not their owner."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partialmethod
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, connections, transaction
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from django_workflows import contexts, database, handlers, leases, service
from django_workflows.exceptions import (
    HandlerNotFound,
    HandlerRunning,
    NotSerializable,
    PersistenceFailed,
    Unavailable,
)
from django_workflows.handlers import Start
from django_workflows.models import Handler, Tick, Worker
from django_workflows.runtime import replay, supervisor, ticks, writer
from django_workflows.runtime.run import Run
from django_workflows.runtime.supervisor import Supervisor
from tests.memory import without_collections
from tests.storage import terminate_other_connections

from .process import Process, outcome, until
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Word(Event):
    text: str


class Talks(Workflow):
    """Says something, works until the test lets it go on, and says something else."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Word:
        world.note("begin")
        ctx.write_event_to_stream(Word(text="beginning"))
        return Word(text=ev.text)

    @step
    async def work(self, ctx: Context, ev: Word) -> StopEvent:
        world.note("work")
        await ctx.store.set("worked", True)
        try:
            await world.gate("work").passed()
        except asyncio.CancelledError:
            world.note("interrupted")
            raise
        ctx.write_event_to_stream(Word(text="ending"))
        return StopEvent(result=ev.text)


class Regret(Exception):
    pass


async def started(process: Process) -> Handler:
    """Start a run and return when its second step is under way."""
    handler = await process.start(Talks, text="hello")
    await until(lambda: world.gate("work").reached, "the second step never began")
    return handler


# --- who begins a run ------------------------------------------------------------------------------------


async def test_a_run_that_synchronous_code_starts_is_taken_up(process: Process) -> None:
    await process.serve(Talks)
    world.gate("work").open()
    handler = await process.in_thread(service.start, "Talks", {"text": "hello"})
    assert outcome(await process.finish(handler)) == "hello"


async def test_a_start_takes_effect_with_its_transaction(process: Process) -> None:
    await process.serve(Talks)

    def start_and_regret() -> None:
        with transaction.atomic():
            service.start("Talks", {"text": "regretted"}, handler_id="regretted")
            raise Regret

    with pytest.raises(Regret):
        await process.in_thread(start_and_regret)
    with pytest.raises(HandlerNotFound):
        await process.query(handlers.find, "regretted")
    assert world.notes == []


async def test_runs_that_nobody_has_begun_are_begun_at_the_next_start(process: Process) -> None:
    await process.serve(Talks, start=False)
    world.gate("work").open()
    first = await service.astart("Talks", {"text": "first"})
    second = await process.in_thread(service.start, "Talks", {"text": "second"})
    await process.restart()
    assert [outcome(await process.finish(handler)) for handler in (first, second)] == ["first", "second"]
    assert world.times("begin") == 2


async def test_runs_that_are_taken_up_together_are_claimed_together(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many more than are loaded at a time, and none waits for the next poll."""
    await process.serve(Talks, start=False, POLL_INTERVAL=600)
    waiting = [await process.in_thread(service.start, "Talks", {"text": "hello"}) for _ in range(200)]
    claim = leases.claim
    claims: list[int] = []

    def counted(*args: Any) -> list[Handler]:
        found = claim(*args)
        claims.append(len(found))
        return found

    monkeypatch.setattr(leases, "claim", counted)
    world.gate("work").open()
    await supervisor.start()
    for handler in waiting:
        assert outcome(await process.finish(handler)) == "hello"
    assert sum(claims) == 200
    assert len(claims) <= 28, claims


async def test_a_process_that_only_serves_leaves_runs_to_others(process: Process) -> None:
    await process.serve(Talks, EXECUTE=False)
    handler = await process.start(Talks, text="hello")
    assert handler.worker_id is None
    await process.stop()
    await process.serve(Talks, EXECUTE=True)
    world.gate("work").open()
    assert outcome(await process.finish(handler)) == "hello"


async def test_a_start_whose_caller_goes_away_is_a_start_all_the_same(process: Process) -> None:
    await process.serve(Talks)
    world.gate("work").open()
    for handler_id in (None, "chosen"):
        for patience in range(6):
            name = None if handler_id is None else f"{handler_id}-{patience}"
            start = asyncio.ensure_future(service.astart("Talks", {"text": "hello"}, handler_id=name))
            for _ in range(patience):
                await asyncio.sleep(0)
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)

    async def all_have_ended() -> bool:
        return not await process.query(Handler.objects.running().exists)

    await until(all_have_ended, "a run that was stored never began")


class Held:
    """Starts that the writer holds back until the test lets them go on, with what comes of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, comes_of: Callable[[Handler], Awaitable[Handler]]) -> None:
        current = supervisor.current()
        assert current is not None
        self._current, self._submit, self._comes_of = current, current._writer.submit, comes_of
        self._let_go = asyncio.Event()
        monkeypatch.setattr(current._writer, "submit", self._hold)

    def _hold(self, request: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._later(request)) if isinstance(request, Start) else self._submit(request)

    async def _later(self, request: Start) -> Handler:
        await self._let_go.wait()
        return await self._comes_of(await self._submit(request))

    async def ahead(self) -> Run:
        """Return the one run that is ahead of its start, when it has come as far as it may."""

        def runs() -> list[Run]:
            return [each.ahead for each in self._current._starting.values() if each.ahead is not None]

        await until(lambda: any(run._owning or run._ending for run in runs()), "nothing was done ahead")
        # Had it not to wait, it would go on.
        for _ in range(100):
            await asyncio.sleep(0)
        (run,) = runs()
        return run

    def let_go(self) -> None:
        self._let_go.set()


async def stored(handler: Handler) -> Handler:
    return handler


async def refused(handler: Handler) -> Handler:
    await database.read(Handler.objects.filter(pk=handler.pk).delete)
    raise PersistenceFailed


async def begun_ahead(
    process: Process, monkeypatch: pytest.MonkeyPatch, comes_of: Callable[[Handler], Awaitable[Handler]]
) -> tuple[Held, asyncio.Task[Handler], Run]:
    """Start a run, and return when it waits for its start to be stored, which is held."""
    await process.serve(Talks)
    world.gate("work").open()
    held = Held(monkeypatch, comes_of)
    start = asyncio.create_task(process.start(Talks, text="hello"))
    return held, start, await held.ahead()


async def test_no_step_begins_before_the_start_is_stored(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before it is done meanwhile."""
    held, start, run = await begun_ahead(process, monkeypatch, stored)

    assert run.position == 1
    assert world.notes == []
    assert not start.done()
    held.let_go()
    assert outcome(await process.finish(await start)) == "hello"
    assert world.times("begin") == 1


@pytest.mark.parametrize("comes_of", [stored, refused])
async def test_a_run_that_fails_before_its_first_step_fails_when_it_is_stored(
    process: Process, monkeypatch: pytest.MonkeyPatch, comes_of: Any
) -> None:
    def fail(*_: Any) -> str:
        raise NotSerializable("for the test")

    monkeypatch.setattr(ticks, "dump", fail)
    held, start, run = await begun_ahead(process, monkeypatch, comes_of)
    assert run._ending is not None
    held.let_go()

    if comes_of is stored:
        handler = await process.finish(await start)
        assert (handler.status, handler.error) == (Handler.Status.FAILED, "for the test")
    else:
        with pytest.raises(PersistenceFailed):
            await start
        await until(lambda: run.task is None, "it stayed in memory")
    assert world.notes == []


async def test_nothing_remains_of_a_start_that_is_refused(
    process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held, start, run = await begun_ahead(process, monkeypatch, refused)
    held.let_go()
    with pytest.raises(PersistenceFailed):
        await start
    await until(lambda: run.task is None, "it stayed in memory")

    current = supervisor.current()
    assert current is not None
    assert (current._runs, current._starting) == ({}, {})
    assert world.notes == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_start_that_is_another_workers_when_it_is_stored_begins_there(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a commit of which this process heard late: another has retired it meanwhile."""

    async def orphaned(handler: Handler) -> Handler:
        await database.read(lambda: Handler.objects.filter(pk=handler.pk).update(worker_id=None))
        handler.worker_id = None
        return handler

    held, start, run = await begun_ahead(process, monkeypatch, orphaned)
    held.let_go()

    # This one, as there is no other; but not with what it had done ahead.
    assert outcome(await process.finish(await start)) == "hello"
    assert world.times("begin") == 1
    assert (run.task, run.is_owned) == (None, False)


async def test_a_start_that_is_stored_late_begins_then(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage of the database, a run's timeout has not been running for as long."""
    held, start, run = await begun_ahead(process, monkeypatch, stored)
    monkeypatch.setattr(supervisor, "STALE", 0.0)
    held.let_go()

    assert outcome(await process.finish(await start)) == "hello"
    assert world.times("begin") == 1
    assert (run.task, run.is_owned) == (None, False)


async def test_a_process_that_stops_while_a_start_is_being_stored_begins_nothing(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, start, run = await begun_ahead(process, monkeypatch, stored)
    stopping = asyncio.create_task(process.stop())
    with pytest.raises(Unavailable):
        await start
    held.let_go()
    await stopping
    await until(lambda: run.task is None, "it stayed in memory")
    assert world.notes == []

    # It was stored all the same, perhaps; then it begins at the next start, once.
    await process.restart()
    running = await process.query(lambda: list(Handler.objects.all()))
    for handler in running:
        assert outcome(await process.finish(handler)) == "hello"
    assert world.times("begin") == len(running)


async def test_a_handler_has_one_run_at_a_time(process: Process) -> None:
    await process.serve(Talks)
    starts = [service.astart("Talks", {"text": str(n)}, handler_id="mine") for n in range(12)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    begun = [result for result in results if isinstance(result, Handler)]
    assert len(begun) == 1
    assert all(isinstance(result, HandlerRunning) for result in results if result not in begun)
    world.gate("work").open()
    await process.finish(begun[0])
    assert world.times("begin") == 1


async def test_a_hundred_runs_at_once(process: Process) -> None:
    await process.serve(Talks)
    world.gate("work").open()
    runs = await asyncio.gather(*(process.run(Talks, text=str(number)) for number in range(100)))
    assert [outcome(handler) for handler in runs] == [str(number) for number in range(100)]


async def test_a_run_that_has_ended_takes_no_memory(process: Process) -> None:
    await process.serve(Talks)
    world.gate("work").open()

    with without_collections(Run) as left:
        await asyncio.gather(*(process.run(Talks, text=str(number)) for number in range(20)))

        await until(lambda: not left(), "something holds a run")


# --- who goes on with a run ------------------------------------------------------------------------------


async def test_a_process_that_stops_lets_its_runs_go(process: Process) -> None:
    await process.serve(Talks)
    handler = await started(process)
    await process.stop()
    assert world.times("interrupted") == 1
    stored = await process.stored(handler)
    assert (stored.status, stored.worker_id) == (Handler.Status.RUNNING, None)
    assert not await process.query(Worker.objects.exists)
    await process.restart()
    world.gate("work").open()
    assert outcome(await process.finish(handler)) == "hello"
    assert world.times("begin") == 1


async def test_a_process_that_drains_ends_what_is_waited_for_and_takes_up_nothing(process: Process) -> None:
    await process.serve(Talks, Asks)
    handler, forgotten = await process.start(Asks), await process.start(Asks)
    waiting = asyncio.ensure_future(process.finish(handler))
    await process.seen(handler, "InputRequiredEvent")
    await process.seen(forgotten, "InputRequiredEvent")
    current = supervisor.current()
    assert current is not None
    current.drain()
    await until(lambda: current.run_of(forgotten.pk) is None, "it was not let go")
    others = [
        await process.start(Talks, text="later"),
        await process.in_thread(service.start, "Talks", {"text": "later, too"}),
    ]
    # It still gets its mail, and would have seen them with it.
    await process.send(handler, "HumanResponseEvent", response="the last")
    assert outcome(await waiting) == "the last"
    for other in others:
        assert (await process.stored(other)).worker_id is None
    await process.stop()
    world.gate("work").open()
    await process.restart()
    assert [outcome(await process.finish(other)) for other in others] == ["later", "later, too"]


async def test_a_process_that_drains_hands_its_runs_over_to_another(process: Process) -> None:
    """At once, not when its requests have ended; and a request that waits here hears of the end there."""
    await process.serve(Remembers, POLL_INTERVAL=30)
    draining = supervisor.current()
    assert draining is not None
    other = Supervisor()
    await other.start()
    try:
        handlers_ = [await process.start(Remembers) for _ in range(3)]
        await until(lambda: world.times("work") == 3, "the steps never began")
        waiting = asyncio.ensure_future(process.finish(handlers_[0]))
        await asyncio.sleep(0)
        draining.drain()
        await until(lambda: world.times("work") == 6, "the other process never took them up")
        assert draining.is_running
        for life in range(1, 7):
            world.gate(f"life {life}").open()
        assert isinstance(outcome(await waiting), int)
        for handler in handlers_[1:]:
            await process.finish(handler)
    finally:
        await other.stop()


async def test_a_process_that_has_stopped_takes_nothing_more(process: Process) -> None:
    await process.serve(Talks)
    current = supervisor.current()
    assert current is not None
    await process.stop()
    with pytest.raises(Unavailable):
        await current.write(lambda: None)
    # It can still store a start, which goes on elsewhere.
    handler = await process.start(Talks, text="hello")
    assert handler.worker_id is None
    world.gate("work").open()
    await process.restart()
    await process.finish(handler)


class Remembers(Workflow):
    """Writes nothing but state, for which no position in a log stands."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        world.note("work")
        life = world.times("work")
        await world.gate(f"life {life}").passed()
        await ctx.store.set("life", life)
        return StopEvent(result=life)


async def test_a_superseded_owner_writes_nothing(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    """Another process takes a worker for dead that was only slow: the run goes on there, and only there."""
    await process.serve(Remembers)
    handler = await process.start(Remembers)
    await until(lambda: world.gate("life 1").reached, "the step never began")
    slow = supervisor.current()
    assert slow is not None
    other = Supervisor()
    with caplog.at_level(logging.WARNING, logger="django_workflows"):
        await process.in_thread(leases.retire, slow.worker)
        await other.start()
        try:
            await until(lambda: world.gate("life 2").reached, "the other process never took the run")
            world.gate("life 1").open()
            await until(lambda: slow.run_of(handler.pk) is None, "the slow process never dropped the run")
            assert await process.query(contexts.read, handler.pk) is None
            world.gate("life 2").open()
            assert outcome(await process.finish(handler)) == 2
        finally:
            await other.stop()
    assert any("another process has taken the run over" in record.getMessage() for record in caplog.records)


async def test_a_worker_that_was_declared_dead_begins_anew(process: Process) -> None:
    await process.serve(Talks, LEASE_TIMEOUT=0.3)
    handler = await started(process)
    current = supervisor.current()
    assert current is not None
    before = current.worker
    await process.in_thread(leases.retire, before)
    await until(lambda: current.worker not in (before, None), "it never enlisted again")
    world.gate("work").open()
    assert outcome(await process.finish(handler)) == "hello"
    assert world.times("begin") == 1


async def test_a_silent_worker_is_dead_after_the_lease_timeout(process: Process) -> None:
    """On another machine nobody sees its lock; then the heartbeat decides."""
    await process.serve(Talks, LEASE_TIMEOUT=0.5)
    handler = await started(process)
    dying = supervisor.current()
    assert dying is not None
    assert dying._membership._life is not None
    dying._membership._life._path.unlink()
    await process.crash()
    world.gate("work").open()
    await process.restart()
    assert outcome(await process.finish(handler)) == "hello"
    assert world.times("begin") == 1


async def test_a_run_that_is_deleted_is_dropped(process: Process) -> None:
    await process.serve(Talks)
    handler = await started(process)
    reader = asyncio.ensure_future(process.log(handler))
    await service.apurge(handler.handler_id)
    current = supervisor.current()
    assert current is not None
    await until(lambda: current.run_of(handler.pk) is None, "the run was never dropped")
    # A stream of a run that is gone ends.
    assert "StopEvent" not in [seen.type for seen in await reader]
    with pytest.raises(HandlerNotFound):
        await process.stored(handler)


async def test_a_run_that_another_process_deletes_is_dropped_when_it_wants_to_write(process: Process) -> None:
    await process.serve(Talks)
    handler = await started(process)
    reader = asyncio.ensure_future(process.log(handler))
    await process.seen(handler, "Word")
    await process.in_thread(service.purge, handler.handler_id)
    world.gate("work").open()
    assert "StopEvent" not in [seen.type for seen in await reader]
    assert world.times("interrupted") == 0


async def test_a_run_of_a_workflow_that_is_served_no_more_waits_for_one_that_serves_it(process: Process) -> None:
    await process.serve(Talks)
    handler = await started(process)
    await process.stop()
    await process.serve(Asks)
    other = await process.start(Asks)
    await process.seen(other, "InputRequiredEvent")
    assert (await process.stored(handler)).worker_id is None
    await process.stop()
    world.gate("work").open()
    await process.serve(Talks)
    assert outcome(await process.finish(handler)) == "hello"


class Rewritten(Workflow):
    """What became of Talks in the next release, without a thought for the runs under way."""

    @step
    async def talk(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="rewritten")


async def test_a_run_whose_workflow_was_rewritten_hurts_nobody(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    await process.serve(Talks)
    handler = await started(process)
    await process.stop()
    await process.serve(Rewritten, under="Talks")
    await until(lambda: "journal cannot be read" in caplog.text, "nobody complained")
    another = await process.finish(await service.astart("Talks", {}))
    assert outcome(another) == "rewritten"
    await service.apurge(another.handler_id)
    assert (await process.stored(handler)).status == Handler.Status.RUNNING
    await process.stop()
    # With the old release, it goes on.
    world.gate("work").open()
    await process.serve(Talks)
    assert outcome(await process.finish(handler)) == "hello"


async def test_a_journal_that_cannot_be_read_hurts_no_run_that_is_read_with_it(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    await process.serve(Talks)
    handlers = [await process.start(Talks, text=str(number)) for number in range(5)]
    await until(lambda: world.times("work") == 5, "the second steps never began")
    await process.stop()
    spoilt = handlers.pop(2)
    kept = await process.query(lambda: Tick.objects.get(handler=spoilt, sequence=0).data)
    await process.query(lambda: Tick.objects.filter(handler=spoilt, sequence=0).update(data="no tick"))

    world.gate("work").open()
    await process.restart()

    assert [outcome(await process.finish(handler)) for handler in handlers] == list("0134")
    complaints = [record for record in caplog.records if "journal cannot be read" in record.getMessage()]
    assert [vars(record)["handler_id"] for record in complaints] == [spoilt.handler_id]
    await process.query(lambda: Tick.objects.filter(handler=spoilt, sequence=0).update(data=kept))
    await process.stop()
    await process.restart()
    assert outcome(await process.finish(spoilt)) == "2"


async def test_a_run_that_ends_elsewhere_while_it_is_loaded_does_not_begin_again(
    process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await process.serve(Talks)
    handler = await started(process)
    await process.stop()
    load = replay.load

    def late(claimed: Any) -> Any:
        ended = {"status": Handler.Status.CANCELLED, "worker": None, "wake_at": None}
        Handler.objects.filter(pk=handler.pk).update(**ended)
        return load(claimed)

    monkeypatch.setattr(replay, "load", late)
    await process.restart()

    await until(lambda: "taken the run over" in caplog.text, "nobody noticed")
    assert (world.times("begin"), world.times("work")) == (1, 1)
    await process.query(Handler.objects.filter(pk=handler.pk).delete)


async def test_a_run_is_taken_up_when_the_database_is_back(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process.serve(Talks, POLL_INTERVAL=0.05)
    handler = await started(process)
    await process.stop()
    load, failures = replay.load, iter(range(3))

    def away(*args: Any) -> Any:
        if next(failures, None) is not None:
            raise OperationalError("the database is shutting down")
        return load(*args)

    monkeypatch.setattr(replay, "load", away)
    world.gate("work").open()
    await process.restart()
    assert outcome(await process.finish(handler)) == "hello"


async def test_an_outage_of_the_database_delays_a_run_and_ends_none(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than all retries: the runs are let go, and taken up again when writes succeed."""
    await process.serve(Talks, POLL_INTERVAL=0.02, PERSISTENCE_BACKOFF=[0.01, 0.02])
    begun = [await process.start(Talks, text=str(number)) for number in range(5)]
    await until(lambda: world.times("work") == 5, "the second steps never began")
    commit, away = writer.commit, threading.Event()

    def fail(requests: Any) -> Any:
        if away.is_set():
            raise OperationalError("the server closed the connection unexpectedly")
        return commit(requests)

    def lose(carry: Any, carrier: Any, write: Any) -> Any:
        if away.is_set():
            raise database.ConnectionLost
        return carry(carrier, write)

    monkeypatch.setattr(writer, "commit", fail)
    for carrier in (database.Courier, database.Clerk):
        monkeypatch.setattr(carrier, "carry", partialmethod(lose, carrier.carry))
    away.set()
    world.gate("work").open()
    current = supervisor.current()
    assert current is not None
    await until(lambda: not current._runs, "the runs were never let go")
    with pytest.raises(PersistenceFailed):
        await process.start(Talks, text="refused")
    away.clear()
    assert [outcome(await process.finish(handler)) for handler in begun] == list("01234")
    assert (world.times("begin"), world.times("work")) == (5, 10)


async def test_processes_come_and_go_under_load(process: Process) -> None:
    await process.serve(Talks)
    world.gate("work").open()
    starting = asyncio.ensure_future(_start_many(80))
    for death in (process.stop, process.crash, process.stop, process.crash):
        before = world.times("work")
        await until(lambda before=before: world.times("work") > before or starting.done(), "nothing goes on")
        await death()
        await process.restart()
    for handler in await starting:
        assert outcome(await process.finish(handler)) == handler.handler_id


async def _start_many(count: int) -> list[Handler]:
    """Start runs one after the other, as a client does that tries again until it is told that it succeeded."""
    started: list[Handler] = []
    while len(started) < count:
        name = f"run-{len(started)}"
        try:
            async with asyncio.timeout(0.5):
                started.append(await service.astart("Talks", {"text": name}, handler_id=name))
        except HandlerRunning:
            started.append(await database.read(handlers.find, name))
        except (TimeoutError, Unavailable):
            await asyncio.sleep(0.005)
    return started


# --- readers ---------------------------------------------------------------------------------------------


class Asks(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="?")

    @step
    async def take(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


async def test_readers_of_a_run_that_goes_on_elsewhere_see_it_to_its_end(process: Process) -> None:
    await process.serve(Talks)
    handler = await started(process)
    reader = asyncio.ensure_future(process.log(handler))
    waiter = asyncio.ensure_future(process.finish(handler))
    await process.seen(handler, "Word")
    await process.stop()
    world.gate("work").open()
    await process.restart()
    assert [seen.value.get("text") for seen in await reader if not seen.internal] == ["beginning", "ending", None]
    assert outcome(await waiter) == "hello"


async def test_a_continued_run_is_here_when_its_start_is_answered(process: Process) -> None:
    """Who waits for it then is known to wait, and gets time when the process is asked to end."""
    await process.serve(Remembers)
    for _ in range(2):
        handler = await service.astart("Remembers", {}, handler_id="again")
        current = supervisor.current()
        assert current is not None
        run = current.run_of(handler.pk)
        assert run is not None
        assert run.run_id == handler.run_id
        world.gate(f"life {handler.run}").open()
        await process.finish(handler)
    assert handler.run == 2


# --- Django's connections --------------------------------------------------------------------------------


class AsyncORM(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def count(self, ev: StartEvent) -> StopEvent:
        world.note("count")
        return StopEvent(result=await Group.objects.acount())


class SyncORM(Workflow):
    @step
    def count(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=Group.objects.count())


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no connection that can break")
async def test_steps_survive_a_restart_of_the_database_server(process: Process) -> None:
    await process.serve(AsyncORM, SyncORM)
    assert await process.result(AsyncORM) == await process.result(SyncORM) == 0
    await process.in_thread(terminate_other_connections)
    assert await process.result(AsyncORM) == await process.result(SyncORM) == 0
    assert world.times("count") == 3


async def test_sync_steps_leave_no_connection_open(process: Process) -> None:
    await process.serve(SyncORM)
    await asyncio.gather(*(process.run(SyncORM) for _ in range(10)))
    current = supervisor.current()
    assert current is not None

    def is_closed() -> bool:
        return connections["default"].connection is None

    loop = asyncio.get_running_loop()
    for _ in range(20):
        assert await loop.run_in_executor(current._steps, is_closed)
