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
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, F, IntegerField, QuerySet, When

from django_workflows import database
from django_workflows.database import DatabaseNow
from django_workflows.models import Handler, Worker
from django_workflows.querysets import HandlerQuerySet, has_messages


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


# No right to anything: the database refuses it like one that was lost.
NONE = Lease(handler=0, run=0, fence=0)


def new_token() -> str:
    """Return a name that no other worker has."""
    return secrets.token_hex(16)


def enlist(token: str) -> Worker:
    """Record this process as a worker; when it is one of that name already, nothing changes."""
    _workers().get_or_create(
        token=token,
        defaults={
            "hostname": socket.gethostname()[:255],
            "pid": os.getpid(),
            "started_at": DatabaseNow(),
            "heartbeat_at": DatabaseNow(),
        },
    )
    return _workers().get(token=token)


def heartbeat(worker: int) -> datetime | None:
    """Say that a worker lives; None when others have declared it dead, so that its runs are gone.

    Returns the time on the database's clock.
    """
    if not _workers().filter(pk=worker).update(heartbeat_at=DatabaseNow()):
        return None
    return _workers().filter(pk=worker).values_list("heartbeat_at", flat=True).first()


def silent(timeout: timedelta) -> list[Worker]:
    """Return the workers whose last heartbeat is older than ``timeout``."""
    return list(_workers().filter(heartbeat_at__lt=DatabaseNow() - timeout))


def is_somebody_alive(timeout: timedelta) -> bool:
    """Tell whether a worker has sent a heartbeat within ``timeout``."""
    return _workers().filter(heartbeat_at__gte=DatabaseNow() - timeout).exists()


def colleagues(worker: int) -> list[Worker]:
    """Return all other workers."""
    return list(_workers().exclude(pk=worker))


def retire(worker: int, *, crashed: bool = False) -> int:
    """Let go of all runs of a worker that ends or is dead, and forget it; returns how many can be claimed at once.

    The runs' fences stay as they are: they grow when somebody claims them. Those that wait for mail or a
    deadline need nobody until it comes.

    Args:
        worker: primary key of the worker.
        crashed: whether it died, perhaps of a run that it had in its hands.
    """
    with database.atomic():
        mine = _handlers().running().filter(worker=worker)
        busy = mine.filter(idle_since=None).update(
            worker=None, wake_at=database.at_once(), crashes=F("crashes") + (1 if crashed else 0)
        )
        mine.update(worker=None)
        _workers().filter(pk=worker).delete()
    return busy


def claim(worker: int, limit: int, workflows: Collection[str]) -> list[Handler]:
    """Take up to ``limit`` runs of these workflows that have something to do and no worker, oldest first.

    Safe against others that claim at the same time: the candidates are locked, and those that another
    process has locked are left to it.
    """
    with database.atomic():
        keys: list[int] = []
        for candidates in (_handlers().due(), _handlers().with_mail()):
            if len(keys) == limit:
                break
            # In an index's order: a hundred thousand others may wait.
            found = candidates.of_workflows(workflows).exclude(pk__in=keys).order_by("wake_at", "pk")
            locked = database.locked(found, skip_locked=True)
            keys += locked.values_list("pk", flat=True)[: limit - len(keys)]
        if not keys:
            return []
        # The filter is repeated for databases that lock without reading anew.
        _handlers().running().filter(pk__in=keys, worker=None).update(worker=worker, fence=F("fence") + 1)
        return list(_handlers().running().filter(pk__in=keys, worker=worker).order_by("started_at", "pk"))


def held(worker: int) -> dict[int, str]:
    """Return the runs that are a worker's: primary key of the handler -> run id."""
    return dict(_handlers().running().filter(worker=worker).values_list("pk", "run_id"))


def renew(run_ids: Collection[str], worker: int) -> list[Handler]:
    """Take anew those of these runs that are a worker's: nothing more is written with the leases that it had."""
    with database.atomic():
        mine = _handlers().running().filter(run_id__in=run_ids, worker=worker)
        mine.update(fence=F("fence") + 1)
        return list(mine)


def _leased(keys: Collection[int], *columns: Any) -> QuerySet[Handler, tuple[Any, ...]]:
    """Lock the rows of handlers, and give of each what a lease says, and whether its run goes on (1 or 0).

    That is no condition: PostgreSQL takes one for rare, and reads the index of the status, with a row for each run
    that waits and each that has lately ended, to find those few among them.
    """
    goes_on = Case(When(status=Handler.Status.RUNNING, then=1), default=0, output_field=IntegerField())
    return (
        database.locked(_handlers().filter(pk__in=keys))
        # One order for everybody, so that two batches cannot wait for each other.
        .order_by("pk")
        .values_list("pk", "run", "fence", goes_on, *columns)
    )


_LOCK = database.Lookup(lambda keys: _leased(keys, has_messages()))


def hold(leases: Collection[Lease]) -> dict[Lease, bool]:
    """Lock the rows of these runs for the rest of the transaction.

    Returns the leases that still hold, and of each whether the run has messages, consumed or not.
    """
    rows = _LOCK(lease.handler for lease in leases)
    found = {Lease(*row): bool(mailed) for *row, goes_on, mailed in rows if goes_on}
    return {lease: found[lease] for lease in leases if lease in found}


_FENCED = database.Lookup(_leased)


def demand(leases: Collection[Lease]) -> None:
    """Lock the rows of these runs, and let the transaction fail unless all of the leases hold."""
    rows = [(lease.handler, lease.run, lease.fence, 1) for lease in leases]
    database.demand(_FENCED, [lease.handler for lease in leases], rows)


def let_go(lease: Lease) -> None:
    """Give one run up, so that any worker may claim it."""
    _handlers().running().filter(pk=lease.handler, run=lease.run, fence=lease.fence).update(
        worker=None, wake_at=database.at_once()
    )


_RELEASE = database.Statement(Handler, ("worker", "wake_at"), key=("id",))


def release(leases: Iterable[tuple[Lease, datetime | None]]) -> None:
    """Give up runs that wait, whose leases the transaction holds, until mail comes or their deadline is due."""
    _RELEASE.execute((None, wake_at, lease.handler) for lease, wake_at in leases)


def of(handler: Handler) -> Lease:
    return Lease(handler.pk, handler.run, handler.fence)


def _handlers() -> HandlerQuerySet:
    return Handler.objects.using(database.alias())


def _workers() -> QuerySet[Worker]:
    return Worker.objects.using(database.alias())
