"""A process may die between any two commits: the run goes on elsewhere as if nothing had happened.

Each scenario is played once for every commit that its run makes. After the n-th, the process is dead: it hears of
no further commit and writes none. Another takes the run over. Then the outcome is the same, the log has no gap,
what had been journaled of steps is not done again, and what had not been is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from workflows import Context, Workflow, catch_error, step
from workflows.collect import Collect, Take
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.runtime.types.results import StepWorkerFailed, StepWorkerResult
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick

from django_workflows import journal, leases, registry, serialization, service
from django_workflows.models import Handler
from django_workflows.runtime import ticks

from .process import Process, outcome
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Part(Event):
    number: int


class Built(Event):
    number: int


class Painted(Event):
    number: int


class Reply(HumanResponseEvent):
    question: str
    text: str


def name(event: Event) -> str:
    return f"{type(event).__name__} {event.model_dump_json()}"


def key(step: str, event: Event) -> str:
    return f"{step} {name(event)}"


def did(step: str, event: Event) -> None:
    """Note that a step has done its work for an event."""
    world.note(key(step, event))


# --- scenarios -------------------------------------------------------------------------------------------


class Chain(Workflow):
    @step
    async def first(self, ctx: Context, ev: StartEvent) -> Part:
        await ctx.store.set("visited", ["first"])
        ctx.write_event_to_stream(Painted(number=1))
        did("first", ev)
        return Part(number=1)

    @step
    def second(self, ev: Part) -> Built:
        did("second", ev)
        return Built(number=ev.number + 1)

    @step
    async def third(self, ctx: Context, ev: Built) -> StopEvent:
        async with ctx.store.edit_state() as state:
            # It may have been here before.
            state["visited"] = sorted({*state["visited"], "third"})
        did("third", ev)
        return StopEvent(result=[ev.number, await ctx.store.get("visited")])


class SendAndCollect(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        for number in range(3):
            ctx.send_event(Part(number=number))
        did("split", ev)
        return None

    @step(num_workers=2)
    async def build(self, ev: Part) -> Built:
        did("build", ev)
        return Built(number=ev.number)

    @step
    async def assemble(self, ctx: Context, ev: Built) -> StopEvent | None:
        parts = ctx.collect_events(ev, [Built] * 3)
        did("assemble", ev)
        return None if parts is None else StopEvent(result=sorted(part.number for part in parts))


class ListAndCollect(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        did("split", ev)
        return [Part(number=number) for number in range(3)]

    @step(num_workers=2)
    async def build(self, ev: Part) -> list[Built]:
        did("build", ev)
        return [Built(number=ev.number)] * ev.number

    @step
    async def paint(self, parts: list[Built]) -> Painted:
        return Painted(number=sum(part.number for part in parts))

    @step
    async def finish(self, parts: list[Painted]) -> StopEvent:
        return StopEvent(result=sorted(part.number for part in parts))


class TakeTwo(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        did("split", ev)
        return [Part(number=number) for number in range(2)]

    @step
    async def build(self, ev: Part) -> Built:
        did("build", ev)
        return Built(number=ev.number)

    @step
    async def assemble(self, parts: Annotated[list[Built], Collect(Take(2))]) -> StopEvent:
        return StopEvent(result=sorted(part.number for part in parts))


class TwoParameters(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Part:
        did("begin", ev)
        return Part(number=5)

    @step
    async def build(self, ev: Part) -> Built:
        did("build", ev)
        return Built(number=ev.number)

    @step
    async def paint(self, ev: Part) -> Painted:
        did("paint", ev)
        return Painted(number=ev.number * 2)

    @step
    async def assemble(self, built: Built, painted: Painted) -> StopEvent:
        return StopEvent(result=[built.number, painted.number])


class BySignature(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        did("ask", ev)
        return InputRequiredEvent(prefix="name")

    @step
    async def greet(self, ev: Reply) -> StopEvent:
        did("greet", ev)
        return StopEvent(result=f"Hello, {ev.text}")


class Interview(Workflow):
    """Two waits, one after the other, each with requirements; and a wrong answer in between."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        found = []
        for question in ("name", "colour"):
            answer = await ctx.wait_for_event(
                Reply,
                waiter_event=InputRequiredEvent(prefix=question),
                waiter_id=question,
                requirements={"question": question},
            )
            found.append(answer.text)
        did("ask", ev)
        return StopEvent(result=found)


class Survey(Workflow):
    """Two waits at once, in two steps."""

    @step
    async def begin(self, ev: StartEvent) -> list[Part]:
        did("begin", ev)
        return [Part(number=0), Part(number=1)]

    @step
    async def ask(self, ctx: Context, ev: Part) -> Built:
        question = ("name", "colour")[ev.number]
        await ctx.wait_for_event(
            Reply, waiter_event=InputRequiredEvent(prefix=question), requirements={"question": question}
        )
        did("ask", ev)
        return Built(number=ev.number)

    @step
    async def gather(self, answers: list[Built]) -> StopEvent:
        return StopEvent(result=sorted(answer.number for answer in answers))


class Impatient(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Reply, waiter_event=InputRequiredEvent(prefix="?"), timeout=0.02)
        except TimeoutError:
            did("ask", ev)
            return StopEvent(result="nobody answered")
        return StopEvent(result="somebody answered")


class Retried(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        did("fetch", ev)
        retries = ctx.retry_info().retry_number
        if retries < 2:
            raise ConnectionError("no answer")
        return StopEvent(result=retries)


class Caught(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def fetch(self, ev: StartEvent) -> StopEvent:
        did("fetch", ev)
        raise ConnectionError("no answer")

    @catch_error(for_steps=["fetch"])
    async def recover(self, ev: StepFailedEvent) -> Part:
        return Part(number=ev.attempts)

    @step
    async def use(self, ev: Part) -> StopEvent:
        did("use", ev)
        return StopEvent(result=ev.number)


class Fails(Workflow):
    @step
    async def first(self, ev: StartEvent) -> Part:
        did("first", ev)
        return Part(number=1)

    @step
    async def second(self, ev: Part) -> StopEvent:
        did("second", ev)
        raise ValueError("it broke")


class Tally(Workflow):
    """Collects what comes by mail."""

    @step
    async def begin(self, ev: StartEvent) -> InputRequiredEvent:
        did("begin", ev)
        return InputRequiredEvent(prefix="replies")

    @step
    async def take(self, ctx: Context, ev: Reply) -> StopEvent | None:
        replies = ctx.collect_events(ev, [Reply] * 5)
        did("take", ev)
        return None if replies is None else StopEvent(result=sorted(reply.text for reply in replies))


class WithChild(Workflow):
    def __init__(self) -> None:
        super().__init__()
        self.child = Square()

    @step
    async def delegate(self, ev: StartEvent) -> Part:
        result = await self.child.run(number=4)
        did("delegate", ev)
        return Part(number=result)

    @step
    async def end(self, ev: Part) -> StopEvent:
        did("end", ev)
        return StopEvent(result=ev.number)


class Square(Workflow):
    @step
    async def square(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.number**2)


async def answer_by_signature(process: Process, handler: Handler) -> None:
    await process.seen(handler, "InputRequiredEvent")
    await process.send_from_elsewhere(handler, "Reply", question="name", text="Ada")


async def answer_wrongly_first(process: Process, handler: Handler) -> None:
    for number, (question, text) in enumerate([("name", "Ada"), ("colour", "blue")]):
        await process.seen(handler, "InputRequiredEvent", times=number + 1)
        await process.send_from_elsewhere(handler, "Reply", question="weather", text="rain")
        await process.send_from_elsewhere(handler, "Reply", question=question, text=text)


async def answer_both(process: Process, handler: Handler) -> None:
    await process.seen(handler, "InputRequiredEvent", times=2)
    for question in ("colour", "name"):
        await process.send_from_elsewhere(handler, "Reply", question=question, text="x")


async def send_five(process: Process, handler: Handler) -> None:
    for number in range(5):
        await process.send_from_elsewhere(handler, "Reply", question="", text=str(number))


async def cancel_when_asked(process: Process, handler: Handler) -> None:
    await process.seen(handler, "InputRequiredEvent")
    await process.in_thread(service.cancel, handler.handler_id)


async def nobody(process: Process, handler: Handler) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    workflow: type[Workflow]
    expected: Any
    outside: Callable[[Process, Handler], Awaitable[None]] = nobody
    additional_events: Sequence[type[Event]] = field(default=())
    status: Handler.Status = Handler.Status.COMPLETED
    title: str = ""

    def __str__(self) -> str:
        return self.title or self.workflow.__name__


SCENARIOS = [
    Scenario(Chain, [2, ["first", "third"]]),
    Scenario(SendAndCollect, [0, 1, 2]),
    Scenario(ListAndCollect, [0, 1, 4]),
    Scenario(TakeTwo, [0, 1]),
    Scenario(TwoParameters, [5, 10]),
    Scenario(BySignature, "Hello, Ada", answer_by_signature),
    Scenario(Interview, ["Ada", "blue"], answer_wrongly_first, [Reply]),
    Scenario(Survey, [0, 1], answer_both, [Reply]),
    Scenario(Impatient, "nobody answered", additional_events=[Reply]),
    Scenario(Retried, 2),
    Scenario(Caught, 2),
    Scenario(Fails, "it broke", status=Handler.Status.FAILED),
    Scenario(Tally, ["0", "1", "2", "3", "4"], send_five),
    Scenario(WithChild, 16),
    Scenario(BySignature, None, cancel_when_asked, status=Handler.Status.CANCELLED, title="Cancelled"),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_a_run_survives_a_crash_after_any_commit(process: Process, scenario: Scenario) -> None:
    await process.serve((scenario.workflow, scenario.additional_events), POLL_INTERVAL=0.2)
    for number in range(60):
        world.begin()
        dead = process.die_at_commit(number)
        handler = await process.start(scenario.workflow)
        outside = asyncio.ensure_future(scenario.outside(process, handler))
        survived = await ended_before(dead, process, handler)
        if not survived:
            await process.crash(and_join_threads=True)
        journaled, noted = await process.query(work_in_journal, handler), Counter(world.notes)
        causes = await process.query(causes_in_journal, handler)
        for one in noted - journaled:
            assert one.split(" ", 1)[1] in causes, f"{one} began before what it is for was committed"
        if not survived:
            await process.restart()
        ended, _ = await asyncio.gather(process.finish(handler), outside)
        assert ended.status == scenario.status, ended.error
        found = outcome(ended) if ended.status == Handler.Status.COMPLETED else ended.error
        assert found == scenario.expected, f"died after commit {number}"
        # What was in the journal is not done again; what was not is.
        done = Counter(world.notes) - noted
        missing = await process.query(work_in_journal, handler) - journaled
        assert done == Counter({one: missing[one] for one in missing if one in world.notes}), f"commit {number}"
        await process.check()
        if survived:
            assert number > 1
            return
    raise AssertionError("the run makes more commits than it has steps")


async def ended_before(dead: asyncio.Event, process: Process, handler: Handler) -> bool:
    """Wait until the process dies or the run ends; True when it ended."""
    dies, ends = asyncio.ensure_future(dead.wait()), asyncio.ensure_future(process.finish(handler))
    await asyncio.wait([dies, ends], return_when=asyncio.FIRST_COMPLETED)
    survived = ends.done()
    for task in (dies, ends):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return survived


def work_in_journal(handler: Handler) -> Counter[str]:
    """Return the steps whose work stands in the journal, as they note it themselves."""
    return Counter(
        key(str(tick.step_id), tick.event)
        for tick in read_journal(handler)
        if isinstance(tick, TickStepResult)
        and any(isinstance(result, StepWorkerResult | StepWorkerFailed) for result in tick.result)
    )


def causes_in_journal(handler: Handler) -> set[str]:
    """Return the events that may have made steps work: those in the journal, and the start event."""
    added = [tick.event for tick in read_journal(handler) if isinstance(tick, TickAddEvent)]
    return {name(event) for event in (*added, StartEvent())}


def read_journal(handler: Handler) -> list[WorkflowTick]:
    using = serialization.serializer(registry.get(handler.workflow_name))
    return [ticks.load(entry.data, using) for entry in journal.read(leases.of(handler))]
