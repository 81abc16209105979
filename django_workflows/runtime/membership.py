"""This process as one of the workers that execute runs: it enlists, shows that it lives, and buries the dead."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django.db import transaction

from django_workflows import database, leases
from django_workflows.runtime import clock
from django_workflows.runtime.liveness import Life, forget, is_dead
from django_workflows.runtime.writer import Writer

logger = logging.getLogger("django_workflows.runtime")


class Membership:
    """One process's place among the workers.

    Args:
        lease_timeout: seconds without a heartbeat after which a worker counts as dead.
        on_dead: called, in the writer's thread, when others have declared this worker dead.
    """

    def __init__(self, lease_timeout: float, on_dead: Callable[[], None]) -> None:
        self.lease_timeout = lease_timeout
        # Primary key of this process's worker, None while it is none.
        self.worker: int | None = None
        # The one that it has enlisted as, also while it cannot be sure of it.
        self._enlisted: int | None = None
        self._on_dead = on_dead
        self._life: Life | None = None
        # On the monotonic clock: the last heartbeat that the database took, and the first after the last gap.
        self._beat_at = time.monotonic()
        self._beating_since = -float("inf")

    async def join(self, writer: Writer) -> None:
        """Enlist as a new worker; what an earlier one of this process had is let go."""
        previous, self.worker = self._enlisted, None
        token = leases.new_token()
        life = None
        # Before the database has the worker: should it die at once, others must be able to know.
        with contextlib.suppress(OSError):
            life = Life(token)

        def enlist() -> tuple[int, float]:
            asked_at = time.monotonic()
            if previous is not None:
                leases.retire(previous)
            return leases.enlist(token).pk, asked_at

        try:
            worker, asked_at = await writer.submit(enlist)
        except BaseException:
            if life is not None:
                life.end()
            raise
        self.end()
        self._life = life
        self._taken(asked_at)
        self._enlisted = self.worker = worker

    async def leave(self, writer: Writer) -> int:
        """Retire; returns how many runs are there for others to claim at once."""
        worker, self.worker = self.worker, None
        if worker is None:
            return 0
        count: int = await writer.submit(lambda: leases.retire(worker))
        return count

    def end(self) -> None:
        """Show no sign of life any more."""
        if self._life is not None:
            self._life.end()

    def beat(self) -> None:
        """Show that this worker lives; in the writer's thread, since a step may block the event loop."""
        worker = self.worker
        if worker is None:
            return
        asked_at, before = time.monotonic(), time.time()
        database_time = leases.heartbeat(worker)
        if database_time is None:
            if self.worker == worker:
                self._on_dead()
            return
        clock.compare(database_time, before, time.time())
        self._taken(asked_at)

    def _taken(self, asked_at: float) -> None:
        """Note a heartbeat that the database has taken."""
        if asked_at - self._beat_at > self.lease_timeout:
            self._beating_since = asked_at
        self._beat_at = asked_at

    def is_alone(self) -> bool:
        """Whether no other worker lives, as far as is known; for the writer's thread."""
        if self.worker is None:
            return True
        silent = {worker.pk for worker in leases.silent(timedelta(seconds=self.lease_timeout))}
        return all(other.pk in silent or is_dead(other.token) for other in leases.colleagues(self.worker))

    @property
    def is_sure(self) -> bool:
        """Whether this worker can be sure that nobody has taken it for dead."""
        return time.monotonic() - self._beat_at < self.lease_timeout

    def bury(self) -> int:
        """Retire dead workers; returns how many runs of theirs can be claimed. In the writer's transaction.

        After a gap in our own heartbeats everybody looks dead, because the database was away from all of us:
        then others get as long to come back.
        """
        me = self.worker
        if me is None:
            return 0
        silent = set()
        if time.monotonic() - self._beating_since > self.lease_timeout:
            silent = {worker.pk for worker in leases.silent(timedelta(seconds=self.lease_timeout))}
        runs = 0
        for worker in leases.colleagues(me):
            if worker.pk in silent or is_dead(worker.token):
                orphans = leases.retire(worker.pk, crashed=True)
                logger.warning("worker %s is dead; %d runs of it can be claimed", worker, orphans)
                runs += orphans
                # Whoever comes after us must be able to know, should we die before the commit.
                transaction.on_commit(partial(forget, worker.token), using=database.alias())
        return runs
