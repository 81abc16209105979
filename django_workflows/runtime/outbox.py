"""What one run has to write: gathered in order, and written one transaction at a time.

Everything that the engine decides between two writes becomes one :class:`Changes`: a tick and the events that it
publishes are written together, so that a crash leaves either both or neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.conf import settings

from django_workflows import leases, serialization
from django_workflows.contexts import Snapshot
from django_workflows.eventlog import EventEntry
from django_workflows.exceptions import LeaseLost, PersistenceFailed
from django_workflows.handlers import Ending, Idle
from django_workflows.journal import TickEntry
from django_workflows.leases import Lease
from django_workflows.runtime import lull
from django_workflows.runtime.writer import Writer
from django_workflows.runtime.writes import Changes

# Seconds that the first ticks of a run may wait for more, since nothing depends on them.
SOON = 0.005


class Released(Exception):
    """The run waits, and has left memory until it has something to do."""


def _nobody(_: object) -> None:
    """Whom a run tells that has left memory."""


class Outbox:
    """The writes of one run, on one event loop.

    Args:
        writer: who writes.
        next_tick: position of the run's next tick.
        next_event: position of its next event.
        on_written: called with what was committed.
        on_failed: called with why a write failed. What it held is forgotten, with all that came after it.
        prunes: whether ticks that no replay needs any more are deleted.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        next_tick: int,
        next_event: int,
        on_written: Callable[[Changes], None],
        on_failed: Callable[[BaseException], None],
        prunes: bool,
    ) -> None:
        self.next_tick = next_tick
        self.next_event = next_event
        # Why nothing more may be written, None while the run may.
        self.refused: Exception | None = None
        # What the database would never take, None if there was no such thing.
        self.rejected: BaseException | None = None
        # Whether the run's end was submitted, after which nothing can be written.
        self.is_ended = False
        # As django.utils.timezone.now() has it, which asks the settings for it each time.
        self._zone = UTC if settings.USE_TZ else None
        # The run, and the right to write it.
        self._lease = leases.NONE
        self._writer = writer
        self._on_written = on_written
        self._on_failed = on_failed
        self._prunes = prunes
        self._closed = False
        self._changes = self._nothing()
        self._empty = True
        self._recorded = 0
        self._committed = 0
        # How often something was submitted, and at which of these numbers a lull was last waited for.
        self._kicks = 0
        self._lulled = -1
        self._lull = lull.of(asyncio.get_running_loop())
        self._writing: asyncio.Future[None] | None = None
        self._progress: asyncio.Future[None] | None = None

    # --- gathering --------------------------------------------------------------------------------------

    def add_tick(self, data: str, message: int | None) -> None:
        """Add a tick, with the message that it consumes if it stands for one."""
        self._changes.ticks.append(TickEntry(self.next_tick, data))
        self.next_tick += 1
        if message is not None:
            self._changes.consumed.append(message)
        self._note()

    def add_event(self, wire: serialization.Envelope) -> None:
        entry = EventEntry(self.next_event, wire.internal, wire.data, wire.type, datetime.now(self._zone))
        self._changes.events.append(entry)
        self.next_event += 1
        self._note()

    def set_state(self, record: str) -> None:
        self._changes.state = record
        self._note()

    def set_idle(self, idle: Idle) -> None:
        self._changes.idle = idle
        self._note()

    def set_snapshot(self, snapshot: Snapshot) -> None:
        self._changes.snapshot = snapshot
        self._note()

    def set_progressed(self) -> None:
        self._changes.progressed = True
        self._note()

    def set_ending(self, ending: Ending, *, mailed: bool) -> None:
        self.is_ended = False
        self._changes.ending, self._changes.mailed = ending, mailed
        self._note()

    @property
    def is_empty(self) -> bool:
        """Whether everything is committed."""
        return self._empty and self._writing is None

    @property
    def behind(self) -> int:
        """How many changes are not committed yet."""
        return self._recorded - self._committed

    # --- writing ----------------------------------------------------------------------------------------

    def own(self, lease: Lease) -> None:
        """Write from now on; until then, what is recorded is only gathered."""
        self._lease = self._changes.lease = lease
        if self._progress is not None:
            # Somebody waits for it.
            self.kick()

    def kick(self) -> None:
        """Submit what has gathered, unless an earlier write is still under way."""
        if self._writing is not None or self._empty or self.refused is not None or self._lease is leases.NONE:
            return
        self._kicks += 1
        changes, self._changes, self._empty = self._changes, self._nothing(), True
        upto = self._recorded
        self.is_ended = self.is_ended or changes.ending is not None
        self._writing = self._writer.submit(changes)
        self._writing.add_done_callback(lambda future: self._written(future, changes, upto))

    def kick_soon(self) -> None:
        """Submit what has gathered in a moment, unless it is submitted with something else before."""
        asyncio.get_running_loop().call_later(SOON, self._kick_unless_done, self._kicks)

    def kick_after_step(self) -> None:
        """Submit what has gathered unless the step that wrote it ends right now, which submits both together."""
        if self._lulled != self._kicks:
            self._lulled = self._kicks
            self._lull.wait(partial(self._kick_unless_done, self._kicks))

    def _kick_unless_done(self, kicks: int) -> None:
        if self._kicks == kicks:
            # It was not submitted with something else.
            self._lulled = -1
            self.kick()

    async def flush(self) -> None:
        """Return when everything recorded so far is committed.

        Raises:
            LeaseLost, PersistenceFailed, Released: nothing more is written.
            Exception: the database will never take it.
        """
        goal, rejected = self._recorded, self.rejected
        while self._committed < goal:
            self.check()
            self.kick()
            if self._progress is None:
                self._progress = asyncio.get_running_loop().create_future()
            # Shielded, since several may wait for it and one of them may be cancelled.
            await asyncio.shield(self._progress)
        if self.rejected is not None and self.rejected is not rejected:
            raise self.rejected

    def close(self) -> None:
        """Tell of what is under way, if anything, and then forget whom to tell: the run has left memory."""
        self._closed = True
        if self._writing is None:
            self._on_written = self._on_failed = _nobody

    def check(self) -> None:
        """Raise when nothing more may be written."""
        if self.refused is not None:
            raise self.refused

    def refuse(self, error: Exception) -> None:
        """Write nothing more."""
        self.refused = self.refused or error

    async def release(self, snapshot: Snapshot | None, wake_at: Any) -> None:
        """Give the run up until it has something to do, as the last write.

        Raises:
            LeaseLost, PersistenceFailed: it is still ours, or another's, as if nothing had been tried.
        """
        assert self.is_empty
        self.refuse(Released())
        changes = self._nothing()
        changes.snapshot, changes.released, changes.wake_at = snapshot, True, wake_at
        await self._writer.submit(changes)

    def _nothing(self) -> Changes:
        return Changes(self._lease, prunes=self._prunes)

    def _note(self) -> None:
        self._empty = False
        self._recorded += 1

    def _written(self, future: asyncio.Future[None], changes: Changes, upto: int) -> None:
        self._writing = None
        progress, self._progress = self._progress, None
        error = None if future.cancelled() else future.exception()
        if error is None:
            self._committed = upto
            self._on_written(changes)
            self.kick()
        else:
            self._fail(error, changes)
        if progress is not None:
            progress.set_result(None)
        if self._closed:
            self.close()

    def _fail(self, error: BaseException, changes: Changes) -> None:
        if isinstance(error, LeaseLost | PersistenceFailed):
            self.refuse(error)
        else:
            # It will never be taken. Something else can stand in its place.
            if changes.ticks:
                self.next_tick = changes.ticks[0].sequence
            events = [*changes.events, *self._changes.events]
            if events:
                self.next_event = events[0].sequence
            self._changes, self._empty, self._committed = self._nothing(), True, self._recorded
            self.rejected = error
        self._on_failed(error)
