"""When what is better done late and together is done."""

from __future__ import annotations

import asyncio
import time

from django_workflows.runtime import lull
from tests.storage import PATIENCE


async def _busy(turns: int, seconds: float) -> None:
    """Keep the event loop busy so many turns, so many seconds in each."""
    for _ in range(turns):
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def test_who_waits_is_called_when_the_others_have_done_their_work() -> None:
    happened: list[str] = []
    over = asyncio.Event()

    async def work() -> None:
        await _busy(50, 5 * lull.IDLE)
        happened.append("work")

    working = asyncio.create_task(work())
    # However slow the machine is.
    quiet = lull.Lull(asyncio.get_running_loop(), 2 * PATIENCE)
    quiet.wait(lambda: happened.append("first"))
    quiet.wait(lambda: (happened.append("second"), over.set())[-1])
    async with asyncio.timeout(PATIENCE):
        await over.wait()
    await working

    assert happened == ["work", "first", "second"]


async def test_a_turn_that_hands_something_on_is_not_idle_however_fast_the_machine() -> None:
    quiet = lull.Lull(asyncio.get_running_loop(), 2 * PATIENCE)
    for _ in range(20):
        # It has idle turns then, and knows how long they take here.
        over = asyncio.Event()
        quiet.wait(over.set)
        await over.wait()
    happened: list[str] = []

    async def work() -> None:
        await _busy(50, 2 * lull.SHORTEST * quiet._shortest)
        happened.append("work")

    working = asyncio.create_task(work())
    over = asyncio.Event()
    quiet.wait(lambda: (happened.append("lull"), over.set())[-1])
    async with asyncio.timeout(PATIENCE):
        await over.wait()
    await working

    assert happened == ["work", "lull"]


async def test_who_waits_is_called_although_there_is_always_work() -> None:
    over = asyncio.Event()
    working = asyncio.create_task(_busy(10**9, 5 * lull.IDLE))
    lull.of(asyncio.get_running_loop()).wait(over.set)
    async with asyncio.timeout(PATIENCE):
        await over.wait()
    working.cancel()


async def test_a_lull_can_be_waited_for_again_and_again() -> None:
    quiet = lull.of(asyncio.get_running_loop())
    assert lull.of(asyncio.get_running_loop()) is quiet
    for _ in range(20):
        over = asyncio.Event()
        quiet.wait(over.set)
        async with asyncio.timeout(PATIENCE):
            await over.wait()
