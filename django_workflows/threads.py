"""Threads that work for event loops, and answer those of a moment together.

``run_in_executor`` takes 28 µs of processor time for each job (two futures, one of them with a lock, and a wake-up
of the loop), where all of Django takes some 200 for a request. Here, jobs that end at about the same time share a
wake-up: 5 µs.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

# A future, and the result or the error that it is answered with.
Answer = tuple[asyncio.Future[Any], Any, BaseException | None]

Job = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]

# Seconds without an end of any job after which one more thread is woken, while others wait.
STALLED = 0.002


def give(answers: Iterable[Answer]) -> None:
    """Answer futures of the running event loop."""
    for future, result, error in answers:
        if future.done():
            # Whoever waited went away, and what was done is done; or it has an answer.
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            # A waiter that goes away before it looks is normal; the error is logged where it matters.
            future.exception()


class ThreadPool:
    """A bounded number of threads for short jobs, no more of which are awake than there is work for.

    Jobs are Python, of which one thread at a time computes (the GIL): a second one is of use when the first waits
    for something, and else in its way. So one takes job after job, and another is woken when nothing ends for a
    while. The one that is woken is the one that worked last.

    Args:
        size: how many threads, at most.
        name: what their names begin with.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        # Of all that follows; held for moments.
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._threads = 0
        # What wakes up those that have nothing to do, the last to work at the end.
        self._idle: list[threading.Lock] = []
        self._ended = 0
        # The event loop that looks after jobs that wait, None while nobody does.
        self._looking: asyncio.AbstractEventLoop | None = None
        # What is answered at a loop's next turn; a loop that is not here has not been told.
        self._answers: dict[asyncio.AbstractEventLoop, list[Answer]] = {}

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in one of the threads and return what it returns, or raise what it raises.

        Whoever is cancelled meanwhile does not cancel the call.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._jobs.append((future, function, args))
            if self._threads == len(self._idle):
                self._wake_one()
            elif self._looking is None or self._looking.is_closed():
                self._look_later(loop)
        return await future

    def _wake_one(self) -> None:
        if self._idle:
            self._idle.pop().release()
        elif self._threads < self._size:
            name = f"{self._name}_{self._threads + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._threads += 1

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = loop
        loop.call_later(STALLED, self._look, loop, self._ended)

    def _look(self, loop: asyncio.AbstractEventLoop, ended: int) -> None:
        with self._lock:
            if self._looking is not loop:
                return
            self._looking = None
            if self._jobs:
                if self._ended == ended:
                    self._wake_one()
                self._look_later(loop)

    def _work(self) -> None:
        waiting = threading.Lock()
        waiting.acquire()
        while True:
            with self._lock:
                job = self._jobs.popleft() if self._jobs else None
                if job is None:
                    self._idle.append(waiting)
            if job is None:
                waiting.acquire()
                continue
            future, function, args = job
            try:
                self._answer((future, function(*args), None))
            except StopIteration as error:
                # No future takes it.
                self._answer((future, None, RuntimeError(f"the call raised {error!r}")))
            except BaseException as error:
                self._answer((future, None, error))
            # Not until the next job comes: a request is large.
            del job, future, function, args

    def _answer(self, answer: Answer) -> None:
        loop = answer[0].get_loop()
        with self._lock:
            self._ended += 1
            answers = self._answers.get(loop)
            if answers is not None:
                answers.append(answer)
                return
            self._answers[loop] = [answer]
        try:
            loop.call_soon_threadsafe(self._give, loop)
        except RuntimeError:
            # A loop that is closed has nobody who waits.
            with self._lock:
                self._answers.pop(loop, None)

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            answers = self._answers.pop(loop)
        give(answers)
