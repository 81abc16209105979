"""The workflows that every contender serves."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

# So long that no run ends because of it. With None, the reference loses runs that wait.
TIMEOUT = 3600.0


class Stamped(Event):
    """For readers: when it was written, in seconds since the epoch. All processes share the machine's clock."""

    at: float


class One(Workflow):
    """One step, which does nothing."""

    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


class Count(StartEvent):
    steps: int


class Next(Event):
    left: int


class Steps(Workflow):
    """As many steps as asked for, one after the other, each with an event for readers."""

    @step
    async def begin(self, ctx: Context, ev: Count) -> Next | StopEvent:
        return self._go_on(ctx, ev.steps)

    @step
    async def go_on(self, ctx: Context, ev: Next) -> Next | StopEvent:
        return self._go_on(ctx, ev.left)

    def _go_on(self, ctx: Context, left: int) -> Next | StopEvent:
        ctx.write_event_to_stream(Stamped(at=time.time()))
        return Next(left=left - 1) if left > 1 else StopEvent(result="done")


class Pace(StartEvent):
    at: float
    events: int
    rate: float


class Paced(Workflow):
    """Writes events for readers at an even pace, from a moment on at which its readers are there."""

    @step
    async def write(self, ctx: Context, ev: Pace) -> StopEvent:
        for number in range(ev.events):
            await asyncio.sleep(ev.at + number / ev.rate - time.time())
            ctx.write_event_to_stream(Stamped(at=time.time()))
        return StopEvent(result="done")


class Journal(StartEvent):
    steps: int = 0


class Waiting(Event):
    pass


class Wait(Workflow):
    """As many steps as asked for, and then a person is asked again and again."""

    @step
    async def begin(self, ev: Journal) -> Next | Waiting:
        return Next(left=ev.steps) if ev.steps else Waiting()

    @step
    async def go_on(self, ev: Next) -> Next | Waiting:
        return Next(left=ev.left - 1) if ev.left > 1 else Waiting()

    @step
    async def ask(self, ev: Waiting) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def answer(self, ctx: Context, ev: HumanResponseEvent) -> Waiting | StopEvent:
        ctx.write_event_to_stream(Stamped(at=time.time()))
        return StopEvent(result="done") if ev.get("last", False) else Waiting()


class Hold(StartEvent):
    key: str


class Held(Event):
    key: str


class Released(Event):
    key: str


class Holding(Workflow):
    """Some steps, one that holds until a file is there, and one more, which is the progress after it.

    Says in files where it is, so that nothing need be asked of a server that has just started.
    """

    @step
    async def begin(self, ctx: Context, ev: Hold) -> Held:
        await ctx.store.set("key", ev.key)
        return Held(key=ev.key)

    @step
    async def hold(self, ev: Held) -> Released:
        if not (directory() / "go").exists():
            _say("holding", ev.key)
            await asyncio.sleep(TIMEOUT)
        return Released(key=ev.key)

    @step
    async def progress(self, ev: Released) -> StopEvent:
        _say("progress", ev.key)
        return StopEvent(result="done")


def directory() -> Path:
    """Where :class:`Holding` writes and looks."""
    return Path(os.environ["BENCHMARK_DIRECTORY"])


def _say(file: str, key: str) -> None:
    with (directory() / file).open("a") as lines:
        lines.write(f"{key} {time.time()}\n")


# Name in the URL -> class.
SERVED: dict[str, type[Workflow]] = {
    "one": One,
    "steps": Steps,
    "paced": Paced,
    "wait": Wait,
    "holding": Holding,
}


def make(name: str) -> Workflow:
    return SERVED[name](timeout=TIMEOUT)


def make_one() -> Workflow:
    return make("one")


def make_steps() -> Workflow:
    return make("steps")


def make_paced() -> Workflow:
    return make("paced")


def make_wait() -> Workflow:
    return make("wait")


def make_holding() -> Workflow:
    return make("holding")
