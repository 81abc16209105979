"""What hurts a run, or its process, and must hurt no other: poison, dying processes, an owner in doubt."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DataError, OperationalError
from django.utils import timezone
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from django_workflows import eventlog, leases
from django_workflows.models import Event as StoredEvent
from django_workflows.models import Handler, Tick, Worker
from django_workflows.runtime import adapters, clock, supervisor
from django_workflows.runtime.membership import Membership

from .process import Process, outcome, until
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Word(Event):
    text: str


class Says(Workflow):
    """Says a word in its second step, and ends with another."""

    @step
    async def begin(self, ev: StartEvent) -> Word:
        world.note("begin")
        return Word(text=ev.say)

    @step
    async def say(self, ctx: Context, ev: Word) -> StopEvent:
        world.note("say")
        ctx.write_event_to_stream(ev)
        return StopEvent(result=ev.text)


# --- poison ----------------------------------------------------------------------------------------------


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that will never store an event with a certain word."""
    append = eventlog.append

    def refuse(entries: Any) -> None:
        entries = list(entries)
        if any("poison" in entry.data for _, entry in entries):
            raise DataError("value too long")
        append(entries)

    monkeypatch.setattr(eventlog, "append", refuse)


@pytest.mark.usefixtures("picky")
async def test_a_run_whose_write_is_refused_for_good_fails_alone(process: Process) -> None:
    await process.serve(Says)
    runs = await asyncio.gather(
        *(process.run(Says, say="poison" if number == 3 else str(number)) for number in range(8))
    )
    poisoned = runs.pop(3)
    assert poisoned.status == Handler.Status.FAILED
    assert poisoned.error == "The database cannot store what the run wrote (DataError)"
    # The step was not repeated: nothing would come of it.
    assert world.times("say") == 8
    assert [seen.type for seen in await process.public_log(poisoned)] == ["WorkflowFailedEvent"]
    assert [outcome(handler) for handler in runs] == ["0", "1", "2", "4", "5", "6", "7"]


class SaysLast(Workflow):
    @step
    async def say(self, ev: StartEvent) -> StopEvent:
        world.note("say")
        return StopEvent(result="poison")


@pytest.mark.usefixtures("picky")
async def test_a_result_that_is_refused_for_good_is_a_failure(process: Process) -> None:
    await process.serve(SaysLast)
    handler = await process.run(SaysLast)
    assert (handler.status, handler.result) == (Handler.Status.FAILED, None)
    assert world.notes == ["say"]


@pytest.mark.usefixtures("picky")
async def test_a_refusal_that_comes_while_the_engine_ends_is_heard(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it awaits the end of its own tasks, the engine does not notice that it is cancelled."""
    wait = adapters.RunAdapter.wait_receive

    async def end_slowly(adapter: Any, *args: Any) -> Any:
        try:
            return await wait(adapter, *args)
        except asyncio.CancelledError:
            # As on a loop that is busy: the database's answer comes first.
            await until(lambda: adapter._run._outbox._writing is None, "the end was never written")
            raise

    monkeypatch.setattr(adapters.RunAdapter, "wait_receive", end_slowly)
    await process.serve(SaysLast, POLL_INTERVAL=0.1)
    handler = await process.run(SaysLast)
    assert (handler.status, handler.result) == (Handler.Status.FAILED, None)
    assert world.notes == ["say"]


# --- processes that die ----------------------------------------------------------------------------------


class Deadly(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Word:
        return Word(text="")

    @step
    async def die(self, ctx: Context, ev: Word) -> StopEvent:
        world.note("died")
        if world.times("died") <= 3:
            world.gate(f"died {world.times('died')}")._reached.set()
            await asyncio.Event().wait()
        return StopEvent(result="survived")


@pytest.mark.parametrize("limit", [3, 4, None])
async def test_a_run_that_takes_process_after_process_with_it_is_ended(
    process: Process, limit: int | None
) -> None:
    await process.serve(Deadly, MAX_CRASHES=limit)
    handler = await process.start(Deadly)
    for death in range(3):
        await until(lambda death=death: world.times("died") == death + 1, "nobody took the run up")
        await process.crash()
        await process.restart()
    ended = await process.finish(handler)
    if limit == 3:
        assert ended.status == Handler.Status.FAILED
        assert "3 processes died" in str(ended.error)
        assert world.times("died") == 3
    else:
        assert outcome(ended) == "survived"
        assert (await process.stored(handler)).crashes == 0


async def test_a_process_that_stops_is_no_crash(process: Process) -> None:
    await process.serve(Deadly, MAX_CRASHES=1)
    handler = await process.start(Deadly)
    for death in range(3):
        await until(lambda death=death: world.times("died") == death + 1, "nobody took the run up")
        await process.stop()
        await process.restart()
    assert outcome(await process.finish(handler)) == "survived"


# --- an owner in doubt -----------------------------------------------------------------------------------


class Holds(Workflow):
    @step
    async def hold(self, ev: StartEvent) -> StopEvent:
        world.note("hold")
        try:
            await world.gate("hold").passed()
        except asyncio.CancelledError:
            world.note("interrupted")
            raise
        return StopEvent(result="done")


async def test_a_worker_that_cannot_show_that_it_lives_drops_its_runs(
    process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own writes may be fine; but nobody else can know that."""
    await process.serve(Holds, LEASE_TIMEOUT=0.6, POLL_INTERVAL=0.05)
    handler = await process.start(Holds)
    await until(lambda: world.gate("hold").reached, "the step never began")
    beat, away = leases.heartbeat, threading.Event()
    away.set()

    def heartbeat(worker: int) -> datetime | None:
        if away.is_set():
            raise OperationalError("the server closed the connection unexpectedly")
        return beat(worker)

    monkeypatch.setattr(leases, "heartbeat", heartbeat)
    await until(lambda: world.times("interrupted") == 1, "it went on as if it were the owner")
    assert "others may have its runs" in caplog.text
    away.clear()
    world.gate("hold").open()
    assert outcome(await process.finish(handler)) == "done"


async def test_after_a_long_outage_a_process_is_one_worker(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wants to enlist anew all the time, and notices again and again that it is not sure of its lease."""
    await process.serve(Holds, LEASE_TIMEOUT=0.3, POLL_INTERVAL=0.05, PERSISTENCE_BACKOFF=[0.01])
    handler = await process.start(Holds)
    await until(lambda: world.gate("hold").reached, "the step never began")
    beat, enlist, away, tries = leases.heartbeat, leases.enlist, threading.Event(), []

    def heartbeat(worker: int) -> datetime | None:
        if away.is_set():
            raise OperationalError("the server closed the connection unexpectedly")
        return beat(worker)

    def try_to_enlist(token: str) -> Worker:
        tries.append(1)
        if away.is_set():
            raise OperationalError("the server closed the connection unexpectedly")
        return enlist(token)

    monkeypatch.setattr(leases, "heartbeat", heartbeat)
    monkeypatch.setattr(leases, "enlist", try_to_enlist)
    away.set()
    await until(lambda: len(tries) > 40, "it never wanted to come back")
    away.clear()
    world.gate("hold").open()
    assert outcome(await process.finish(handler)) == "done"
    current = supervisor.current()
    assert current is not None
    (worker,) = await process.query(lambda: list(Worker.objects.values_list("pk", flat=True)))
    assert worker == current.worker


async def test_after_an_outage_nobody_is_buried_at_once(process: Process) -> None:
    """Nobody could send a heartbeat while the database was away; whoever is back first must not bury the rest."""
    await process.serve(Holds, start=False)
    silent = await process.query(leases.enlist, leases.new_token())
    await process.query(_age, silent.pk)
    membership = Membership(1.0, lambda: None)
    membership.worker = (await process.query(leases.enlist, leases.new_token())).pk
    membership._beat_at = time.monotonic() - 60
    await process.query(membership.beat)
    await process.query(membership.bury)
    assert await process.query(Worker.objects.filter(pk=silent.pk).exists)
    membership._beating_since -= 2
    await process.query(membership.bury)
    assert not await process.query(Worker.objects.filter(pk=silent.pk).exists)


def _age(worker: int) -> None:
    Worker.objects.filter(pk=worker).update(heartbeat_at=timezone.now() - timedelta(hours=1))


# --- clocks ----------------------------------------------------------------------------------------------


@pytest.fixture
def right_clock() -> Iterator[None]:
    yield
    clock.compare(datetime.now(UTC), time.time(), time.time())


@pytest.mark.usefixtures("right_clock")
def test_a_host_whose_clock_is_wrong_goes_by_the_databases() -> None:
    here = time.time()
    clock.compare(datetime.fromtimestamp(here + 3600, UTC), here, here)
    assert abs(clock.now() - (time.time() + 3600)) < 1
    # What may be the time that the answer took is no difference.
    clock.compare(datetime.fromtimestamp(here + 3604, UTC), here - 5, here + 5)
    assert abs(clock.now() - (time.time() + 3600)) < 1
    clock.compare(datetime.fromtimestamp(here, UTC), here, here)
    assert abs(clock.now() - time.time()) < 0.1


# --- threads ---------------------------------------------------------------------------------------------


class Blocks(Workflow):
    @step(num_workers=8)
    def block(self, ev: StartEvent) -> StopEvent:
        with world:
            world.gate("block").passed_in_thread()
        return StopEvent(result=threading.current_thread().name)


async def test_long_synchronous_steps_are_bounded_and_hold_up_nobody_else(process: Process) -> None:
    await process.serve(Blocks, STEP_THREADS=2)
    runs = [asyncio.ensure_future(process.run(Blocks)) for _ in range(20)]
    await until(lambda: world.now_running == 2, "the steps never began")
    # Everything else that leaves the event loop.
    name = await sync_to_async(lambda: threading.current_thread().name, thread_sensitive=False)()
    assert "step" not in name
    assert await asyncio.to_thread(lambda: 42) == 42
    world.gate("block").open()
    for handler in await asyncio.gather(*runs):
        assert "django-workflows-step" in outcome(handler)
    assert world.most_running == 2


# --- retention -------------------------------------------------------------------------------------------


async def test_finished_handlers_are_deleted_when_their_time_is_over(process: Process) -> None:
    await process.serve(Says, Holds, RETENTION="1h")
    old, young = await process.run(Says, say="a"), await process.run(Says, say="b")
    running = await process.start(Holds)
    await process.query(_end_long_ago, old.pk)
    await process.stop()
    await process.restart()

    async def is_gone() -> bool:
        return not await process.query(Handler.objects.filter(pk=old.pk).exists)

    await until(is_gone, "it was never deleted")
    for model in (Tick, StoredEvent):
        assert not await process.query(model.objects.filter(handler=old.pk).exists)
    assert (await process.stored(young)).status == Handler.Status.COMPLETED
    world.gate("hold").open()
    assert outcome(await process.finish(running)) == "done"


def _end_long_ago(handler: int) -> None:
    Handler.objects.filter(pk=handler).update(completed_at=timezone.now() - timedelta(hours=2))
