"""What one run writes may be more than the database takes; then it fails, and touches no other.

MariaDB closes the connection when a statement is longer than max_allowed_packet (16 MB by default), without a word
of the reason.
"""

from __future__ import annotations

import pytest
from django.db import connections
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from django_workflows import service
from django_workflows.exceptions import TooLarge
from django_workflows.models import Handler

from .process import Process, outcome, until
from .world import world

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connections["default"].vendor != "mysql", reason="about MySQL and MariaDB"),
]

# More than the server takes at once, and less than MAX_EVENT_SIZE.
TOO_MUCH = 20 * 1024 * 1024


class Piece(Event):
    text: str


class Writes(Workflow):
    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        world.note("write")
        for _ in range(ev.times):
            ctx.write_event_to_stream(Piece(text="x" * ev.size))
        return StopEvent(result="written")


class Keeps(Workflow):
    @step
    async def keep(self, ctx: Context, ev: StartEvent) -> StopEvent:
        world.note("keep")
        await ctx.store.set("text", "x" * ev.size)
        return StopEvent(result="kept")


class Waits(Workflow):
    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await world.gate("wait").passed()
        return StopEvent(result="waited")


@pytest.mark.parametrize("workflow", [Writes, Keeps])
async def test_a_run_that_writes_more_than_the_database_takes_fails_alone(
    process: Process, workflow: type[Workflow]
) -> None:
    await process.serve(Writes, Keeps, Waits)
    other = await process.start(Waits)
    await until(lambda: world.gate("wait").reached, "the other run never began")
    failed = await process.run(workflow, size=TOO_MUCH, times=1)
    assert failed.status == Handler.Status.FAILED
    assert "max_allowed_packet" in str(failed.error)
    assert len(world.notes) == 1
    world.gate("wait").open()
    assert outcome(await process.finish(other)) == "waited"
    assert await process.result(Writes, size=1, times=1) == "written"


async def test_many_pieces_that_the_database_takes_are_written_though_together_they_are_more(
    process: Process,
) -> None:
    await process.serve(Writes)
    size = TOO_MUCH // 80
    assert await process.result(Writes, size=size, times=100) == "written"


async def test_a_start_and_an_event_that_the_database_does_not_take_are_refused(process: Process) -> None:
    await process.serve(Writes, (Waits, [Piece]))
    waiting = await process.start(Waits)
    with pytest.raises(TooLarge, match="max_allowed_packet"):
        await service.astart("Writes", {"size": 1, "times": 1, "more": "x" * TOO_MUCH})
    with pytest.raises(TooLarge, match="max_allowed_packet"):
        await process.send(waiting, "Piece", text="x" * TOO_MUCH)
    world.gate("wait").open()
    assert outcome(await process.finish(waiting)) == "waited"
    assert await process.query(Handler.objects.count) == 1
