"""The next moment at which an event loop has nothing else to do, for what is better done late and together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

# A turn of an event loop in which nothing happens takes no longer than so many of the shortest that it had, and
# less than so many seconds. The shortest takes 0.6 to 1.5 µs with uvloop, and 1.5 to 4 with asyncio; to hand
# something from task to task takes 10 to 30 µs a turn.
SHORTEST = 4
IDLE = 15e-6
# So many in a row: there are short ones while something is handed from task to task.
TURNS = 3
# Seconds after which those who wait are called all the same, where nothing else is said.
PATIENCE = 0.004


class Lull:
    """Calls back when nothing else happens in an event loop, or when patience has run out.

    asyncio does not say when a loop has nothing to do, but its turns are short then. A thousand who wait for that
    cost one callback a turn.

    Args:
        loop: whose.
        patience: seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float = PATIENCE) -> None:
        self._call_soon = loop.call_soon
        self._patience = patience
        self._turn_began = 0.0
        self._shortest = IDLE
        self._idle = IDLE
        self._short = 0
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def wait(self, callback: Callable[[], None]) -> None:
        now = time.perf_counter()
        if not self._waiting:
            self._turn_began, self._short = now, 0
            self._call_soon(self._next_turn)
        self._waiting.append((now + self._patience, callback))

    def _next_turn(self) -> None:
        now = time.perf_counter()
        took = now - self._turn_began
        self._turn_began = now
        if took < self._shortest:
            self._shortest, self._idle = took, min(SHORTEST * took, IDLE)
        self._short = self._short + 1 if took < self._idle else 0
        due = []
        while self._waiting and (self._short >= TURNS or self._waiting[0][0] <= now):
            due.append(self._waiting.popleft()[1])
        if self._waiting:
            self._call_soon(self._next_turn)
        for callback in due:
            callback()


_lulls: WeakKeyDictionary[asyncio.AbstractEventLoop, Lull] = WeakKeyDictionary()


def of(loop: asyncio.AbstractEventLoop) -> Lull:
    """Return the one of an event loop."""
    found = _lulls.get(loop)
    return _lulls.setdefault(loop, Lull(loop)) if found is None else found
