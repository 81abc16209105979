"""Workflows whose steps leave traces outside of their process, and wait at gates that the tests open.

Each start event has a ``key`` by which a run's traces are found.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

TRACES = "traces"
# Seconds between the attempts of Flaky, and what Hasty may take.
RETRY_DELAY = 1.5
HASTY_TIMEOUT = 2.0


def trace(*parts: Any) -> None:
    """Append a line to the site's traces. The kernel has it when this returns, whatever kills the process."""
    line = " ".join(str(part) for part in parts) + "\n"
    file = os.open(_directory() / TRACES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


async def gate(*parts: Any) -> None:
    """Wait until the test opens a gate."""
    path = _directory() / _gate(*parts)
    while not path.exists():  # noqa: ASYNC110  it is opened by another process
        await asyncio.sleep(0.01)


def is_open(*parts: Any) -> bool:
    return (_directory() / _gate(*parts)).exists()


def _gate(*parts: Any) -> str:
    return "-".join(["gate", *(str(part) for part in parts)])


def _directory() -> Path:
    return Path(os.environ["SITE_DIRECTORY"])


class Progress(Event):
    text: str


# --- one step ----------------------------------------------------------------------------------------------


class Greet(Workflow):
    """Ends at once."""

    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        trace(ev.key, "greet")
        return StopEvent(result=f"Hello, {ev.key}!")


class Held(Workflow):
    """Waits in its step until the gate is open."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def hold(self, ctx: Context, ev: StartEvent) -> StopEvent:
        trace(ev.key, "begin")
        ctx.write_event_to_stream(Progress(text="holding"))
        await gate(ev.key)
        trace(ev.key, "end")
        return StopEvent(result=ev.key)


class Blocking(Workflow):
    """Blocks a thread, deaf to everything, until the gate is open."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    def block(self, ev: StartEvent) -> StopEvent:
        trace(ev.key, "begin")
        while not is_open(ev.key):
            time.sleep(0.05)
        return StopEvent(result=ev.key)


class Items(Workflow):
    """Does item after item and saves its progress."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        trace(ev.key, "begin")
        done = await ctx.store.get("done", default=[])
        for item in range(len(done), ev.count):
            await gate(ev.key, item)
            done = [*done, item]
            await ctx.store.set("done", done)
            trace(ev.key, "saved", item)
        return StopEvent(result=done)


# --- many steps --------------------------------------------------------------------------------------------


class Odd(Event):
    key: str
    number: int
    total: int


class Even(Event):
    key: str
    number: int
    total: int


class Last(Event):
    key: str
    total: int


class Pipeline(Workflow):
    """Goes from step to step, through asynchronous and synchronous ones, and talks on the stream."""

    @step
    async def begin(self, ev: StartEvent) -> Odd:
        trace(ev.key, 0)
        return Odd(key=ev.key, number=1, total=ev.total)

    @step
    async def odd(self, ctx: Context, ev: Odd) -> Even | Last:
        trace(ev.key, ev.number)
        for part in "abc":
            ctx.write_event_to_stream(Progress(text=f"{ev.number}{part}"))
            await asyncio.sleep(0.002)
        if ev.number == ev.total:
            return Last(key=ev.key, total=ev.total)
        return Even(key=ev.key, number=ev.number + 1, total=ev.total)

    @step
    def even(self, ev: Even) -> Odd | Last:
        trace(ev.key, ev.number)
        time.sleep(0.006)
        if ev.number == ev.total:
            return Last(key=ev.key, total=ev.total)
        return Odd(key=ev.key, number=ev.number + 1, total=ev.total)

    @step
    async def finish(self, ev: Last) -> StopEvent:
        trace(ev.key, ev.total + 1)
        return StopEvent(result=ev.total)


def make_pipeline() -> Pipeline:
    return Pipeline(timeout=None)


class Part(Event):
    key: str
    number: int
    total: int


class PartDone(Event):
    number: int
    total: int


class Fan(Workflow):
    """Does parts side by side, four at a time, and collects what they give."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Part | None:
        for number in range(ev.total):
            ctx.send_event(Part(key=ev.key, number=number, total=ev.total))
        return None

    @step(num_workers=4)
    async def part(self, ev: Part) -> PartDone:
        trace(ev.key, ev.number)
        await asyncio.sleep(0.02)
        return PartDone(number=ev.number, total=ev.total)

    @step
    async def collect(self, ctx: Context, ev: PartDone) -> StopEvent | None:
        found = ctx.collect_events(ev, [PartDone] * ev.total)
        return None if found is None else StopEvent(result=[done.number for done in found])


def make_fan() -> Fan:
    return Fan(timeout=None)


# --- from outside ------------------------------------------------------------------------------------------


class Question(InputRequiredEvent):
    text: str


class Answer(HumanResponseEvent):
    text: str


class Ask(Workflow):
    """Asks a person, for as long as its start event says, or for ever."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            answer = await ctx.wait_for_event(
                Answer, waiter_event=Question(text="Well?"), timeout=ev.get("timeout")
            )
        except TimeoutError:
            trace(ev.key, "gave-up", time.time())
            return StopEvent(result="nobody answered")
        trace(ev.key, "answered")
        return StopEvent(result=answer.text)


class Note(HumanResponseEvent):
    number: int
    total: int


class Collect(Workflow):
    """Collects notes from outside until it has all."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def begin(self, ev: StartEvent) -> Question:
        return Question(text="What do you have?")

    @step(num_workers=1)
    async def collect(self, ctx: Context, ev: Note) -> StopEvent | None:
        found = ctx.collect_events(ev, [Note] * ev.total)
        return None if found is None else StopEvent(result=[note.number for note in found])


class Letter(HumanResponseEvent):
    token: str
    last: bool = False


class Gather(Workflow):
    """Keeps every letter, one after the other, until the last."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def begin(self, ev: StartEvent) -> Question:
        return Question(text="What do you have?")

    @step(num_workers=1)
    async def take(self, ctx: Context, ev: Letter) -> StopEvent | None:
        tokens = await ctx.store.get("tokens", default=[])
        if ev.token not in tokens:
            # It may have been here before.
            tokens = [*tokens, ev.token]
            await ctx.store.set("tokens", tokens)
        return StopEvent(result=tokens) if ev.last else None


# --- a workflow in a workflow ------------------------------------------------------------------------------


class Parent(Workflow):
    """Lets another workflow do a part of its work."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.child = Greet()

    @step
    async def delegate(self, ev: StartEvent) -> Part:
        trace(ev.key, 0)
        await self.child.run(key=f"{ev.key}/child")
        return Part(key=ev.key, number=1, total=1)

    @step
    async def end(self, ev: Part) -> StopEvent:
        trace(ev.key, 1)
        return StopEvent(result=ev.key)


# --- time --------------------------------------------------------------------------------------------------


class Flaky(Workflow):
    """Fails until the gate is open, with a pause between its attempts."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step(retry_policy=retry_policy(wait=wait_fixed(RETRY_DELAY), stop=stop_after_attempt(5)))
    async def attempt(self, ev: StartEvent) -> StopEvent:
        trace(ev.key, "attempt", time.time())
        if not is_open(ev.key):
            raise RuntimeError("not yet")
        return StopEvent(result=ev.key)


class Hasty(Workflow):
    """Waits for ever and may not."""

    @step
    async def hold(self, ev: StartEvent) -> StopEvent:
        trace(ev.key, "begin")
        await gate("never")
        return StopEvent()


def make_hasty() -> Hasty:
    return Hasty(timeout=HASTY_TIMEOUT)


# --- much to read -------------------------------------------------------------------------------------------


class Loud(Workflow):
    """Streams so many events of so many characters, and waits to be told that it is enough."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> Question:
        for _ in range(ev.count):
            ctx.write_event_to_stream(Progress(text="x" * ev.size))
            await asyncio.sleep(0)
        return Question(text="Enough?")

    @step
    async def end(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)


# --- a bit of everything -----------------------------------------------------------------------------------


class Draft(Event):
    key: str
    text: str


class Checked(Event):
    key: str
    text: str


class Review(Workflow):
    """Writes, checks, asks and publishes: events, state, a synchronous step and a person."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> Draft:
        trace(ev.key, 1)
        ctx.write_event_to_stream(Progress(text="writing"))
        await ctx.store.set("words", await ctx.store.get("words", default=0) or 3)
        return Draft(key=ev.key, text="a draft")

    @step
    def check(self, ev: Draft) -> Checked:
        trace(ev.key, 2)
        return Checked(key=ev.key, text=ev.text)

    @step
    async def publish(self, ctx: Context, ev: Checked) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(text="Publish?"), timeout=None)
        trace(ev.key, 3)
        return StopEvent(result=[ev.text, await ctx.store.get("words"), answer.text])
