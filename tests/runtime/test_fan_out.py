"""Fan-out and fan-in: by sending events and by returning lists."""

from __future__ import annotations

from typing import Annotated

import pytest
from workflows import Context, Workflow, step
from workflows.collect import Collect, Take
from workflows.events import Event, StartEvent, StopEvent

from .process import Process, outcome
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Part(Event):
    number: int


class Built(Event):
    number: int


class Painted(Event):
    number: int


class Priced(Event):
    total: int


class BySending(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        await ctx.store.set("count", ev.count)
        for number in range(ev.count):
            ctx.send_event(Part(number=number))
        return None

    @step
    async def build(self, ev: Part) -> Built:
        world.note(f"build {ev.number}")
        return Built(number=ev.number)

    @step
    async def assemble(self, ctx: Context, ev: Built) -> StopEvent | None:
        parts = ctx.collect_events(ev, [Built] * await ctx.store.get("count"))
        return None if parts is None else StopEvent(result=sorted(part.number for part in parts))


@pytest.mark.parametrize("count", [1, 4, 25])
async def test_events_that_are_sent_are_collected(process: Process, count: int) -> None:
    await process.serve(BySending)
    assert await process.result(BySending, count=count) == list(range(count))
    assert sorted(world.notes) == sorted(f"build {number}" for number in range(count))


class OfTwoKinds(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        ctx.send_event(Part(number=1))
        ctx.send_event(Part(number=2))
        return None

    @step
    async def build(self, ev: Part) -> Built | Painted:
        return Built(number=ev.number) if ev.number == 1 else Painted(number=ev.number)

    @step
    async def assemble(self, ctx: Context, ev: Built | Painted) -> StopEvent | None:
        parts = ctx.collect_events(ev, [Built, Painted])
        return None if parts is None else StopEvent(result=[type(part).__name__ for part in parts])


async def test_events_of_several_classes_are_collected_in_the_order_asked_for(process: Process) -> None:
    await process.serve(OfTwoKinds)
    assert await process.result(OfTwoKinds) == ["Built", "Painted"]


class ByList(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(number=number) for number in range(ev.count)]

    @step(num_workers=3)
    async def build(self, ev: Part) -> Built | None:
        return None if ev.number % 4 == 3 else Built(number=ev.number)

    @step
    async def assemble(self, parts: list[Built]) -> StopEvent:
        return StopEvent(result=sorted(part.number for part in parts))


@pytest.mark.parametrize(("count", "built"), [(0, []), (1, [0]), (6, [0, 1, 2, 4, 5])])
async def test_a_returned_list_is_collected_when_all_of_it_is_done(
    process: Process, count: int, built: list[int]
) -> None:
    await process.serve(ByList)
    assert await process.result(ByList, count=count) == built


class Fastest(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(number=number) for number in range(4)]

    @step
    async def build(self, ev: Part) -> Built:
        if ev.number >= 2:
            await world.gate("slow parts").passed()
        return Built(number=ev.number)

    @step
    async def assemble(self, parts: Annotated[list[Built], Collect(Take(2))]) -> StopEvent:
        return StopEvent(result=sorted(part.number for part in parts))


async def test_take_does_not_wait_for_the_slow_ones(process: Process) -> None:
    await process.serve(Fastest)
    assert await process.result(Fastest) == [0, 1]


class Nested(Workflow):
    """A fan-out inside of a fan-out, each with its own fan-in."""

    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(number=number) for number in (1, 2, 3)]

    @step
    async def split_again(self, ev: Part) -> list[Built]:
        return [Built(number=ev.number)] * ev.number

    @step
    async def paint(self, ev: Built) -> Painted:
        return Painted(number=ev.number)

    @step
    async def sum_up(self, parts: list[Painted]) -> Priced:
        return Priced(total=sum(part.number for part in parts))

    @step
    async def finish(self, prices: list[Priced]) -> StopEvent:
        return StopEvent(result=sorted(price.total for price in prices))


async def test_lists_of_lists_are_collected_level_by_level(process: Process) -> None:
    await process.serve(Nested)
    assert await process.result(Nested) == [1, 4, 9]


class Both(Workflow):
    """A step with two event parameters runs when one of each is there."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Part:
        return Part(number=5)

    @step
    async def build(self, ev: Part) -> Built:
        return Built(number=ev.number)

    @step
    async def paint(self, ev: Part) -> Painted:
        return Painted(number=ev.number * 2)

    @step
    async def assemble(self, built: Built, painted: Painted) -> StopEvent:
        return StopEvent(result=[built.number, painted.number])


async def test_a_step_with_two_event_parameters_waits_for_both(process: Process) -> None:
    await process.serve(Both)
    assert await process.result(Both) == [5, 10]


class Targeted(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Part | None:
        ctx.send_event(Part(number=1), step="right")
        return None

    @step
    async def wrong(self, ev: Part) -> StopEvent:
        return StopEvent(result="wrong")

    @step
    async def right(self, ev: Part) -> StopEvent:
        return StopEvent(result="right")


async def test_an_event_may_be_sent_to_one_step(process: Process) -> None:
    await process.serve(Targeted)
    assert await process.result(Targeted) == "right"


class Shape(Event):
    pass


class Circle(Shape):
    radius: int


class TakesSubclasses(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Shape | None:
        ctx.send_event(Circle(radius=3))
        return None

    @step(accept_event_subclasses=True)
    async def measure(self, ev: Shape) -> StopEvent:
        assert isinstance(ev, Circle)
        return StopEvent(result=ev.radius)


async def test_a_step_may_accept_subclasses(process: Process) -> None:
    """The subclass stands in no signature, so it is declared beside them."""
    await process.serve((TakesSubclasses, [Circle]))
    assert await process.result(TakesSubclasses) == 3


class Loop(Workflow):
    @step
    async def again(self, ev: StartEvent | Part) -> Part | StopEvent:
        number = 0 if isinstance(ev, StartEvent) else ev.number
        return Part(number=number + 1) if number < 30 else StopEvent(result=number)


async def test_a_loop_of_many_steps(process: Process) -> None:
    await process.serve(Loop)
    handler = await process.run(Loop)
    assert outcome(handler) == 30
