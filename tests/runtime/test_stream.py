"""What readers of a run see: everything, in order, from any position, and an end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from django.utils import timezone
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from django_workflows import eventlog, leases, notify, service, stream, watch
from django_workflows.eventlog import EventEntry
from django_workflows.exceptions import HandlerNotFound
from django_workflows.models import Handler
from django_workflows.runtime import supervisor
from django_workflows.runtime.writer import Writer
from django_workflows.runtime.writes import Changes
from tests.storage import end

from .process import Process, Seen, outcome, until, within
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


class Steps(Workflow):
    """Each step writes an event, and hands on."""

    @step
    async def step(self, ctx: Context, ev: StartEvent | Progress) -> Progress | StopEvent:
        number = ev.number if isinstance(ev, Progress) else 0
        ctx.write_event_to_stream(Progress(number=number))
        return Progress(number=number + 1) if number < 5 else StopEvent(result=number)


async def test_what_a_step_writes_is_stored_with_its_end(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When that comes at once: one write for both."""
    written: list[Changes] = []
    submit = Writer.submit

    def noted(writer: Writer, request: Any) -> Any:
        if isinstance(request, Changes):
            written.append(request)
        return submit(writer, request)

    monkeypatch.setattr(Writer, "submit", noted)
    await process.serve(Steps)

    assert await process.result(Steps) == 5

    # That of the first step may go with what follows the run's first write.
    spoken = [
        changes
        for changes in written
        if any(event.type == "Progress" and '"number":0' not in event.data for event in changes.events)
    ]
    assert len(spoken) == 5
    assert all(changes.ticks for changes in spoken)


async def test_what_is_committed_while_a_reader_looks_is_not_lost(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole run, its end as well, between a look that finds nothing and its answer."""
    await process.serve(Chatty)
    entries = [EventEntry(number, False, "{}", "Progress", timezone.now()) for number in range(3)]
    looks = []

    def look(handler: int, run: int, after: int, limit: int) -> tuple[bool, list[EventEntry]]:
        looks.append(after)
        notify.committed(handler, run, entries, ended=True)
        return False, []

    monkeypatch.setattr(stream, "_page", look)

    async with within("the reader did not end"):
        seen = [event async for batch in stream.subscribe(1, 1, -1, heartbeat=None) for event in batch or ()]

    assert seen == entries
    assert looks == [-1]


async def test_a_reader_begins_at_any_position(process: Process) -> None:
    await process.serve(Chatty)
    handler = await process.run(Chatty, count=5, pauses=False)
    whole = await process.log(handler)
    for after in range(-1, len(whole)):
        found: list[Seen] = []
        async for entries in stream.subscribe(handler.pk, handler.run, after):
            found += map(Seen.of, entries or ())
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
        found += map(Seen.of, entries or ())
        if len(found) < 10:
            await process.finish(handler)
    assert [seen.sequence for seen in found] == list(range(len(found)))
    assert [seen.value["number"] for seen in found if seen.type == "Progress"] == list(range(3000))


async def unexecuted(process: Process, **options: Any) -> Handler:
    """Return a run that no process executes."""
    await process.serve(Chatty, start=False, **options)
    start_event = {"count": 1, "pauses": False}
    return await process.in_thread(partial(service.start, "Chatty", start_event))


async def test_a_reader_that_gets_no_hint_looks_by_itself(process: Process) -> None:
    """As in a process that executes nothing, when the other's hint is lost."""
    handler = await unexecuted(process, POLL_INTERVAL=0.05)
    batches = stream.subscribe(handler.pk, handler.run, -1)
    reading = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0.1)
    entry = EventEntry(0, False, "{}", "Progress", timezone.now())
    await process.in_thread(eventlog.append, [(leases.of(handler), entry)])
    async with within("the event was never seen"):
        found = await reading
    assert found is not None
    assert [event.type for event in found] == ["Progress"]
    # No run has written that.
    await process.in_thread(handler.delete)


async def test_who_waits_for_an_end_elsewhere_reads_at_the_end(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = await unexecuted(process, POLL_INTERVAL=0.05)
    deleted = await process.in_thread(partial(service.start, "Chatty", {"count": 1, "pauses": False}))
    reads: list[int] = []
    looks: list[set[int]] = []
    by_key, reached = service._by_key, eventlog.reached

    def counted_read(key: int) -> Handler:
        reads.append(key)
        return by_key(key)

    def counted_look(keys: set[int]) -> Any:
        looks.append(set(keys))
        return reached(keys)

    monkeypatch.setattr(service, "_by_key", counted_read)
    monkeypatch.setattr(eventlog, "reached", counted_look)
    waiting = asyncio.ensure_future(service.wait(handler))
    in_vain = asyncio.ensure_future(service.wait(deleted))
    await until(lambda: looks[-3:] == [{handler.pk, deleted.pk}] * 3, "they do not look together")
    entry = EventEntry(0, False, "{}", "Progress", timezone.now())
    await process.in_thread(eventlog.append, [(leases.of(handler), entry)])
    count = len(looks)
    await until(lambda: len(looks) > count + 3, "they have stopped to look")
    assert sorted(reads) == sorted([handler.pk, deleted.pk])

    await process.in_thread(end, handler)
    async with within("the end was never seen"):
        assert (await waiting).has_ended
    await process.in_thread(deleted.delete)
    async with within("the deletion was never seen"):
        with pytest.raises(HandlerNotFound):
            await in_vain
    # No run has written that.
    await process.in_thread(handler.delete)


async def test_readers_look_together_and_read_when_there_is_more(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand readers of runs that wait would otherwise keep the database busy."""
    handlers = [await unexecuted(process, POLL_INTERVAL=0.05)]
    start_event = {"count": 1, "pauses": False}
    for _ in range(4):
        handlers.append(await process.in_thread(partial(service.start, "Chatty", start_event)))
    reads: list[int] = []
    looks: list[set[int]] = []
    page, reached = stream._page, eventlog.reached

    def counted_page(handler: int, *args: Any) -> Any:
        reads.append(handler)
        return page(handler, *args)

    def counted_look(keys: set[int]) -> Any:
        looks.append(set(keys))
        return reached(keys)

    monkeypatch.setattr(stream, "_page", counted_page)
    monkeypatch.setattr(eventlog, "reached", counted_look)
    all_of_them = {handler.pk for handler in handlers}
    streams = [stream.subscribe(handler.pk, handler.run, -1) for handler in handlers for _ in range(2)]
    reading = [asyncio.ensure_future(anext(batches)) for batches in streams]
    await until(lambda: len(looks) >= 5 and looks[-1] == all_of_them, "they do not look")
    assert sorted(reads) == sorted([*all_of_them, *all_of_them])

    reads.clear()
    entry = EventEntry(0, False, "{}", "Progress", timezone.now())
    await process.in_thread(eventlog.append, [(leases.of(handlers[1]), entry)])
    async with within("the event was never seen"):
        await asyncio.gather(reading[2], reading[3])
    assert set(reads) == {handlers[1].pk}
    # One ends, one is deleted.
    await process.in_thread(end, handlers[2])
    await process.in_thread(handlers[3].delete)
    for gone in reading[4:8]:
        async with within("the end was never seen"):
            with pytest.raises(StopAsyncIteration):
                await gone
    for waiting in (*reading[:2], *reading[8:]):
        waiting.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    for batches in streams:
        await batches.aclose()
    assert not watch._watches[asyncio.get_running_loop()]._readers
    # No run has written what they have.
    for handler in handlers:
        await process.in_thread(Handler.objects.filter(pk=handler.pk).delete)


async def test_a_silent_stream_beats(process: Process) -> None:
    handler = await unexecuted(process)
    batches = stream.subscribe(handler.pk, handler.run, -1, heartbeat=0.05)
    async with within("it never beat"):
        assert [await anext(batches) for _ in range(2)] == [None, None]


class Silent(Workflow):
    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        await world.gate("silence").passed()
        return StopEvent()


async def test_a_silent_stream_ends_when_the_process_does(process: Process) -> None:
    """Though nothing would wake it otherwise, and the run goes on elsewhere."""
    await process.serve(Silent)
    handler = await process.start(Silent)

    async def read() -> None:
        async for _ in stream.subscribe(handler.pk, handler.run, -1):
            pass

    reading = asyncio.ensure_future(read())
    await until(lambda: world.gate("silence").reached, "the step never began")
    current = supervisor.current()
    assert current is not None
    current.drain()
    async with within("the stream never ended"):
        await reading
        await read()
    assert (await process.stored(handler)).status == Handler.Status.RUNNING
    world.gate("silence").open()
    await process.stop()
    await process.restart()
    await process.finish(handler)
