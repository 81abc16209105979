"""Reading a run's event log as it grows.

A reader catches up from its cursor in the database and is then fed from memory where its process executes the
run; everywhere else it reads again when a hint comes, and at the latest every POLL_INTERVAL. While it waits it
holds neither a thread nor a connection, and one that is too slow goes back to the database instead of making
others keep events for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from django_workflows import conf, database, eventlog, notify
from django_workflows.eventlog import EventEntry
from django_workflows.models import Handler
from django_workflows.runtime import supervisor

# Events read at once.
PAGE = 500
# Seconds between two looks at the log of a run that this very process executes.
LOCAL_PATIENCE = 30.0


async def subscribe(handler: int, run: int, after: int) -> AsyncIterator[list[EventEntry]]:
    """Yield the events of a run after a position, in order and without a gap, and end after its last one.

    Args:
        handler: primary key of the handler.
        run: number of the run.
        after: position of the last event that the reader has, -1 for none.

    Ends also when the handler is deleted or continued with another run.
    """
    subscription = notify.subscribe(handler, run)
    try:
        while True:
            events = subscription.take(after)
            if events is None:
                # From here on commits are kept for us, so that none falls between the read and the wait.
                subscription.follow()
                ended, page = await database.read(_page, handler, run, after)
                if len(page) == PAGE:
                    subscription.look()
                elif ended:
                    if page:
                        yield page
                    return
                events = page
            if events:
                after = events[-1].sequence
                yield events
            elif subscription.ended:
                return
            else:
                await subscription.wait(_patience(handler))
    finally:
        notify.unsubscribe(subscription)


def _patience(handler: int) -> float:
    """Seconds to wait for a hint before looking without one: none is lost inside a process."""
    current = supervisor.current()
    if current is not None and current.is_here and current.run_of(handler) is not None:
        return LOCAL_PATIENCE
    return conf.get().POLL_INTERVAL


def _page(handler: int, run: int, after: int) -> tuple[bool, list[EventEntry]]:
    """Read the next events; first whether the run has ended, so that its last events are seen when it has."""
    found = Handler.objects.using(database.alias()).filter(pk=handler).values_list("run", "status").first()
    ended = found is None or found != (run, Handler.Status.RUNNING)
    return ended, eventlog.read(handler, run, after, PAGE)
