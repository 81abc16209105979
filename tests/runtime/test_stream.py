"""What readers of a run see: everything, in order, from any position, and an end."""

from __future__ import annotations

import asyncio

import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from django_workflows import stream
from django_workflows.models import Handler

from .process import Process, Seen, outcome, until
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Progress(Event):
    number: int


class Chatty(Workflow):
    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(ev.count):
            ctx.write_event_to_stream(Progress(number=number))
            if ev.pauses:
                await asyncio.sleep(0)
        return StopEvent(result="said it all")


@pytest.mark.parametrize("pauses", [False, True])
async def test_events_come_in_order_and_complete(process: Process, pauses: bool) -> None:
    await process.serve(Chatty)
    handler = await process.start(Chatty, count=700, pauses=pauses)
    readers = [asyncio.ensure_future(process.log(handler)) for _ in range(3)]
    logs = await asyncio.gather(*readers)
    later = await process.log(handler)
    for log in (*logs, later):
        assert log == later
    assert [seen.value["number"] for seen in later if seen.type == "Progress"] == list(range(700))
    assert later[-1].type == "StopEvent"


async def test_more_events_than_are_kept_behind_the_writer(process: Process) -> None:
    await process.serve(Chatty)
    handler = await process.run(Chatty, count=5000, pauses=False)
    assert outcome(handler) == "said it all"
    log = await process.log(handler)
    assert [seen.value["number"] for seen in log if seen.type == "Progress"] == list(range(5000))


async def test_a_reader_begins_at_any_position(process: Process) -> None:
    await process.serve(Chatty)
    handler = await process.run(Chatty, count=5, pauses=False)
    whole = await process.log(handler)
    for after in range(-1, len(whole)):
        found: list[Seen] = []
        async for entries in stream.subscribe(handler.pk, handler.run, after):
            found += map(Seen.of, entries)
        assert found == whole[after + 1 :]


async def test_what_a_step_does_is_in_the_log(process: Process) -> None:
    await process.serve(Chatty)
    log = await process.log(await process.run(Chatty, count=1, pauses=False))
    assert [(seen.type, seen.internal) for seen in log] == [
        ("StepStateChanged", True),
        ("Progress", False),
        ("StepStateChanged", True),
        ("StopEvent", False),
    ]
    assert [seen.value["step_state"] for seen in log if seen.internal] == ["running", "not_running"]


class SaysStop(Workflow):
    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> Progress:
        ctx.write_event_to_stream(StopEvent(result="not the end"))
        await ctx.store.set("said", True)
        await world.gate("said").passed()
        return Progress(number=1)

    @step
    async def end(self, ev: Progress) -> StopEvent:
        return StopEvent(result="the end")


async def test_a_stop_event_that_a_step_writes_to_the_stream_ends_nothing(process: Process) -> None:
    await process.serve(SaysStop)
    handler = await process.start(SaysStop)
    await process.seen(handler, "StopEvent")
    assert (await process.stored(handler)).status == Handler.Status.RUNNING
    world.gate("said").open()
    assert outcome(await process.finish(handler)) == "the end"
    log = await process.public_log(handler)
    assert [seen.value["result"] for seen in log] == ["not the end", "the end"]


class Nobody(Event):
    pass


class Unhandled(Workflow):
    @step
    async def send(self, ctx: Context, ev: StartEvent) -> Progress:
        ctx.send_event(Nobody())
        return Progress(number=1)

    @step
    async def end(self, ev: Progress) -> StopEvent:
        return StopEvent(result="unharmed")


async def test_an_event_that_no_step_takes_is_reported(process: Process) -> None:
    await process.serve((Unhandled, [Nobody]))
    handler = await process.run(Unhandled)
    assert outcome(handler) == "unharmed"
    reported = await process.seen(handler, "UnhandledEvent")
    assert reported.internal
    assert reported.value["event_type"] == "Nobody"


class Stop(Event):
    pass


class Noisy(Workflow):
    """One step ends the run while another still talks."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Progress | Stop:
        ctx.send_event(Progress(number=0))
        return Stop()

    @step
    async def talk(self, ctx: Context, ev: Progress) -> None:
        try:
            while True:
                ctx.write_event_to_stream(Progress(number=1))
                world.gate("talking").open()
                await asyncio.sleep(0)
        finally:
            ctx.write_event_to_stream(Progress(number=2))

    @step
    async def end(self, ev: Stop) -> StopEvent:
        await world.gate("talking").passed()
        return StopEvent(result="enough")


async def test_nothing_follows_the_end(process: Process) -> None:
    await process.serve(Noisy)
    handler = await process.run(Noisy)
    assert outcome(handler) == "enough"
    assert (await process.log(handler))[-1].type == "StopEvent"
    await until(lambda: not _talking(), "the step was never interrupted")
    assert (await process.log(handler))[-1].type == "StopEvent"


def _talking() -> bool:
    return any("talk" in (task.get_coro().__qualname__ or "") for task in asyncio.all_tasks())


async def test_a_slow_reader_misses_nothing(process: Process) -> None:
    """More is committed while it does not read than anybody keeps for it."""
    await process.serve(Chatty)
    handler = await process.start(Chatty, count=3000, pauses=True)
    found: list[Seen] = []
    async for entries in stream.subscribe(handler.pk, handler.run, -1):
        found += map(Seen.of, entries)
        if len(found) < 10:
            await process.finish(handler)
    assert [seen.sequence for seen in found] == list(range(len(found)))
    assert [seen.value["number"] for seen in found if seen.type == "Progress"] == list(range(3000))
