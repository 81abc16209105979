"""Threads that work for event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from django_workflows import threads
from django_workflows.threads import ThreadPool
from tests.storage import PATIENCE


async def test_what_a_job_returns_and_raises_comes_back() -> None:
    pool = ThreadPool(2, "test")

    assert await pool.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 7, 0)
    with pytest.raises(SystemExit):
        await pool.run(_raise, SystemExit(3))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.run(_raise, StopIteration())
    assert await pool.run(lambda: threading.current_thread().name) in ("test_1", "test_2")


def _raise(error: BaseException) -> None:
    raise error


async def test_so_many_jobs_run_at_the_same_time_and_no_more() -> None:
    pool = ThreadPool(3, "test")
    together = threading.Barrier(3, timeout=PATIENCE)
    running: set[int] = set()
    most = 0

    def meet() -> int:
        nonlocal most
        running.add(threading.get_ident())
        together.wait()
        most = max(most, len(running))
        running.discard(threading.get_ident())
        return threading.get_ident()

    found = await asyncio.gather(*(pool.run(meet) for _ in range(9)))

    assert len(set(found)) == most == 3


async def test_jobs_that_wait_for_nothing_are_all_done_by_the_thread_that_worked_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More threads would only take each other's turns."""
    pool = ThreadPool(3, "test")
    together = threading.Barrier(3, timeout=PATIENCE)
    await asyncio.gather(*(pool.run(together.wait) for _ in range(3)))
    monkeypatch.setattr(threads, "STALLED", PATIENCE)
    async with asyncio.timeout(PATIENCE):
        # What they answer with comes a moment before they have nothing to do.
        while len(pool._idle) < 3:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0)

    first = await pool.run(threading.get_ident)
    at_once = await asyncio.gather(*(pool.run(threading.get_ident) for _ in range(50)))
    one_by_one = [await pool.run(threading.get_ident) for _ in range(50)]

    assert {*at_once, *one_by_one} == {first}


def test_a_job_waits_for_no_other_whose_event_loop_has_ended() -> None:
    """Nor for the loop itself, which was to look whether anything stands still."""
    pool = ThreadPool(3, "test")
    begun, go_on = threading.Event(), threading.Event()

    async def leave() -> None:
        for _ in range(2):
            asyncio.ensure_future(pool.run(lambda: (begun.set(), go_on.wait(PATIENCE))))  # noqa: RUF006
        await asyncio.to_thread(begun.wait, PATIENCE)

    async def ask() -> int:
        async with asyncio.timeout(PATIENCE / 2):
            done = await asyncio.gather(pool.run(go_on.set), pool.run(str, 42))
            return int(done[1])

    asyncio.run(leave())
    assert asyncio.run(ask()) == 42


async def test_whoever_goes_away_takes_no_other_answer_along() -> None:
    pool = ThreadPool(1, "test")
    begun, go_on, done = threading.Event(), threading.Event(), []

    def slow() -> None:
        begun.set()
        go_on.wait(PATIENCE)
        done.append("slow")

    leaving = asyncio.ensure_future(pool.run(slow))
    staying = asyncio.ensure_future(pool.run(done.append, "next"))
    await asyncio.to_thread(begun.wait, PATIENCE)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    go_on.set()

    async with asyncio.timeout(PATIENCE):
        await staying
    assert done == ["slow", "next"]


def test_each_event_loop_gets_its_own_answers() -> None:
    pool = ThreadPool(2, "test")
    found: dict[int, list[int]] = {}

    async def ask(number: int) -> None:
        found[number] = await asyncio.gather(*(pool.run(lambda n=n: n * number) for n in range(50)))

    asking = [threading.Thread(target=lambda n=n: asyncio.run(ask(n))) for n in (1, 2, 3)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(PATIENCE)

    assert found == {number: [n * number for n in range(50)] for number in (1, 2, 3)}


def test_a_loop_that_has_ended_keeps_no_thread_from_working() -> None:
    pool = ThreadPool(1, "test")
    begun, go_on = threading.Event(), threading.Event()

    async def leave() -> None:
        asyncio.ensure_future(pool.run(lambda: (begun.set(), go_on.wait(PATIENCE))))  # noqa: RUF006  left behind
        await asyncio.to_thread(begun.wait, PATIENCE)

    asyncio.run(leave())
    go_on.set()

    async def ask() -> str:
        async with asyncio.timeout(PATIENCE):
            return await pool.run(str, 42)

    assert asyncio.run(ask()) == "42"


async def test_a_thread_that_waits_for_work_keeps_nothing_of_the_last() -> None:
    pool = ThreadPool(1, "test")

    class Large:
        pass

    async def work() -> weakref.ref[Any]:
        large = Large()
        await pool.run(id, large)
        return weakref.ref(large)

    reference = await work()
    # The one thread has taken the next job, and so let go of the last.
    await pool.run(gc.collect)
    assert reference() is None
