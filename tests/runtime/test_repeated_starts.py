"""A start that is repeated with its key, in the process that executes the run."""

from __future__ import annotations

import asyncio

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from django_workflows import service
from django_workflows.models import Handler

from .process import Process
from .world import world


class Held(Workflow):
    @step
    async def hold(self, ev: StartEvent) -> StopEvent:
        world.note("began")
        await world.gate("end").passed()
        return StopEvent(result="done")


async def test_a_start_that_is_repeated_while_its_run_is_here(process: Process) -> None:
    await process.serve(Held)
    first = await service.astart("Held", key="k")
    again = await asyncio.gather(*[service.astart("Held", key="k") for _ in range(3)])
    waiting = [asyncio.ensure_future(service.wait(handler)) for handler in (first, *again)]
    await asyncio.sleep(0.1)
    world.gate("end").open()

    for ended in await asyncio.gather(*waiting):
        assert (ended.run_id, ended.status) == (first.run_id, Handler.Status.COMPLETED)
    assert (await service.astart("Held", key="k")).status == Handler.Status.COMPLETED
    assert await process.query(Handler.objects.count) == 1
    assert world.times("began") == 1
