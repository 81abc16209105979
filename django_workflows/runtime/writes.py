"""One transaction of the writer: what may be written, and how requests of many runs are stored together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from django_workflows import contexts, database, eventlog, handlers, journal, leases, mailbox, notify
from django_workflows.contexts import Snapshot
from django_workflows.eventlog import EventEntry
from django_workflows.exceptions import CancelWaits, LeaseLost
from django_workflows.handlers import Ending, Idle, Start
from django_workflows.journal import TickEntry
from django_workflows.leases import Lease
from django_workflows.models import Handler


@dataclass(slots=True)
class Changes:
    """What one run has to write, all or nothing.

    Attributes:
        lease: the run, and the right to write it.
        ticks: entries for its journal.
        events: entries for its event log.
        state: the state store's record, None when unchanged.
        consumed: primary keys of the messages that the ticks consume.
        idle: that it waits for an event from outside, or does so no longer; None when unchanged.
        snapshot: where it stands, None when none was taken.
        prunes: whether ticks that no replay needs any more are deleted.
        progressed: whether it has gone on after processes had died with it.
        released: whether it is given up until ``wake_at`` or mail.
        wake_at: when a released run goes on by itself, on the database's clock.
        ending: how it ended, None while it goes on.
        mailed: whether it has had messages; if not, its end looks for none to delete.
    """

    lease: Lease
    ticks: list[TickEntry] = field(default_factory=list)
    events: list[EventEntry] = field(default_factory=list)
    state: str | None = None
    consumed: list[int] = field(default_factory=list)
    idle: Idle | None = None
    snapshot: Snapshot | None = None
    prunes: bool = False
    progressed: bool = False
    released: bool = False
    wake_at: datetime | None = None
    ending: Ending | None = None
    mailed: bool = True

    @property
    def ends_by_itself(self) -> bool:
        return self.ending is not None and self.ending.status != Handler.Status.CANCELLED


Call = Callable[[], Any]
Request = Changes | Start | Call


def commit(requests: Sequence[Request]) -> list[Any]:
    """Write requests in one transaction; returns a result for each, LeaseLost for refused ones."""
    if database.commits_by_itself() and all(map(is_usual, requests)):
        if database.takes_one_trip():
            # One may be for a run that was taken over or cancelled: then with a look at each.
            with contextlib.suppress(database.DemandFailed):
                with database.one_trip():
                    written = write_usual(requests)
                return written()
        if len(requests) == 1 and isinstance(requests[0], Start):
            # One statement, which needs no BEGIN and no COMMIT around it.
            return handlers.start_many([requests[0]])
    with database.atomic():
        results: dict[int, Any] = {}
        changes = [request for request in requests if isinstance(request, Changes)]
        held, cancelled = _write_held(changes)
        mailbox.empty(
            change.lease.handler for change in changes if change.ending is not None and held.get(change.lease)
        )
        if any(change.released and held.get(change.lease) for change in changes):
            # Mail that was handed to the run just before, or to nobody: whoever claims it gets it.
            transaction.on_commit(notify.mail, using=database.alias())
        plain = [request for request in requests if isinstance(request, Start) and request.is_plain]
        if plain:
            results.update(zip(map(id, plain), handlers.start_many(plain), strict=True))
        for request in requests:
            if isinstance(request, Changes):
                refused = CancelWaits() if request.lease in cancelled else LeaseLost()
                results[id(request)] = None if request.lease in held else refused
            elif isinstance(request, Start):
                if id(request) not in results:
                    results[id(request)] = handlers.start(request)
            else:
                results[id(request)] = request()
        return [results[id(request)] for request in requests]


def is_usual(request: Request) -> bool:
    """Tell whether a request needs nothing from the database but that it is written."""
    if isinstance(request, Changes):
        return not (request.released or request.prunes)
    return isinstance(request, Start) and request.is_plain and request.most is None


def write_usual(requests: Sequence[Request]) -> Callable[[], list[Any]]:
    """Write requests on the assumption that all leases hold, and that no message came for a run that ends.

    In a transaction that fails if it is not so (:func:`database.demand`). Returns what gives the results after it.
    """
    starts = [request for request in requests if isinstance(request, Start)]
    changes = [request for request in requests if isinstance(request, Changes)]
    leases.demand([change.lease for change in changes])
    ending = [change for change in changes if change.ending is not None]
    mailed = [change for change in ending if change.mailed]
    mailbox.demand_nothing([change.lease.handler for change in ending if not change.mailed])
    mailbox.demand_no_cancellation([change.lease.handler for change in mailed if change.ends_by_itself])
    mailbox.discard([change.lease.handler for change in mailed])
    _write_changes(changes)
    started = handlers.send_starts(starts)

    def results() -> list[Any]:
        found = iter(started())
        return [next(found) if isinstance(request, Start) else None for request in requests]

    return results


def tell(request: Request) -> None:
    """Tell readers of what is committed."""
    if isinstance(request, Changes) and (request.events or request.ending is not None):
        lease = request.lease
        notify.committed(lease.handler, lease.run, request.events, ended=request.ending is not None)


def _write_held(changes: Sequence[Changes]) -> tuple[dict[Lease, bool], set[Lease]]:
    """Write what runs have to write whose leases still hold.

    Returns the leases that were written, each with whether its run has messages, and those that were not because
    of a cancellation.
    """
    if not changes:
        return {}, set()
    held = leases.hold([change.lease for change in changes])
    # A cancellation that was answered holds: such a run is dropped, and ends as cancelled once loaded.
    ending = [change.lease for change in changes if change.ends_by_itself and held.get(change.lease)]
    cancelled = mailbox.cancelled(ending)
    for lease in cancelled:
        del held[lease]
    _write_changes([change for change in changes if change.lease in held])
    return held, cancelled


def _write_changes(changes: Iterable[Changes]) -> None:
    """Write what runs have to write, in a transaction that holds their leases."""
    changes = list(changes)
    ticks = [(change.lease, tick) for change in changes for tick in change.ticks]
    events = [(change.lease, event) for change in changes for event in change.events]
    states = [(change.lease, change.state) for change in changes if change.state is not None]
    consumed = [message for change in changes for message in change.consumed]
    idle = [(change.lease, change.idle) for change in changes if change.idle is not None]
    snapshots = [(change.lease, change.snapshot) for change in changes if change.snapshot is not None]
    progressed = [change.lease for change in changes if change.progressed]
    released = [(change.lease, change.wake_at) for change in changes if change.released]
    endings = [(change.lease, change.ending) for change in changes if change.ending is not None]
    if ticks:
        journal.append(ticks)
    if events:
        eventlog.append(events)
    if states:
        contexts.save(states)
    if consumed:
        mailbox.consume(consumed)
    if snapshots:
        contexts.snapshot(snapshots)
    if progressed:
        handlers.progressed(progressed)
    if idle:
        handlers.idle(idle)
    if released:
        leases.release(released)
    if endings:
        handlers.end(endings)
    for change in changes:
        if change.prunes and change.ending is not None:
            journal.prune(change.lease)
        elif change.prunes and change.snapshot is not None:
            journal.prune(change.lease, change.snapshot.sequence)
