"""Workflows with something to see: each shows one thing that the debugger has to."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, time
from enum import Enum
from typing import Literal

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Progress(Event):
    """For those who watch."""

    text: str


# --- fan: parts side by side -------------------------------------------------------------------------------


class FanStart(StartEvent):
    parts: int = Field(4, ge=1, le=200, description="How many there are.")
    delay: float = Field(0.3, ge=0, description="Seconds that each takes.")


class Part(Event):
    number: int
    delay: float


class PartDone(Event):
    number: int


class Fan(Workflow):
    """Does parts side by side, four at a time, and collects them."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def split(self, ev: FanStart) -> list[Part]:
        return [Part(number=number, delay=ev.delay) for number in range(ev.parts)]

    @step(num_workers=4)
    async def work(self, ctx: Context, ev: Part) -> PartDone:
        await asyncio.sleep(ev.delay)
        ctx.write_event_to_stream(Progress(text=f"part {ev.number}"))
        return PartDone(number=ev.number)

    @step
    async def collect(self, ev: list[PartDone]) -> StopEvent:
        return StopEvent(result=sorted(done.number for done in ev))


# --- desk: state, and a person who decides -----------------------------------------------------------------


class Draft(StartEvent):
    title: str = Field(min_length=1, description="What stands above it.")
    tags: list[str] = []


class Written(Event):
    title: str


class ApprovalRequired(InputRequiredEvent):
    prompt: str
    title: str
    words: int


class Decision(HumanResponseEvent):
    approve: bool
    note: str = Field("", max_length=20)


class Published(StopEvent):
    title: str
    approved: bool
    note: str


class Desk(BaseModel):
    title: str = ""
    tags: list[str] = []
    stage: str = "new"


class DeskWorkflow(Workflow):
    """Writes a text, asks whether it shall be published."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def write(self, ctx: Context[Desk], ev: Draft) -> Written:
        await ctx.store.set_state(Desk(title=ev.title, tags=ev.tags, stage="written"))
        return Written(title=ev.title)

    @step
    async def propose(self, ctx: Context[Desk], ev: Written) -> ApprovalRequired:
        async with ctx.store.edit_state() as desk:
            desk.stage = "proposed"
        return ApprovalRequired(prompt=f"Publish “{ev.title}”?", title=ev.title, words=3)

    @step
    async def decide(self, ctx: Context[Desk], ev: Decision) -> Published:
        async with ctx.store.edit_state() as desk:
            desk.stage = "decided"
        title = await ctx.store.get("title")
        return Published(title=title, approved=ev.approve, note=ev.note)


# --- small ones --------------------------------------------------------------------------------------------


class Ask(Workflow):
    """Asks for a name inside of a step."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question = InputRequiredEvent(prefix="What is your name?")
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question, timeout=None)
        return StopEvent(result=f"Hello, {answer.response}!")


def make_ask() -> Ask:
    return Ask(timeout=None)


class Notes(Workflow):
    """Keeps notes in a state without a class."""

    @step
    async def note(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("count", len(ev.words))
        await ctx.store.set("last", Progress(text=ev.words[-1]))
        return StopEvent(result="noted")


class Flaky(Workflow):
    """Fails twice, then works; or fails for good."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0.4), stop=stop_after_attempt(3)))
    async def attempt(self, ctx: Context, ev: StartEvent) -> StopEvent:
        number = await ctx.store.get("attempts", default=0) + 1
        await ctx.store.set("attempts", number)
        if ev.get("silent"):
            raise AssertionError
        if number < 3 or ev.get("hopeless"):
            raise RuntimeError(f"attempt {number} went wrong")
        return StopEvent(result=number)


class Sleep(Workflow):
    """Sleeps until it is cancelled."""

    @step
    async def sleep(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Progress(text="good night"))
        await asyncio.sleep(3600)
        return StopEvent()


def make_sleep() -> Sleep:
    return Sleep(timeout=None)


class ManyEvents(StartEvent):
    count: int = 10_000


class Talk(Workflow):
    """Says very much."""

    @step
    async def talk(self, ctx: Context, ev: ManyEvents) -> StopEvent:
        for number in range(ev.count):
            ctx.write_event_to_stream(Progress(text=f"word {number}"))
            if number % 200 == 0:
                await asyncio.sleep(0)
        return StopEvent(result=ev.count)


def make_talk() -> Talk:
    return Talk(timeout=None)


# --- order: every kind of field ----------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Address(BaseModel):
    street: str
    city: str = "Ghent"


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Transfer(BaseModel):
    kind: Literal["transfer"] = "transfer"
    iban: str


class Order(StartEvent):
    name: str = Field(min_length=2, max_length=40, description="Who orders.")
    amount: int = Field(1, ge=1, le=10)
    price: float | None = None
    gift: bool = False
    colour: Colour = Colour.RED
    day: date | None = None
    at: datetime | None = None
    hour: time | None = None
    notes: list[str] = []
    address: Address
    payment: Card | Transfer | None = None


class OrderWorkflow(Workflow):
    """Takes an order and gives it back."""

    @step
    async def take(self, ev: Order) -> StopEvent:
        if ev.name == "Nobody":
            raise ValueError("Nobody cannot order.")
        return StopEvent(result=ev.model_dump(mode="json"))


# --- party: an answer of more than plain fields --------------------------------------------------------------


class Invitation(StartEvent):
    name: str = "Tea"


class GuestsWanted(InputRequiredEvent):
    prompt: str
    place: str


class Guests(HumanResponseEvent):
    names: list[str] = []
    payment: Card | Transfer


class Party(Workflow):
    """Asks who comes, and how it is paid."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def invite(self, ctx: Context, ev: Invitation) -> GuestsWanted:
        await ctx.store.set("name", ev.name)
        return GuestsWanted(prompt=f"Who comes to {ev.name}?", place="the garden")

    @step
    async def welcome(self, ev: Guests) -> StopEvent:
        return StopEvent(result=ev.model_dump(mode="json"))


# --- survey: what somebody has to say -----------------------------------------------------------------------


class Asked(BaseModel):
    name: str
    adult: bool


class Survey(StartEvent):
    title: str
    open: bool
    public: bool = False
    answers: list[bool] = []
    who: Asked
    nick: str | None = None
    certain: bool | None = None
    words: dict[str, str] = {}


class SurveyWorkflow(Workflow):
    """Gives back what was said."""

    @step
    async def tell(self, ev: Survey) -> StopEvent:
        return StopEvent(result=ev.model_dump(mode="json"))
