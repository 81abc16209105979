"""When a run that waits goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from workflows.runtime.types.ticks import WorkflowTick

from django_workflows import database
from django_workflows.runtime import clock

# The year 9000, in seconds since the epoch.
NEVER = 221_845_392_000.0


class Deadlines:
    """The timers of one run.

    The engine keeps those that it has set since the run was loaded and says when the next is due; those of
    before are kept here and brought to it.

    Args:
        due: when which tick is due, in seconds since the epoch.
    """

    def __init__(self, due: Iterable[tuple[float, WorkflowTick]]) -> None:
        self._due = list(due)
        self._timers: list[asyncio.TimerHandle] = []
        self._engine: float | None = None

    def start(self, ring: Callable[[WorkflowTick], None]) -> None:
        """Call ``ring`` with each tick when it is due, on the running event loop."""
        loop, now = asyncio.get_running_loop(), clock.now()
        self._timers = [loop.call_later(max(0.0, due - now), ring, tick) for due, tick in self._due]

    def stop(self) -> None:
        for timer in self._timers:
            # It would keep the run in memory until it is due.
            timer.cancel()

    def passed(self, tick: WorkflowTick) -> None:
        """Note that a tick is in the journal: if it is one of ours, it need not come again."""
        # The engine has stamped a copy of it.
        mark = {"stamped_at": None}
        self._due = [
            (due, one)
            for due, one in self._due
            if type(one) is not type(tick) or one.model_copy(update=mark) != tick.model_copy(update=mark)
        ]

    def note_engine(self, timeout: float | None) -> None:
        """Note in how many seconds the engine's next timer is due, None without one."""
        self._engine = None if timeout is None else clock.now() + timeout

    @property
    def next(self) -> datetime | None:
        """When the next one is due, None when none is.

        One that is due already counts until its tick is in the journal: whoever took the run up before would
        otherwise not know that it has something to do.
        """
        ahead = [due for due, _ in self._due]
        if self._engine is not None:
            ahead.append(self._engine)
        # Later than that is never: no calendar has it.
        return database.moment(min(ahead)) if ahead and min(ahead) < NEVER else None
