"""Workflows of the site whose admin is tested in a browser."""

import asyncio
from datetime import date, datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Paper(StrEnum):
    A4 = "A4"
    LETTER = "Letter"


class Address(BaseModel):
    street: str
    city: str


class Order(StartEvent):
    """One field of each kind."""

    title: str = Field(min_length=2, max_length=40, description="What it is called.")
    copies: int = Field(1, ge=1, le=99, description="How many.")
    weight: float = Field(0.5, gt=0)
    urgent: bool = False
    signed: bool
    paper: Paper = Paper.A4
    colour: Literal["black", "blue"] | None = None
    on: date | None = None
    at: datetime | None = None
    note: str | None = "none"
    tags: list[str] = []
    address: Address | None = None

    @field_validator("title")
    @classmethod
    def begin_with_a_capital(cls, value: str) -> str:
        if value[:1].islower():
            raise ValueError("a title begins with a capital letter")
        return value


class Draft(Event):
    text: str


class Approval(InputRequiredEvent):
    """Asks whether it shall be printed."""

    prompt: str
    draft: str


class Decision(HumanResponseEvent):
    approve: bool = Field(description="Whether it is printed.")
    note: str = Field("", description="For those who wrote it.")


class Remark(HumanResponseEvent):
    """Something else that can be said from outside."""

    text: str


class Printed(StopEvent):
    printed: bool
    note: str


class PrintWorkflow(Workflow):
    """Writes a draft, asks an editor, and prints, or writes another draft."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def write(self, ctx: Context, ev: Order | Remark) -> Draft:
        if isinstance(ev, Order):
            await ctx.store.set("order", ev.model_dump(mode="json"))
        await asyncio.sleep(0.05)
        return Draft(text=ev.title if isinstance(ev, Order) else ev.text)

    @step
    async def ask(self, ctx: Context, ev: Draft) -> Approval:
        await asyncio.sleep(0.02)
        return Approval(prompt=f"Shall “{ev.text}” be printed?", draft=ev.text)

    @step
    async def decide(self, ctx: Context, ev: Decision) -> Printed:
        return Printed(printed=ev.approve, note=ev.note)


class Fragile(StartEvent):
    reason: str = "the oven is cold"


class FailingWorkflow(Workflow):
    """Tries three times and gives up."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0.2), stop=stop_after_attempt(3)))
    async def bake(self, ev: Fragile) -> StopEvent:
        await asyncio.sleep(0.05)
        raise RuntimeError(ev.reason)


class SleepingWorkflow(Workflow):
    """Works for an hour, or until it is cancelled."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(3600)
        return StopEvent()


class Opaque:
    """Of which pydantic knows nothing."""


class OpaqueStart(StartEvent):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    thing: Opaque | None = None


class OpaqueWorkflow(Workflow):
    """Starts with what no JSON schema describes."""

    @step
    async def work(self, ev: OpaqueStart) -> StopEvent:
        return StopEvent()
