"""A process that serves workflows, inside of the test: it can be started, stopped, and killed.

:meth:`Process.crash` leaves behind what SIGKILL would: a worker's row with runs, a lock file that nobody holds,
whatever was committed, and nothing else. Real processes are killed by the acceptance tests; here each
point at which a process may die is cheap enough to be tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from workflows import Workflow

from django_workflows import (
    conf,
    contexts,
    database,
    eventlog,
    handlers,
    journal,
    leases,
    notify,
    registry,
    serialization,
    service,
    stream,
)
from django_workflows.models import Event, Handler, Message, Tick
from django_workflows.runtime import replay, snapshot, supervisor
from django_workflows.runtime.supervisor import Supervisor
from django_workflows.runtime.writes import Changes

from .world import DEADLINE

T = TypeVar("T")

TERMINAL = {
    Handler.Status.COMPLETED: lambda seen: seen.is_stop,
    Handler.Status.FAILED: lambda seen: seen.type in ("WorkflowFailedEvent", "WorkflowTimedOutEvent"),
    Handler.Status.CANCELLED: lambda seen: seen.type == "WorkflowCancelledEvent",
}


@dataclass(frozen=True)
class Seen:
    """An event as a reader gets it."""

    sequence: int
    type: str
    internal: bool
    value: dict[str, Any] = field(hash=False)
    types: tuple[str, ...] = ()

    @property
    def is_stop(self) -> bool:
        return self.type == "StopEvent" or "StopEvent" in self.types

    @classmethod
    def of(cls, entry: eventlog.EventEntry) -> Seen:
        envelope = json.loads(entry.data)
        assert envelope["type"] == entry.type
        value = {**envelope["value"], **envelope["value"].get("_data", {})}
        return cls(entry.sequence, entry.type, entry.internal, value, tuple(envelope["types"] or ()))


class Process:
    """Serves workflows in the test's event loop.

    Args:
        settings: the fixture, through which workflows are configured as a site configures them.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._threads = database.ManagedExecutor(4)

    # --- life -------------------------------------------------------------------------------------------

    async def serve(self, *sources: Any, under: str = "", start: bool = True, **options: Any) -> None:
        """Configure workflows and start.

        Args:
            sources: workflow classes or factories of a test module, served under their own names; a pair of one
                and a list of event classes gives it additional events.
            under: another name for the one workflow that is served.
            start: False to configure only.
            options: further keys of DJANGO_WORKFLOWS.
        """
        entries: dict[str, Any] = {}
        for source in sources:
            source, events = source if isinstance(source, tuple) else (source, ())
            entries[under or source.__name__] = {
                "workflow": _path(source),
                "additional_events": [_path(event) for event in events],
            }
        self._settings.DJANGO_WORKFLOWS = {"WORKFLOWS": entries, **options}
        assert registry.problems() == []
        if start:
            await supervisor.start()

    async def restart(self) -> None:
        """Start (again), on what the database holds."""
        # Another process would build its own instances.
        registry.forget()
        await supervisor.start()

    async def stop(self) -> None:
        await supervisor.stop()

    async def crash(self, *, and_join_threads: bool = False) -> None:
        """Die at once: nothing more is written, nothing is let go.

        Args:
            and_join_threads: wait for sync steps. Threads cannot be killed; what one does from here on is done by
                nobody.
        """
        dying = supervisor.current()
        assert dying is not None
        supervisor._current = None
        await kill(dying)
        if and_join_threads:
            await asyncio.to_thread(dying._steps.shutdown)

    async def close(self) -> None:
        await supervisor.stop()
        self._threads.shutdown()
        # The async ORM's thread keeps its connection; the test database cannot be dropped while it is open.
        await sync_to_async(connections.close_all)()
        database.read.close()

    def die_at_commit(self, number: int) -> asyncio.Event:
        """Arrange that from now on only ``number`` transactions of runs are committed.

        The next one hangs for ever, as it would for somebody who is dead by then. Returns the event that is set
        when that happens; call :meth:`crash` after it.
        """
        current = supervisor.current()
        assert current is not None
        writer, submit = current._writer, current._writer.submit
        dead = asyncio.Event()
        left = number

        def count(request: Any) -> asyncio.Future[Any]:
            nonlocal left
            if isinstance(request, Changes):
                if left == 0:
                    dead.set()
                    return asyncio.get_running_loop().create_future()
                left -= 1
            return submit(request)

        writer.submit = count
        return dead

    # --- what a client does -----------------------------------------------------------------------------

    async def start(self, workflow: type[Workflow] | Callable[[], Workflow], /, **fields: Any) -> Handler:
        return await service.astart(workflow.__name__, fields)

    async def finish(self, handler: Handler) -> Handler:
        """Wait for the end of a run."""
        async with within(f"{handler.workflow_name} never ended"):
            return await service.wait(handler)

    async def run(self, workflow: type[Workflow] | Callable[[], Workflow], /, **fields: Any) -> Handler:
        """Start a run and wait for its end."""
        return await self.finish(await self.start(workflow, **fields))

    async def result(self, workflow: type[Workflow] | Callable[[], Workflow], /, **fields: Any) -> Any:
        """Run a workflow that completes and return its result."""
        return outcome(await self.run(workflow, **fields))

    async def send(self, handler: Handler, type: str, step: str | None = None, **fields: Any) -> None:
        await service.asend_event(handler.handler_id, {"type": type, "value": fields}, step=step)

    async def send_from_elsewhere(self, handler: Handler, type: str, **fields: Any) -> None:
        """Send an event as another process would, without this one's writer."""
        await self.in_thread(service.send_event, handler.handler_id, {"type": type, "value": fields})

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Call synchronous Django code as a request's thread would, in another process or in this one."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def log(self, handler: Handler) -> list[Seen]:
        """Read a run's whole stream, to its end."""
        found: list[Seen] = []
        async with within("the stream never ended", lambda: [seen.type for seen in found]):
            while not (found and any(ends(found[-1]) for ends in TERMINAL.values())):
                # As a client does when a process ends: again, from where it was.
                await asyncio.sleep(0.01)
                async for entries in stream.subscribe(handler.pk, handler.run, len(found) - 1):
                    found += map(Seen.of, entries or ())
                if not await self.query(Handler.objects.filter(pk=handler.pk).exists):
                    break
        assert [seen.sequence for seen in found] == list(range(len(found)))
        return found

    async def public_log(self, handler: Handler) -> list[Seen]:
        return [seen for seen in await self.log(handler) if not seen.internal]

    async def seen(self, handler: Handler, type: str, times: int = 1) -> Seen:
        """Wait until a run has written an event of that type (for the n-th time) and return it."""
        found: list[Seen] = []
        async with within(f"{type} was never written", lambda: [seen.type for seen in found]):
            async for entries in stream.subscribe(handler.pk, handler.run, -1):
                found += map(Seen.of, entries or ())
                matching = [seen for seen in found if seen.type == type]
                if len(matching) >= times:
                    return matching[times - 1]
        raise AssertionError(f"the stream ended without {type}: {[seen.type for seen in found]}")

    # --- what stands in the database --------------------------------------------------------------------

    async def query(self, function: Callable[..., T], *args: Any) -> T:
        return await database.read(function, *args)

    async def stored(self, handler: Handler) -> Handler:
        return await self.query(handlers.find, handler.handler_id)

    async def messages(self, handler: Handler) -> int:
        return await self.query(Message.objects.filter(handler=handler.pk, consumed_at=None).count)

    async def check(self) -> None:
        """Check what holds for every run, whatever it went through."""
        await self.query(check_promises)


def outcome(handler: Handler) -> Any:
    """Return the result of a completed run."""
    assert handler.status == Handler.Status.COMPLETED, (handler.status, handler.error)
    assert handler.result is not None
    return json.loads(handler.result)["value"].get("result")


async def kill(dying: Supervisor) -> None:
    """Take a supervisor's life as SIGKILL does; the event loop, which is the test's, goes on."""
    writer = dying._writer
    loop = asyncio.get_running_loop()
    # Nobody hears of what the thread may still commit, and what nobody has taken yet is lost.
    writer._deliver = lambda: None
    writer.submit = lambda request: loop.create_future()
    if writer._express is not None:
        writer._express.abandon()
    with contextlib.suppress(queue.Empty):
        while True:
            writer._queue.get_nowait()
    dying._stopped = True
    notify.off_mail(dying.hint)
    runs = [*dying._runs.values(), *(each.ahead for each in dying._starting.values() if each.ahead is not None)]
    tasks = [*dying._tasks, *(run.task for run in runs if run.task is not None)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(writer.stop)
    dying._steps.shutdown(wait=False, cancel_futures=True)
    loop.set_default_executor(database.ManagedExecutor(4))
    if dying._membership._life is not None and dying._membership._life._file is not None:
        # The operating system lets go of the lock; the file stays.
        dying._membership._life._file.close()


def check_promises() -> None:
    """The promises about logs and journals, for every run that the database holds."""
    for handler in Handler.objects.all():
        rows = Event.objects.filter(handler=handler, run=handler.run).order_by("sequence")
        entries = [
            eventlog.EventEntry(row.sequence, row.internal, row.data, row.type, row.created_at) for row in rows
        ]
        seen = [Seen.of(entry) for entry in entries]
        assert [one.sequence for one in seen] == list(range(len(seen))), "the event log has a gap"
        ticks = Tick.objects.filter(handler=handler, run=handler.run).order_by("sequence")
        positions = list(ticks.values_list("sequence", flat=True))
        context = contexts.read(handler.pk)
        pruned = 0 if context is None or not positions else positions[0]
        assert pruned == 0 or pruned <= context.snapshot_sequence + 1, "ticks are gone that no snapshot stands for"
        assert positions == list(range(pruned, pruned + len(positions))), "the journal has a gap"
        if handler.workflow_name in registry.names() and (positions or not conf.get().PRUNE_TICKS):
            replay.stand(registry.get(handler.workflow_name), leases.of(handler), handler.run_id)
            if not pruned:
                check_snapshots(handler)
        if handler.has_ended:
            assert seen, "a run has ended without a word"
            assert TERMINAL[Handler.Status(handler.status)](seen[-1]), "the log does not end with the end"
            assert (handler.result is not None) == (handler.status == Handler.Status.COMPLETED)
            assert (handler.error is not None) == (handler.status == Handler.Status.FAILED)
            assert handler.worker_id is None
            assert handler.completed_at is not None
            assert not Message.objects.filter(handler=handler).exists(), "mail was left for a run that has ended"
            if handler.result is not None:
                assert handler.result == entries[-1].data


def check_snapshots(handler: Handler) -> None:
    """A run that goes on from a snapshot stands, after each tick, where it would without one."""
    served = registry.get(handler.workflow_name)
    using = serialization.serializer(served)
    entries = list(journal.read(leases.of(handler)))
    whole = _begin(handler, served)
    replay.advance(whole, entries, using, handler.run_id)
    if whole.state.children or any("Infinity" in entry.data for entry in entries):
        # No snapshot is taken.
        return
    for part in {len(entries) // 4, len(entries) // 2, 3 * len(entries) // 4, len(entries) - 1}:
        standing = _begin(handler, served)
        replay.advance(standing, entries[:part], using, handler.run_id)
        standing = snapshot.load(snapshot.dump(standing, using), served.workflow, using)
        replay.advance(standing, entries[part:], using, handler.run_id)
        assert snapshot.dump(standing, using) == snapshot.dump(whole, using), f"snapshot after tick {part}"


def _begin(handler: Handler, served: registry.Served) -> snapshot.Standing:
    context = contexts.read(handler.pk)
    if context is not None and context.snapshot is not None and context.snapshot_sequence < 0:
        return snapshot.load(context.snapshot, served.workflow, serialization.serializer(served))
    return snapshot.begin(served.workflow)


@contextlib.asynccontextmanager
async def within(complaint: str, state: Callable[[], Any] = lambda: ""):
    """Give a wait a deadline, and a failure that says what did not happen."""
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except TimeoutError:
        raise AssertionError(f"{complaint} (within {DEADLINE:.0f} s) {state()}") from None


async def until(condition: Callable[[], bool | Awaitable[bool]], complaint: str) -> None:
    """Wait for a condition that nobody announces."""
    async with within(complaint):
        while True:
            holds = condition()
            if not isinstance(holds, bool):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(0.01)


def _path(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"
