"""A process dies, and another goes on with its runs: what a user would find then, case by case."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import OperationalError
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from django_workflows import handlers, service
from django_workflows.exceptions import PersistenceFailed
from django_workflows.models import Handler
from django_workflows.runtime import writer

from .process import Process, outcome, until, within
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Part(Event):
    number: int


class Built(Event):
    number: int


class Reply(HumanResponseEvent):
    question: str
    text: str


async def reached(gate: str) -> None:
    await until(lambda: world.gate(gate).reached, f"nobody came to the gate {gate!r}")


# --- in the middle of a step -----------------------------------------------------------------------------


class ThreeSteps(Workflow):
    @step
    async def first(self, ctx: Context, ev: StartEvent) -> Part:
        world.note("first")
        ctx.write_event_to_stream(Part(number=1))
        await ctx.store.set("history", ["first"])
        return Part(number=ev.number)

    @step
    async def second(self, ctx: Context, ev: Part) -> Built:
        world.note("second")
        done = await ctx.store.get("done", default=0)
        for item in range(done, 5):
            # Item by item, so that a repetition goes on where the last one was interrupted.
            world.note(f"item {item}")
            await ctx.store.set("done", item + 1)
            ctx.write_event_to_stream(Built(number=item))
            if item == 2:
                await world.gate("second").passed()
        return Built(number=ev.number)

    @step
    async def third(self, ctx: Context, ev: Built) -> StopEvent:
        world.note("third")
        return StopEvent(result=[ev.number, await ctx.store.get("history")])


async def test_an_interrupted_step_runs_again_and_finds_what_it_had_saved(process: Process) -> None:
    await process.serve(ThreeSteps)
    handler = await process.start(ThreeSteps, number=7)
    await reached("second")
    await process.crash()
    stored = await process.stored(handler)
    assert stored.status == Handler.Status.RUNNING
    world.gate("second").open()
    await process.restart()
    assert outcome(await process.finish(handler)) == [7, ["first"]]
    assert Counter(world.notes) == {
        "first": 1,
        "second": 2,
        **{f"item {number}": 1 for number in range(5)},
        "third": 1,
    }


async def test_a_reader_that_comes_back_sees_one_log_without_a_gap(process: Process) -> None:
    await process.serve(ThreeSteps)
    handler = await process.start(ThreeSteps, number=7)
    # What is saved as done would otherwise not be written about.
    before = await process.seen(handler, "Built", times=3)
    await process.crash()
    world.gate("second").open()
    await process.restart()
    log = await process.log(handler)
    assert log[before.sequence] == before
    built = [seen.value["number"] for seen in log if seen.type == "Built"]
    assert sorted(set(built)) == [0, 1, 2, 3, 4]


async def test_a_process_may_die_again_and_again(process: Process) -> None:
    await process.serve(ThreeSteps)
    handler = await process.start(ThreeSteps, number=7)
    for _ in range(4):
        await until(lambda: handler is not None and world.times("second") > 0, "the second step never began")
        await process.crash()
        await process.restart()
    world.gate("second").open()
    assert outcome(await process.finish(handler)) == [7, ["first"]]
    assert world.times("first") == 1


class InThread(Workflow):
    @step
    def first(self, ev: StartEvent) -> Part:
        world.note("first")
        return Part(number=1)

    @step
    def second(self, ev: Part) -> StopEvent:
        world.note("second")
        if world.times("second") == 1:
            world.gate("second").passed_in_thread()
            return StopEvent(result="too late: this process was declared dead")
        return StopEvent(result="second time")


async def test_an_interrupted_sync_step_runs_again(process: Process) -> None:
    await process.serve(InThread)
    handler = await process.start(InThread)
    await reached("second")
    await process.crash()
    await process.restart()
    assert outcome(await process.finish(handler)) == "second time"
    assert Counter(world.notes) == {"first": 1, "second": 2}
    world.gate("second").open()


class Scored(Event):
    value: float


class Scoring(Workflow):
    @step
    async def score(self, ev: StartEvent) -> Scored:
        return Scored(value=math.inf)

    @step
    async def judge(self, ev: Scored) -> StopEvent:
        world.note("judge")
        await world.gate("judge").passed()
        return StopEvent(result=f"{ev.value}")


async def test_a_number_that_json_has_not_survives(process: Process) -> None:
    await process.serve(Scoring)
    handler = await process.start(Scoring)
    await reached("judge")
    await process.crash()
    world.gate("judge").open()
    await process.restart()
    assert outcome(await process.finish(handler)) == "inf"
    assert world.notes == ["judge", "judge"]


async def test_a_run_that_was_stored_but_never_begun_is_begun(process: Process) -> None:
    await process.serve(ThreeSteps)
    world.gate("second").open()
    dead = process.die_at_commit(0)
    handler = await process.start(ThreeSteps, number=7)
    async with within("it never wanted to commit"):
        await dead.wait()
    await process.crash()
    assert await process.query(handler.ticks.count) == 0
    await process.restart()
    assert outcome(await process.finish(handler)) == [7, ["first"]]


async def test_a_run_that_has_ended_stays_ended(process: Process) -> None:
    await process.serve(ThreeSteps)
    world.gate("second").open()
    handler = await process.run(ThreeSteps, number=7)
    before = await process.log(handler)
    await process.crash()
    await process.restart()
    assert (await process.stored(handler)).status == Handler.Status.COMPLETED
    assert await process.log(handler) == before
    assert world.times("third") == 1


async def test_all_runs_of_a_dead_process_go_on(process: Process) -> None:
    await process.serve(ThreeSteps, OneByOne)
    handlers = [await process.start(ThreeSteps, number=number) for number in range(20)]
    queued = [await process.start(OneByOne, number=number) for number in range(3)]
    await until(lambda: world.times("item 2") == 20, "some run never came to its second step")
    await process.crash()
    world.gate("second").open()
    world.gate("one").open()
    await process.restart()
    assert [outcome(await process.finish(handler))[0] for handler in handlers] == list(range(20))
    assert [outcome(await process.finish(handler)) for handler in queued] == [0, 1, 2]
    assert world.times("first") == 20
    assert world.most_running == 1


class OneByOne(Workflow):
    def __init__(self) -> None:
        super().__init__(num_concurrent_runs=1)

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        with world:
            await world.gate("one").passed()
        return StopEvent(result=ev.number)


# --- while waiting ---------------------------------------------------------------------------------------


class Asks(Workflow):
    @step
    async def first(self, ev: StartEvent) -> Part:
        world.note("first")
        return Part(number=1)

    @step
    async def ask(self, ctx: Context, ev: Part) -> StopEvent:
        answer = await ctx.wait_for_event(
            Reply,
            waiter_event=InputRequiredEvent(prefix="What is your name?"),
            requirements={"question": "name"},
            timeout=None,
        )
        return StopEvent(result=answer.text)


asks = (Asks, [Reply])


async def test_a_run_waits_on_in_the_next_process(process: Process) -> None:
    await process.serve(asks)
    handler = await process.start(Asks)
    await process.seen(handler, "InputRequiredEvent")
    await process.crash()
    await process.restart()
    # What it did not wait for before, it does not wait for now.
    await process.send(handler, "Reply", question="colour", text="blue")
    await process.seen(handler, "UnhandledEvent")
    await process.send(handler, "Reply", question="name", text="Ada")
    assert outcome(await process.finish(handler)) == "Ada"
    assert world.notes == ["first"]
    # Nobody was asked twice.
    assert [seen.type for seen in await process.public_log(handler)] == ["InputRequiredEvent", "StopEvent"]


async def test_a_run_that_waited_is_nobodys_until_mail_comes(process: Process) -> None:
    await process.serve(asks)
    handler = await process.start(Asks)
    await process.seen(handler, "WorkflowIdleEvent")
    waiting = await process.stored(handler)
    await process.crash()
    await process.restart()
    # Something else to do, so that there was a round of claims.
    other = await process.start(Asks)
    await process.seen(other, "WorkflowIdleEvent")
    stored = await process.stored(handler)
    assert (stored.worker_id, stored.fence) == (None, waiting.fence)
    assert stored.idle_since == waiting.idle_since
    # What it does not wait for wakes it, and it waits on.
    await process.send(handler, "Reply", question="colour", text="blue")
    await process.seen(handler, "WorkflowIdleEvent", times=2)
    assert (await process.stored(handler)).idle_since is not None
    await process.send(handler, "Reply", question="name", text="Ada")
    assert outcome(await process.finish(handler)) == "Ada"


async def test_an_answer_waits_for_the_next_process(process: Process) -> None:
    await process.serve(asks)
    handler = await process.start(Asks)
    await process.seen(handler, "InputRequiredEvent")
    await process.crash()
    await process.send_from_elsewhere(handler, "Reply", question="name", text="Ada")
    assert await process.messages(handler) == 1
    await process.restart()
    assert outcome(await process.finish(handler)) == "Ada"


async def test_a_cancellation_waits_for_the_next_process_and_comes_before_anything_else(process: Process) -> None:
    await process.serve(ThreeSteps)
    handler = await process.start(ThreeSteps, number=7)
    await reached("second")
    await process.crash()
    await process.in_thread(service.cancel, handler.handler_id)
    await process.restart()
    handler = await process.finish(handler)
    assert handler.status == Handler.Status.CANCELLED
    assert (await process.log(handler))[-1].type == "WorkflowCancelledEvent"
    assert world.times("second") == 1


class Impatient(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Reply, waiter_event=InputRequiredEvent(prefix="?"), timeout=ev.timeout)
        except TimeoutError:
            return StopEvent(result=time.time())
        return StopEvent(result="somebody answered")


@pytest.mark.parametrize("down", [False, True], ids=["due later", "due while nobody was there"])
async def test_a_deadline_survives(process: Process, down: bool) -> None:
    await process.serve((Impatient, [Reply]))
    begun = time.time()
    handler = await process.start(Impatient, timeout=0.4)
    await process.seen(handler, "InputRequiredEvent")
    await process.crash()
    if down:
        await until(lambda: time.time() > begun + 0.6, "time stands still")
    await process.restart()
    assert outcome(await process.finish(handler)) >= begun + 0.4


async def test_an_answer_before_the_deadline_counts_after_a_crash(process: Process) -> None:
    await process.serve((Impatient, [Reply]))
    handler = await process.start(Impatient, timeout=600)
    await process.seen(handler, "InputRequiredEvent")
    await process.crash()
    await process.restart()
    await process.send(handler, "Reply", question="", text="here I am")
    assert outcome(await process.finish(handler)) == "somebody answered"


class TimesOut(Workflow):
    def __init__(self) -> None:
        super().__init__(timeout=0.4)

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Reply, waiter_event=InputRequiredEvent(prefix="?"))
        return StopEvent(result="somebody answered")


async def test_a_workflows_timeout_survives(process: Process) -> None:
    await process.serve((TimesOut, [Reply]))
    handler = await process.start(TimesOut)
    await process.seen(handler, "InputRequiredEvent")
    await process.crash()
    await process.restart()
    handler = await process.finish(handler)
    assert (handler.status, handler.error) == (Handler.Status.FAILED, "Workflow timed out after 0.4s")


# --- during a retry delay --------------------------------------------------------------------------------


class Retries(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0.4), stop=stop_after_attempt(2)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        info = ctx.retry_info()
        world.note(f"attempt {info.retry_number}")
        if info.retry_number == 0:
            raise ConnectionError("no answer")
        assert info.last_failed_at is not None
        waited = time.time() - info.last_failed_at.timestamp()
        return StopEvent(result=[waited >= 0.4, str(info.last_exception)])


async def test_a_retry_delay_survives(process: Process) -> None:
    await process.serve(Retries)
    handler = await process.start(Retries)

    async def failed() -> bool:
        return await process.query(handler.ticks.filter(data__contains="no answer").exists)

    await until(failed, "the first attempt never failed")
    await process.crash()
    await process.restart()
    assert outcome(await process.finish(handler)) == [True, "no answer"]
    assert world.notes == ["attempt 0", "attempt 1"]


# --- in the middle of a fan-out --------------------------------------------------------------------------


class BySending(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        world.note("split")
        for number in range(6):
            ctx.send_event(Part(number=number))
        return None

    @step(num_workers=6)
    async def build(self, ev: Part) -> Built:
        if ev.number >= 3:
            await world.gate("slow parts").passed()
        world.note(f"build {ev.number}")
        return Built(number=ev.number)

    @step
    async def assemble(self, ctx: Context, ev: Built) -> StopEvent | None:
        parts = ctx.collect_events(ev, [Built] * 6)
        return None if parts is None else StopEvent(result=sorted(part.number for part in parts))


class ByList(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        world.note("split")
        return [Part(number=number) for number in range(6)]

    @step(num_workers=6)
    async def build(self, ev: Part) -> Built:
        if ev.number >= 3:
            await world.gate("slow parts").passed()
        world.note(f"build {ev.number}")
        return Built(number=ev.number)

    @step
    async def assemble(self, parts: list[Built]) -> StopEvent:
        return StopEvent(result=sorted(part.number for part in parts))


@pytest.mark.parametrize("workflow", [BySending, ByList])
async def test_a_fan_out_goes_on_with_what_is_missing(process: Process, workflow: type[Workflow]) -> None:
    await process.serve(workflow)
    handler = await process.start(workflow)

    async def three_are_in_the_journal() -> bool:
        found = handler.ticks.filter(data__contains='"step_id":"build"')
        return await process.query(found.count) == 3

    await until(three_are_in_the_journal, "the fast parts were never built")
    await process.crash()
    world.gate("slow parts").open()
    await process.restart()
    assert outcome(await process.finish(handler)) == list(range(6))
    assert Counter(world.notes) == {"split": 1, **{f"build {number}": 1 for number in range(6)}}


# --- with mail waiting -----------------------------------------------------------------------------------


class Adds(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="replies")

    @step
    async def take(self, ctx: Context, ev: Reply) -> StopEvent | None:
        replies = ctx.collect_events(ev, [Reply] * 40)
        return None if replies is None else StopEvent(result=sorted(reply.text for reply in replies))


async def test_mail_is_consumed_once_whatever_dies_in_between(process: Process) -> None:
    await process.serve(Adds)
    handler = await process.start(Adds)
    expected = [f"{number:02}" for number in range(40)]
    for number, text in enumerate(expected):
        if number % 10 == 0:
            dead = process.die_at_commit(number // 5)
            for waiting in expected[number : number + 10]:
                await process.send_from_elsewhere(handler, "Reply", question="", text=waiting)
            async with within("the process never died"):
                await dead.wait()
            await process.crash()
            await process.restart()
        assert text
    assert outcome(await process.finish(handler)) == expected


# --- what a run has besides its journal ------------------------------------------------------------------


class Cart(BaseModel):
    items: list[str] = []


class Shops(Workflow):
    @step
    async def fill(self, ctx: Context[Cart], ev: StartEvent) -> Part:
        async with ctx.store.edit_state() as cart:
            cart.items.append(ev.item)
        return Part(number=1)

    @step
    async def pay(self, ctx: Context[Cart], ev: Part) -> StopEvent:
        await world.gate("pay").passed()
        cart = await ctx.store.get_state()
        assert isinstance(cart, Cart)
        return StopEvent(result=cart.items)


async def test_typed_state_is_found_again_also_by_the_next_run(process: Process) -> None:
    await process.serve(Shops)
    for expected in (["tea"], ["tea", "coffee"]):
        world.begin()
        handler = await service.astart("Shops", {"item": expected[-1]}, handler_id="cart")
        await reached("pay")
        await process.crash()
        world.gate("pay").open()
        await process.restart()
        assert outcome(await process.finish(handler)) == expected


class Parent(Workflow):
    @step
    async def delegate(self, ev: StartEvent) -> StopEvent:
        world.note("delegate")
        result = await Child().run()
        return StopEvent(result=result)


class Child(Workflow):
    @step
    async def first(self, ev: StartEvent) -> Part:
        world.note("child: first")
        return Part(number=1)

    @step
    async def second(self, ev: Part) -> StopEvent:
        await world.gate("child").passed()
        return StopEvent(result="grown up")


async def test_a_child_belongs_to_its_parents_step_and_is_repeated_with_it(process: Process) -> None:
    await process.serve(Parent)
    handler = await process.start(Parent)
    await reached("child")
    await process.crash()
    world.gate("child").open()
    await process.restart()
    assert outcome(await process.finish(handler)) == "grown up"
    assert Counter(world.notes) == {"delegate": 2, "child: first": 2}


async def test_a_client_that_waits_for_a_result_gets_it_from_the_next_process(process: Process) -> None:
    await process.serve(ThreeSteps)
    handler = await process.start(ThreeSteps, number=7)
    await reached("second")
    client = asyncio.ensure_future(process.finish(handler))
    await asyncio.sleep(0)
    await process.crash()
    world.gate("second").open()
    await process.restart()
    assert outcome(await client) == [7, ["first"]]


# --- commits that nobody heard of ------------------------------------------------------------------------


def unheard(monkeypatch: pytest.MonkeyPatch, meant: Callable[[list[Any]], bool]) -> None:
    """Let the connection break after the first commit with such results, when it is in the database."""
    commit = writer.commit
    broken = False

    def committed(requests: Sequence[Any]) -> list[Any]:
        nonlocal broken
        results = commit(requests)
        if not broken and meant(results):
            # A batch is repeated one by one.
            broken = len(results) == 1
            raise OperationalError("the connection was lost in the commit")
        return results

    monkeypatch.setattr(writer, "commit", committed)


class Short(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


@pytest.mark.parametrize("backoff", [[], [0.01]], ids=["given up", "repeated"])
async def test_a_claim_that_was_committed_unheard_is_executed(
    process: Process, monkeypatch: pytest.MonkeyPatch, backoff: list[float]
) -> None:
    await process.serve(Short, POLL_INTERVAL=0.1, PERSISTENCE_BACKOFF=backoff)
    unheard(monkeypatch, lambda results: any(isinstance(one, tuple) and one[0] for one in results))
    handler = await process.in_thread(service.start, "Short")
    async with asyncio.timeout(5):
        assert outcome(await process.finish(handler)) == "done"


@pytest.mark.parametrize("backoff", [[], [0.01]], ids=["given up", "repeated"])
async def test_a_start_that_was_committed_unheard_is_executed(
    process: Process, monkeypatch: pytest.MonkeyPatch, backoff: list[float]
) -> None:
    await process.serve(Short, POLL_INTERVAL=0.1, PERSISTENCE_BACKOFF=backoff)
    unheard(monkeypatch, lambda results: any(isinstance(one, Handler) for one in results))
    # It is answered 503, which says neither that it happens nor that it does not.
    with contextlib.suppress(PersistenceFailed):
        await service.astart("Short", {}, handler_id="mine")
    async with asyncio.timeout(5):
        assert outcome(await process.finish(await process.query(handlers.find, "mine"))) == "done"
