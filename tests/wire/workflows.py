"""Workflows that the reference and we serve side by side."""

from __future__ import annotations

import asyncio
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.resource import Resource

# Long enough for no test to meet it, and not None: the reference loses a waiting run without a timeout.
NEVER = 600.0


# --- a typed beginning and a typed end ------------------------------------------------------------


class GreetingStart(StartEvent):
    """Whom to greet."""

    name: str
    times: int = Field(default=1, ge=0, le=3)


class GreetingStop(StopEvent):
    greeting: str
    length: int


class Greeting(Workflow):
    """Says hello."""

    @step
    async def greet(self, ev: GreetingStart) -> GreetingStop:
        """Say it as often as wanted."""
        greeting = " ".join([f"Hello, {ev.name}!"] * ev.times)
        return GreetingStop(greeting=greeting, length=len(greeting))


# --- plain events ---------------------------------------------------------------------------------


class Echo(Workflow):
    """Returns the fields of its start event, and streams them."""

    @step
    async def echo(self, ctx: Context, ev: StartEvent) -> StopEvent:
        fields = dict(ev.items())
        ctx.write_event_to_stream(Event(**fields))
        return StopEvent(result=fields)


class Silent(Workflow):
    """Ends without a result."""

    @step
    async def end(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


class Measure(Workflow):
    """Says how long the text of its start event is."""

    @step
    async def measure(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=len(ev.get("text", "")))


# --- several steps --------------------------------------------------------------------------------


class Progress(Event):
    message: str
    percent: float


class Prepared(Event):
    count: int


class Half(Prepared):
    """A subclass: ``types`` names its parents."""


class Steps(Workflow):
    """Goes through three steps and says so on the stream."""

    @step
    async def prepare(self, ctx: Context, ev: StartEvent) -> Half:
        ctx.write_event_to_stream(Progress(message="prepared", percent=0.0))
        return Half(count=int(ev.get("count", 3)))

    @step
    async def work(self, ctx: Context, ev: Half) -> Prepared:
        for number in range(ev.count):
            ctx.write_event_to_stream(Progress(message=f"part {number}", percent=100 * number / ev.count))
        ctx.write_event_to_stream(Half(count=ev.count, note="half-way"))
        return Prepared(count=ev.count)

    @step
    async def finish(self, ev: Prepared) -> StopEvent:
        return StopEvent(result={"parts": ev.count})


# --- a person in the loop -------------------------------------------------------------------------


class Question(InputRequiredEvent):
    prefix: str


class Ask(Workflow):
    """Asks for a name; the answer is in a step's signature."""

    @step
    async def ask(self, ev: StartEvent) -> Question:
        return Question(prefix="What is your name?")

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=f"Hello, {ev.get('response', 'nobody')}!")


class Approval(HumanResponseEvent):
    approved: bool
    by: str = "somebody"


class Approve(Workflow):
    """Waits for an approval; that and the question are declared by additional_events alone."""

    @step
    async def decide(self, ctx: Context, ev: StartEvent) -> StopEvent:
        approval = await ctx.wait_for_event(
            Approval, waiter_event=Question(prefix="May I?"), timeout=NEVER, waiter_id="approval"
        )
        return StopEvent(result={"approved": approval.approved, "by": approval.by})


class Tick(HumanResponseEvent):
    text: str


class Enough(HumanResponseEvent):
    pass


class Chat(Workflow):
    """Streams what it is sent, for as long as it is sent something."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> None:
        ctx.write_event_to_stream(Progress(message="listening", percent=0.0))

    @step(num_workers=1)
    async def repeat(self, ctx: Context, ev: Tick) -> None:
        ctx.write_event_to_stream(Progress(message=ev.text, percent=50.0))

    @step
    async def end(self, ev: Enough) -> StopEvent:
        return StopEvent(result="enough")


# --- ends that are none ---------------------------------------------------------------------------


class Failing(Workflow):
    """Fails in its second step."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Prepared:
        ctx.write_event_to_stream(Progress(message="so far so good", percent=50.0))
        return Prepared(count=1)

    @step
    async def fail(self, ev: Prepared) -> StopEvent:
        raise ValueError("this was bound to fail")


class Sleeping(Workflow):
    """Is busy for some seconds."""

    @step
    async def sleep(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Progress(message="asleep", percent=0.0))
        seconds = float(ev.get("seconds", NEVER))
        await asyncio.sleep(seconds)
        return StopEvent(result=seconds)


# --- state ----------------------------------------------------------------------------------------


class Counter(Workflow):
    """Counts the runs of its handler."""

    @step
    async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
        count = await ctx.store.get("count", default=0) + int(ev.get("by", 1))
        await ctx.store.set("count", count)
        return StopEvent(result=count)


class Tally(BaseModel):
    names: list[str] = []


class TypedState(Workflow):
    """Collects names in a state of its own type."""

    @step
    async def collect(self, ctx: Context[Tally], ev: StartEvent) -> StopEvent:
        async with ctx.store.edit_state() as state:
            state.names.append(ev.get("name", "nobody"))
        return StopEvent(result=(await ctx.store.get_state()).names)


# --- models inside events -------------------------------------------------------------------------


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    title: str
    price: float = 1.5
    colours: list[Colour] = []


class OrderStart(StartEvent):
    lines: list[Item]
    placed_at: datetime
    notes: dict[str, Any] = {}
    gift: Item | None = None


class OrderItem(Event):
    item: Item
    position: int


class OrderStop(StopEvent):
    first: Item | None
    total: float
    placed_at: datetime
    notes: dict[str, Any]


class Prices:
    """Something that a step needs and that is made for it."""

    factor = 2.0


def get_prices() -> Prices:
    """Make the price list."""
    return Prices()


class Order(Workflow):
    """Adds an order up, with nested models in all its events and with a resource."""

    @step
    async def order(
        self, ctx: Context, ev: OrderStart, prices: Annotated[Prices, Resource(get_prices)]
    ) -> OrderStop:
        for position, item in enumerate(ev.lines):
            ctx.write_event_to_stream(OrderItem(item=item, position=position))
        return OrderStop(
            first=ev.lines[0] if ev.lines else None,
            total=prices.factor * sum(item.price for item in ev.lines),
            placed_at=ev.placed_at,
            notes=ev.notes,
        )


# --- text -----------------------------------------------------------------------------------------

# What a transport might break: line separators in a line protocol, combining and astral characters, controls.
TEXTS = {
    "umlauts": "Grüße, Ærøskøbing",
    "line separators": "one\u2028two\u2029three\u0085four",
    "line feeds": "one\ntwo\r\nthree\rfour\vfive\ffive",
    "astral": "\U0001d518\U0001d52b\U0001d526 👩‍👩‍👧 🇩🇪",
    "right to left": "שלום \u202eabc",
    "sse in disguise": "x\n\ndata: {}\n\nid: 7\n: heartbeat",
    "json in disguise": '"}\\u0000\\\\ {"type": "StopEvent"}',
    "markup": "<script>alert(1)</script> &amp;",
    "controls": "\x01\x1b[31m\x7f",
}


class Texts(Workflow):
    """Streams and returns texts that are hard to transport."""

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for name, text in TEXTS.items():
            ctx.write_event_to_stream(Progress(message=text, percent=0.0, **{name: text}))
        return StopEvent(result=TEXTS)


# What is served: name -> how to make it, and its additional events. Some of the names serve a class twice, so that
# a scenario has a workflow of its own.
SERVED: dict[str, tuple[type[Workflow], float, list[type[Event]]]] = {
    "greeting": (Greeting, NEVER, []),
    "echo": (Echo, NEVER, []),
    "silent": (Silent, NEVER, []),
    "measure": (Measure, NEVER, []),
    "steps": (Steps, NEVER, []),
    "ask": (Ask, NEVER, []),
    "approve": (Approve, NEVER, [Approval, Question]),
    "undeclared": (Approve, NEVER, [Approval]),
    "chat": (Chat, NEVER, []),
    "failing": (Failing, NEVER, []),
    "timing-out": (Sleeping, 0.2, []),
    "sleeping": (Sleeping, NEVER, []),
    "counter": (Counter, NEVER, []),
    "typed-state": (TypedState, NEVER, []),
    "order": (Order, NEVER, []),
    "texts": (Texts, NEVER, []),
    "listed-greeting": (Greeting, NEVER, []),
    "listed-ask": (Ask, NEVER, []),
    "listed-failing": (Failing, NEVER, []),
    "never-run": (Greeting, NEVER, []),
}


def make(name: str) -> Workflow:
    """Return a new instance of what is served under a name."""
    workflow, timeout, _ = SERVED[name]
    return workflow(timeout=timeout)
