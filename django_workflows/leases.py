"""Who executes a run: workers with heartbeats, and fenced leases on runs.

A run is executed by the worker in its row. Whenever it changes hands, its fence grows; every write of a run
names the fence it was claimed with and is refused when the row has another (:func:`hold`). So a process that
was stopped and wakes up after its runs were taken over can write nothing. (The fencing token is Martin
Kleppmann's, "How to do distributed locking".)
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F, QuerySet

from django_workflows import database
from django_workflows.database import DatabaseNow
from django_workflows.models import Handler, Worker
from django_workflows.querysets import HandlerQuerySet


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one run.

    Attributes:
        handler: primary key of the run's handler.
        run: number of the run among the handler's.
        fence: what the row's fence was when this lease was given.
    """

    handler: int
    run: int
    fence: int


def enlist() -> Worker:
    """Record this process as a worker."""
    token = secrets.token_hex(16)
    using = database.alias()
    Worker.objects.using(using).create(
        token=token,
        hostname=socket.gethostname()[:255],
        pid=os.getpid(),
        started_at=DatabaseNow(),
        heartbeat_at=DatabaseNow(),
    )
    return Worker.objects.using(using).get(token=token)


def heartbeat(worker: int) -> bool:
    """Say that a worker lives; False when others have declared it dead, so that its runs are gone."""
    return bool(_workers().filter(pk=worker).update(heartbeat_at=DatabaseNow()))


def silent(timeout: timedelta) -> list[Worker]:
    """Return the workers whose last heartbeat is older than ``timeout``."""
    return list(_workers().filter(heartbeat_at__lt=DatabaseNow() - timeout))


def colleagues(worker: int) -> list[Worker]:
    """Return all other workers."""
    return list(_workers().exclude(pk=worker))


def retire(worker: int) -> int:
    """Let go of all runs of a worker that ends or is dead, and forget it; returns how many runs it had.

    The runs' fences stay as they are: they grow when somebody claims them. ``idle_since`` is cleared, because
    a deadline that only the worker's memory held must be computed anew by whoever claims the run.
    """
    with database.atomic():
        runs = _handlers().running().filter(worker=worker).update(worker=None, idle_since=None)
        _workers().filter(pk=worker).delete()
    return runs


def claim(worker: int, limit: int, workflows: Collection[str]) -> list[Handler]:
    """Take up to ``limit`` runs of these workflows that have something to do and no worker, oldest first.

    Safe against others that claim at the same time: the candidates are locked, and those that another
    process has locked are left to it.
    """
    with database.atomic():
        candidates = _handlers().runnable().of_workflows(workflows).order_by("started_at", "pk")
        keys = list(database.locked(candidates, skip_locked=True).values_list("pk", flat=True)[:limit])
        if not keys:
            return []
        # The filter is repeated for databases that lock without reading anew.
        _handlers().running().filter(pk__in=keys, worker=None).update(
            worker=worker, fence=F("fence") + 1, idle_since=None, wake_at=None
        )
        return list(_handlers().running().filter(pk__in=keys, worker=worker).order_by("started_at", "pk"))


def hold(leases: Collection[Lease]) -> set[Lease]:
    """Lock the rows of these runs for the rest of the transaction and return the leases that still hold."""
    rows = (
        database.locked(_handlers().running().filter(pk__in=[lease.handler for lease in leases]))
        # One order for everybody, so that two batches cannot wait for each other.
        .order_by("pk")
        .values_list("pk", "run", "fence")
    )
    found = {Lease(*row) for row in rows}
    return {lease for lease in leases if lease in found}


def let_go(lease: Lease) -> None:
    """Give one run up, so that any worker may claim it."""
    _handlers().running().filter(pk=lease.handler, run=lease.run, fence=lease.fence).update(
        worker=None, idle_since=None
    )


def of(handler: Handler) -> Lease:
    return Lease(handler.pk, handler.run, handler.fence)


def _handlers() -> HandlerQuerySet:
    return Handler.objects.using(database.alias())


def _workers() -> QuerySet[Worker]:
    return Worker.objects.using(database.alias())
