"""Threads for synchronous steps, apart from those for everything else.

The engine runs a synchronous step in the event loop's default executor. So do asgiref, name lookups, and whatever
else the site does off the loop; long steps must not stand in their way. So the default executor looks who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from django_workflows import database
from django_workflows.runtime import run

T = TypeVar("T")

# As asyncio's own default executor on a small machine.
OTHER_THREADS = 8


class StepExecutor(ThreadPoolExecutor):
    """A default executor for the event loop.

    Args:
        threads: synchronous steps that run at the same time.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(OTHER_THREADS, thread_name_prefix="django-workflows-other")
        self._steps = database.ManagedExecutor(threads, thread_name_prefix="django-workflows-step")

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        # asyncio calls this in the task that asks, and the tasks of a run know it.
        if run.current() is not None:
            submitted: Future[T] = self._steps.submit(fn, *args, **kwargs)
            return submitted
        return super().submit(database.managed(fn), *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._steps.shutdown(wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)
