"""The world outside the process: what steps did to it outlives a crash of the process that did it.

Steps note here that they ran, and wait at gates that the test opens. Only one test runs at a time; the fixture
``process`` begins each with an empty world.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

# Seconds that a test waits for a condition before it says that the condition never came: long enough for a busy
# machine, and shorter than the 30 s after which a reader looks without a hint.
DEADLINE = 25.0


class Gate:
    """A point in a step where the test holds it."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def reached(self) -> bool:
        return self._reached.is_set()

    async def passed(self) -> None:
        """In an async step: say that it is here, and wait until the test opens the gate."""
        opened = asyncio.Event()
        waiting = (asyncio.get_running_loop(), opened)
        self._waiting.add(waiting)
        self._reached.set()
        try:
            if not self._open.is_set():
                await opened.wait()
        finally:
            self._waiting.discard(waiting)

    def passed_in_thread(self) -> None:
        """The same in a sync step."""
        self._reached.set()
        assert self._open.wait(DEADLINE), "the test never opened the gate"

    def open(self) -> None:
        self._open.set()
        for loop, opened in list(self._waiting):
            loop.call_soon_threadsafe(opened.set)


class World:
    """What happened outside, and the gates of the present test."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._lock = threading.Lock()
        self.notes: list[str] = []
        self._gates: dict[str, Gate] = {}
        self.now_running = 0
        self.most_running = 0

    def end(self) -> None:
        """Let go of whatever still waits, so that no thread outlives the test."""
        for gate in list(self._gates.values()):
            gate.open()

    def note(self, text: str) -> None:
        with self._lock:
            self.notes.append(text)

    def times(self, text: str) -> int:
        return Counter(self.notes)[text]

    def gate(self, name: str) -> Gate:
        with self._lock:
            return self._gates.setdefault(name, Gate())

    def __enter__(self) -> World:
        """Count who is inside at the same time: ``with world: ...``."""
        with self._lock:
            self.now_running += 1
            self.most_running = max(self.most_running, self.now_running)
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.now_running -= 1


world = World()
