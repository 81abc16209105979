"""Workflows whose runs the tests of permissions and limits deal with."""

from __future__ import annotations

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Echo(Workflow):
    """Returns the fields of its start event, and streams them."""

    @step
    async def echo(self, ctx: Context, ev: StartEvent) -> StopEvent:
        fields = dict(ev.items())
        ctx.write_event_to_stream(Event(**fields))
        return StopEvent(result=fields)


class Ask(Workflow):
    """Asks, and waits for as many answers as it is told to."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        await ctx.store.set("left", int(ev.get("answers", 1)))
        return InputRequiredEvent(prefix="Who are you?")

    @step
    async def answer(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent | None:
        left = await ctx.store.get("left") - 1
        await ctx.store.set("left", left)
        return StopEvent(result=ev.get("response", "")) if left <= 0 else None


class Order(StartEvent):
    name: str
    number: int = 1


class Receipt(StopEvent):
    total: float


class Shop(Workflow):
    """Has a start and a stop event of its own."""

    @step
    async def sell(self, ev: Order) -> Receipt:
        return Receipt(total=ev.number * 1.5)


def echo() -> Workflow:
    return Echo(timeout=None)


def ask() -> Workflow:
    return Ask(timeout=None)


def shop() -> Workflow:
    return Shop(timeout=None)
