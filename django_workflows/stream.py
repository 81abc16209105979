"""Reading a run's event log as it grows.

A reader catches up from its cursor in the database and is then fed from memory where its process executes the
run; everywhere else it reads again when a hint comes, or when the look that all share (``watch``) finds that there
is more. While it waits it holds neither a thread nor a connection, and one that is too slow goes back to the
database instead of making others keep events for it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator

from django_workflows import database, eventlog, watch
from django_workflows.eventlog import EventEntry
from django_workflows.models import Handler
from django_workflows.runtime import supervisor

# Events read at once: few to begin with, then more, as long as they are not too much to hold for every reader.
FIRST_PAGE = 16
PAGE = 500
PAGE_CHARACTERS = 1024 * 1024


async def subscribe(
    handler: int, run: int, after: int, *, heartbeat: float | None = None, internal: bool = True
) -> AsyncGenerator[list[EventEntry] | None, None]:
    """Yield the events of a run after a position, in order and without a gap, and end after its last one.

    Args:
        handler: primary key of the handler.
        run: number of the run.
        after: position of the last event that the reader has, -1 for none.
        heartbeat: seconds of silence after which None is yielded; None for never.
        internal: with internal events.

    Ends also when the handler is deleted or continued with another run, and when this process begins to end.
    """
    if _is_draining():
        return
    limit = FIRST_PAGE
    beat_at = math.inf
    with watch.run(handler, run) as subscription:
        now = subscription.loop.time
        if heartbeat is not None:
            beat_at = now() + heartbeat
        while True:
            events = subscription.take(after)
            if events is None:
                # From here on commits are kept for us, so that none falls between the read and the wait.
                subscription.follow()
                ended, page = await database.read(_page, handler, run, after, limit)
                if len(page) == limit:
                    subscription.look()
                    limit = _next_limit(page)
                elif ended:
                    if wanted := page if internal else _public(page):
                        yield wanted
                    return
                if not page:
                    # What was committed during the read was kept for us, perhaps the end with it.
                    continue
                events = page
            if events:
                after = events[-1].sequence
                if wanted := events if internal else _public(events):
                    yield wanted
                if heartbeat is not None:
                    beat_at = now() + heartbeat
            elif subscription.ended:
                return
            elif subscription.nudged:
                subscription.nudged = False
                if _is_draining():
                    return
            elif not await subscription.wait(beat_at) and now() >= beat_at:
                beat_at += heartbeat or 0
                yield None


def _public(events: list[EventEntry]) -> list[EventEntry]:
    return [event for event in events if not event.internal]


def _is_draining() -> bool:
    current = supervisor.current()
    return current is not None and current.draining.is_set()


def _next_limit(page: list[EventEntry]) -> int:
    if sum(len(event.data) for event in page) > PAGE_CHARACTERS:
        return max(len(page) // 2, 1)
    return min(len(page) * 2, PAGE)


def _page(handler: int, run: int, after: int, limit: int) -> tuple[bool, list[EventEntry]]:
    """Read the next events; first whether the run has ended, so that its last events are seen when it has."""
    found = Handler.objects.using(database.alias()).filter(pk=handler).values_list("run", "status").first()
    ended = found is None or found != (run, Handler.Status.RUNNING)
    return ended, eventlog.read(handler, run, after, limit)
