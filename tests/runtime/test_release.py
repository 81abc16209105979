"""Runs that wait leave memory and come back: by mail, by a deadline, on whichever process is there."""

from __future__ import annotations

import asyncio
import math
import threading
from datetime import timedelta
from typing import Any, cast

import pytest
from django.db import OperationalError
from django.utils import timezone
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickIdleCheck, TickWaiterTimeout

from django_workflows import contexts, database, leases, mailbox, serialization, service
from django_workflows.exceptions import LeaseLost
from django_workflows.models import Handler, Message, Tick
from django_workflows.runtime import clock, replay, run, supervisor, writer
from django_workflows.runtime.adapters import RunAdapter
from django_workflows.runtime.deadlines import Deadlines
from django_workflows.runtime.run import Run
from django_workflows.runtime.writes import Changes
from tests.memory import without_collections
from tests.storage import PATIENCE

from .process import Process, outcome, until
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)

# Seconds; a run that waits for longer than this is released.
SOON = {"IDLE_TIMEOUT": 0.04, "POLL_INTERVAL": 0.05}


class Reply(HumanResponseEvent):
    text: str
    number: int = 0


class Ping(Event):
    number: int


class Asks(Workflow):
    """Asks a number of questions, one after the other."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answers = []
        for number in range(ev.questions):
            reply = await ctx.wait_for_event(
                Reply,
                waiter_event=InputRequiredEvent(prefix=str(number)),
                waiter_id=str(number),
                requirements={"number": number},
            )
            answers.append(reply.text)
        world.note("answered")
        return StopEvent(result=answers)


class GivesUp(Workflow):
    """Waits for an answer for a while only."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            reply = await ctx.wait_for_event(
                Reply, waiter_event=InputRequiredEvent(prefix="?"), timeout=ev.patience
            )
        except TimeoutError:
            return StopEvent(result="nobody answered")
        return StopEvent(result=reply.text)


class OneSecond(Workflow):
    """Asks, and has a second for the whole of it."""

    def __init__(self) -> None:
        super().__init__(timeout=1)

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Reply, waiter_event=InputRequiredEvent(prefix="?"))
        return StopEvent()


class TriesLater(Workflow):
    """Fails, and is tried again after a while."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0.6), stop=stop_after_attempt(2)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        world.note("tried")
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("no answer")
        return StopEvent(result="fetched")


class Pings(Workflow):
    """Writes a long journal, and asks then."""

    @step
    async def ping(self, ctx: Context, ev: StartEvent | Ping) -> Ping | InputRequiredEvent:
        number = ev.number + 1 if isinstance(ev, Ping) else 0
        if number == 40:
            world.note("asked")
            return InputRequiredEvent(prefix="?")
        return Ping(number=number)

    @step
    async def end(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.text)


asks, gives_up, one_second = (Asks, [Reply]), (GivesUp, [Reply]), (OneSecond, [Reply])


async def released(process: Process, handler: Handler) -> Handler:
    """Wait until a run has left memory and return its row."""

    async def is_gone() -> bool:
        current = supervisor.current()
        assert current is not None
        return current.run_of(handler.pk) is None and (await process.stored(handler)).worker_id is None

    await until(is_gone, "the run was never released")
    return await process.stored(handler)


async def test_a_waiting_run_leaves_memory_and_comes_back_for_its_answer(process: Process) -> None:
    await process.serve(asks, **SOON)
    handler = await process.start(Asks, questions=3)
    for number in range(3):
        await process.seen(handler, "InputRequiredEvent", times=number + 1)
        waiting = await released(process, handler)
        assert waiting.status == Handler.Status.RUNNING
        assert waiting.idle_since is not None
        await process.send(handler, "Reply", text=str(number), number=number)
    assert outcome(await process.finish(handler)) == ["0", "1", "2"]
    assert world.notes == ["answered"]


async def test_a_released_run_takes_no_memory(process: Process) -> None:
    """At once: it must not wait for a collection of garbage, which is rare."""
    await process.serve(asks, **SOON)

    with without_collections(Run) as left:
        handlers = [await process.start(Asks, questions=1) for _ in range(20)]
        for handler in handlers:
            await released(process, handler)

        await until(lambda: not left(), "something holds a run")


async def test_a_step_that_outlives_its_run_can_do_nothing_more(process: Process) -> None:
    """It can still say which run it was."""
    await process.serve(asks, **SOON)
    handler = await process.start(Asks, questions=1)
    current = supervisor.current()
    assert current is not None
    await until(lambda: current.run_of(handler.pk) is not None, "the run was never here")
    adapter = RunAdapter(cast(Run, current.run_of(handler.pk)))
    await released(process, handler)
    await until(lambda: adapter._reference() is None, "something holds the run")

    assert adapter.run_id == handler.run_id
    for attempt in (adapter.send_event, adapter.on_tick):
        with pytest.raises(LeaseLost):
            await attempt(TickIdleCheck())


async def test_who_waits_for_a_released_run_hears_of_its_end(process: Process) -> None:
    await process.serve(asks, **SOON)
    handler = await process.start(Asks, questions=1)
    waiting = asyncio.ensure_future(process.finish(handler))
    log = asyncio.ensure_future(process.public_log(handler))
    await released(process, handler)
    await process.send_from_elsewhere(handler, "Reply", text="here")
    assert outcome(await waiting) == ["here"]
    assert [seen.type for seen in await log] == ["InputRequiredEvent", "StopEvent"]


async def test_a_released_run_is_cancelled_without_waking_a_step(process: Process) -> None:
    await process.serve(asks, **SOON)
    handler = await process.start(Asks, questions=1)
    await released(process, handler)
    await service.acancel(handler.handler_id)
    assert (await process.finish(handler)).status == Handler.Status.CANCELLED
    assert world.notes == []


async def test_a_wait_is_over_in_time_after_a_release(process: Process) -> None:
    await process.serve(gives_up, **SOON)
    handler = await process.start(GivesUp, patience=0.8)
    waiting = await released(process, handler)
    assert waiting.wake_at is not None
    assert outcome(await process.finish(handler)) == "nobody answered"
    ended = await process.stored(handler)
    assert ended.completed_at is not None
    assert ended.completed_at >= waiting.started_at + timedelta(seconds=0.8)


async def test_a_released_run_that_is_answered_in_time_is_answered(process: Process) -> None:
    await process.serve(gives_up, **SOON)
    handler = await process.start(GivesUp, patience=3600)
    waiting = await released(process, handler)
    assert waiting.wake_at is not None
    assert timedelta(minutes=59) < waiting.wake_at - timezone.now() < timedelta(minutes=61)
    await process.send(handler, "Reply", text="in time")
    assert outcome(await process.finish(handler)) == "in time"


@pytest.mark.parametrize("released_first", [True, False])
async def test_a_workflow_times_out_when_it_is_due_though_nobody_had_it(
    process: Process, released_first: bool
) -> None:
    await process.serve(one_second, **(SOON if released_first else {}))
    handler = await process.start(OneSecond)
    if released_first:
        await released(process, handler)
    else:
        # The time without any process counts.
        await process.seen(handler, "WorkflowIdleEvent")
        await process.crash()
        await asyncio.sleep(1)
        await process.restart()
    ended = await process.finish(handler)
    assert ended.status == Handler.Status.FAILED
    assert ended.error == "Workflow timed out after 1.0s"
    assert (await process.log(handler))[-1].type == "WorkflowTimedOutEvent"


async def test_a_retry_is_made_when_it_is_due_after_a_release(process: Process) -> None:
    await process.serve(TriesLater, **SOON)
    handler = await process.start(TriesLater)
    waiting = await released(process, handler)
    # It does not wait for anybody.
    assert waiting.idle_since is None
    assert waiting.wake_at is not None
    assert world.notes == ["tried"]
    assert outcome(await process.finish(handler)) == "fetched"
    assert world.notes == ["tried", "tried"]


async def test_a_deadline_is_kept_by_the_next_process(process: Process) -> None:
    await process.serve(gives_up, **SOON)
    handler = await process.start(GivesUp, patience=0.5)
    await released(process, handler)
    await process.crash()
    await process.restart()
    assert outcome(await process.finish(handler)) == "nobody answered"


async def test_mail_that_comes_as_the_run_leaves_wakes_it(process: Process) -> None:
    """Whenever the answer comes, before, during or after the release, it is consumed, and at once."""
    await process.serve(asks, IDLE_TIMEOUT=0.02, POLL_INTERVAL=600)

    async def converse(number: int) -> list[str]:
        handler = await process.start(Asks, questions=4)
        for question in range(4):
            await process.seen(handler, "InputRequiredEvent", times=question + 1)
            await asyncio.sleep(0.004 * ((number + 3 * question) % 11))
            await process.send(handler, "Reply", text=str(question), number=question)
        answers: list[str] = outcome(await process.finish(handler))
        return answers

    found = await asyncio.gather(*(converse(number) for number in range(24)))
    assert found == [["0", "1", "2", "3"]] * 24
    assert world.times("answered") == 24


async def test_mail_that_a_look_has_found_already_wakes_the_run_that_leaves(process: Process) -> None:
    """The look that its hint caused was made just before the release, and nobody says it again."""
    await process.serve(asks, POLL_INTERVAL=600)
    handler = await process.start(Asks, questions=1)
    await process.seen(handler, "InputRequiredEvent")
    current = supervisor.current()
    assert current is not None
    run = current.run_of(handler.pk)
    assert run is not None
    await until(lambda: run.is_quiet, "the run never waited")
    data = serialization.dump_event(Reply(text="here"), run.serializer)
    letter = mailbox.Letter(handler.pk, handler.run, Message.Kind.EVENT, data)
    await process.in_thread(mailbox.post, letter)
    assert await run.release(None)
    assert outcome(await process.finish(handler)) == ["here"]


class TakesTwo(Workflow):
    """Asks once, and takes two answers in the order in which they come."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="?")

    @step(num_workers=1)
    async def take(self, ev: Reply) -> StopEvent | None:
        world.note(ev.text)
        return StopEvent() if len(world.notes) == 2 else None


async def test_answers_stay_in_order_when_the_run_leaves_with_one_of_them(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look for mail leaves out what a run has; the run that takes its place meanwhile has nothing yet."""
    commit, released, looks = writer.commit, False, 0
    looking, go_on = threading.Event(), threading.Event()

    def hold_back(requests: Any) -> Any:
        nonlocal released, looks
        released = released or any(isinstance(each, Changes) and each.released for each in requests)
        if released and any("_round" in getattr(each, "__qualname__", "") for each in requests):
            looks += 1
            if looks == 2:
                looking.set()
                assert go_on.wait(PATIENCE)
        return commit(requests)

    async def post(text: str) -> None:
        data = serialization.dump_event(Reply(text=text), old.serializer)
        letter = mailbox.Letter(handler.pk, handler.run, Message.Kind.EVENT, data)
        await process.in_thread(mailbox.post, letter)

    monkeypatch.setattr(writer, "commit", hold_back)
    await process.serve(TakesTwo, IDLE_TIMEOUT=None, POLL_INTERVAL=600)
    handler = await process.start(TakesTwo)
    await process.seen(handler, "InputRequiredEvent")
    current = supervisor.current()
    assert current is not None
    old = current.run_of(handler.pk)
    assert old is not None
    await until(lambda: old.is_quiet, "the run never waited")
    await post("first")
    leaving = asyncio.ensure_future(old.release(None))
    await asyncio.sleep(0)
    current.hint()
    assert await leaving
    await until(looking.is_set, "nobody looked again")
    await until(lambda: current.run_of(handler.pk) not in (None, old), "the run did not come back")
    await post("second")
    go_on.set()
    await process.finish(handler)
    assert world.notes == ["first", "second"]


class TriesMuchLater(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0.5), stop=stop_after_attempt(2)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("no answer")
        world.note("begun")
        await world.gate("fetching").passed()
        return StopEvent(result="fetched")


async def test_a_release_that_is_put_off_takes_nothing_from_the_run_that_has_come_back(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another process would execute it at the same time."""
    commit, tries = writer.commit, 0

    def fail_once(requests: Any) -> Any:
        nonlocal tries
        if any(isinstance(each, Changes) and each.released for each in requests):
            tries += len(requests) == 1
            if tries < 2:
                raise OperationalError("the connection was lost")
        return commit(requests)

    monkeypatch.setattr(writer, "commit", fail_once)
    await process.serve(TriesMuchLater, IDLE_TIMEOUT=0.1, POLL_INTERVAL=600, PERSISTENCE_BACKOFF=[3.0])
    current = supervisor.current()
    assert current is not None
    handler = await process.start(TriesMuchLater)
    await until(lambda: tries == 1, "the run was never released")
    await until(lambda: current.run_of(handler.pk) is None, "the run stayed, though its retry was due")
    current.hint()
    await until(lambda: world.gate("fetching").reached, "the step never began")
    await until(lambda: tries == 2, "the release was not tried again")
    other = await process.in_thread(leases.enlist, "another")
    assert await process.in_thread(leases.claim, other.pk, 10, ["TriesMuchLater"]) == []
    await process.in_thread(leases.retire, other.pk)
    world.gate("fetching").open()
    assert outcome(await process.finish(handler)) == "fetched"
    assert world.notes == ["begun"]


async def test_a_busy_run_stays(process: Process) -> None:
    await process.serve(Held, **SOON)
    handler = await process.start(Held)
    await until(lambda: world.gate("held").reached, "the step never began")
    await asyncio.sleep(0.3)
    stored = await process.stored(handler)
    assert (stored.fence, stored.worker_id is None) == (1, False)
    world.gate("held").open()
    assert outcome(await process.finish(handler)) == "done"


class Held(Workflow):
    @step
    def hold(self, ev: StartEvent) -> StopEvent:
        world.gate("held").passed_in_thread()
        return StopEvent(result="done")


# --- snapshots -------------------------------------------------------------------------------------------


@pytest.fixture
def every_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SNAPSHOT_INTERVAL", 10)


def is_short(handler: Handler) -> bool:
    """Whether few ticks have come since the last snapshot of a run."""
    current = supervisor.current()
    assert current is not None
    found = current.run_of(handler.pk)
    assert found is not None
    return found.position - found.snapshot < 10


@pytest.mark.usefixtures("every_ten")
async def test_a_run_that_goes_on_while_its_snapshot_is_taken_gets_another(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Event()
    summarize = replay.summarize

    def summarize_slowly(*args: Any) -> Any:
        snapshot = summarize(*args)
        assert waits.wait(20)
        return snapshot

    monkeypatch.setattr(replay, "summarize", summarize_slowly)
    await process.serve(Pings)
    handler = await process.start(Pings)
    await process.seen(handler, "InputRequiredEvent")
    assert not is_short(handler)
    waits.set()
    await until(lambda: is_short(handler), "no other snapshot was taken")


@pytest.mark.parametrize("prunes", [False, True])
@pytest.mark.usefixtures("every_ten")
async def test_a_long_journal_is_read_from_its_last_snapshot(process: Process, prunes: bool) -> None:
    await process.serve(Pings, PRUNE_TICKS=prunes)
    handler = await process.start(Pings)
    await process.seen(handler, "InputRequiredEvent")

    await until(lambda: is_short(handler), "no snapshot was taken")
    await process.crash()
    context = await process.query(contexts.read, handler.pk)
    assert context is not None
    assert context.snapshot_sequence > 30
    left = await process.query(Tick.objects.filter(handler=handler, sequence__lte=context.snapshot_sequence).count)
    assert left == (0 if prunes else context.snapshot_sequence + 1)
    await process.restart()
    await process.send(handler, "Reply", text="end")
    assert outcome(await process.finish(handler)) == "end"
    assert world.notes == ["asked"]
    assert (await process.query(Tick.objects.filter(handler=handler).exists)) is not prunes


async def test_a_run_leaves_memory_with_a_snapshot_when_its_journal_is_long(process: Process) -> None:
    await process.serve(Pings, asks, **SOON)
    long, short = await process.start(Pings), await process.start(Asks, questions=1)
    for handler in (long, short):
        await released(process, handler)
    taken, spared = [await process.query(contexts.read, one.pk) for one in (long, short)]
    assert taken is not None
    assert taken.snapshot_sequence == await process.query(Tick.objects.filter(handler=long).count) - 1
    assert spared is None
    await process.send(long, "Reply", text="end")
    assert outcome(await process.finish(long)) == "end"


async def test_a_run_without_a_snapshot_goes_on_from_its_journal(
    process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise ValueError("the engine cannot write its state")

    monkeypatch.setattr(replay, "summarize", fail)
    await process.serve(Pings, **SOON)
    handler = await process.start(Pings)
    await released(process, handler)
    assert "no snapshot of the run could be taken" in caplog.text
    await process.send(handler, "Reply", text="end")
    assert outcome(await process.finish(handler)) == "end"


class Weighed(Event):
    weight: float


class Weighing(Workflow):
    """Holds an event with a number that JSON has not while it waits, after a long journal."""

    @step
    async def ping(self, ev: StartEvent | Ping) -> Ping | Weighed:
        number = ev.number + 1 if isinstance(ev, Ping) else 0
        return Ping(number=number) if number < 40 else Weighed(weight=math.inf)

    @step
    async def ask(self, ev: Weighed) -> InputRequiredEvent | None:
        return InputRequiredEvent(prefix="?") if math.isinf(ev.weight) else None

    @step
    async def answered(self, ev: Reply) -> Weighed:
        return Weighed(weight=1.0)

    @step
    async def weigh(self, ctx: Context, ev: Weighed) -> StopEvent | None:
        both = ctx.collect_events(ev, [Weighed, Weighed])
        return None if both is None else StopEvent(result=[f"{each.weight}" for each in both])


async def test_no_snapshot_is_kept_that_cannot_be_read(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    await process.serve(Weighing, **SOON)
    handler = await process.start(Weighing)
    await released(process, handler)
    assert "no snapshot of the run could be taken" in caplog.text
    await process.send(handler, "Reply", text="end")
    assert outcome(await process.finish(handler)) == ["inf", "1.0"]


def test_a_deadline_that_is_due_counts_until_it_is_in_the_journal() -> None:
    """A process that dies in between must leave behind that the run has something to do."""
    now = clock.now()
    tick = TickWaiterTimeout(step_id=StepId.root("ask"), waiter_id="one")
    other = TickWaiterTimeout(step_id=StepId.root("ask"), waiter_id="another")
    deadlines = Deadlines([(now - 1, tick), (now + 100, other)])

    assert deadlines.next == database.moment(now - 1)
    deadlines.passed(tick.model_copy(update={"stamped_at": now}))
    assert deadlines.next == database.moment(now + 100)
