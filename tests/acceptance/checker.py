"""What the database must say of every run, whatever its processes have died of."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from django.db.models import F, Q

from django_workflows.models import Context, Event, Handler, Message, Tick, Worker

# Statuses and the events that a log ends with then; a completed one ends with the workflow's own stop event.
_ENDS = {
    Handler.Status.FAILED: {"WorkflowFailedEvent", "WorkflowTimedOutEvent"},
    Handler.Status.CANCELLED: {"WorkflowCancelledEvent"},
}


def is_terminal(event: dict[str, Any]) -> bool:
    """Tell whether an envelope is that of a run's last event."""
    return event["type"] == "StopEvent" or "StopEvent" in (event["types"] or ())


def batched(keys: Collection[str], size: int = 200) -> Iterator[list[str]]:
    """Yield keys in lists that every database takes in one query."""
    waiting = list(keys)
    for begin in range(0, len(waiting), size):
        yield waiting[begin : begin + size]


class Checker:
    """Reads a site's database.

    Args:
        alias: the database's.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._checked = 0
        self._running: set[int] = set()

    def owners(self) -> set[int]:
        """Return the ids of the processes that execute runs, and 0 for runs that nobody executes."""
        handlers = Handler.objects.using(self._alias).running()
        # Nobody has to execute a run that waits.
        unclaimed = handlers.filter(worker=None, idle_since=None)
        return set(handlers.exclude(worker=None).values_list("worker__pid", flat=True)) | (
            {0} if unclaimed.exists() else set()
        )

    def workers(self) -> list[int]:
        """Return the ids of the processes that are enlisted as workers."""
        return list(Worker.objects.using(self._alias).values_list("pid", flat=True))

    def runs(self, key: str) -> int:
        """Return how many runs a handler has had, 0 when there is none of that id."""
        return Handler.objects.using(self._alias).filter(handler_id=key).values_list("run", flat=True).first() or 0

    def ticks(self, key: str) -> list[dict[str, Any]]:
        """Return the journal of a run."""
        found = Tick.objects.using(self._alias).filter(handler__handler_id=key, run=F("handler__run"))
        return [json.loads(data) for data in found.order_by("sequence").values_list("data", flat=True)]

    def consumed(self, key: str) -> list[dict[str, Any]]:
        """Return the events from outside that a run has in its journal."""
        ticks = [tick["value"] for tick in self.ticks(key)]
        # What a step has emitted says so; the first of the others is the start event.
        added = [tick for tick in ticks if tick["type"] == "add_event" and tick.get("emission") is None]
        return [tick["event"]["value"] for tick in added[1:]]

    def statuses(self, keys: Collection[str]) -> dict[str, str]:
        """Return handler id -> status of those handlers that there are."""
        found: dict[str, str] = {}
        for some in batched(keys):
            handlers = Handler.objects.using(self._alias).filter(handler_id__in=some)
            found.update(handlers.values_list("handler_id", "status"))
        return found

    def mail(self, key: str) -> list[str]:
        """Return the kinds of messages that a run has not consumed yet."""
        found = Message.objects.using(self._alias).filter(handler__handler_id=key, consumed_at=None)
        return list(found.order_by("pk").values_list("kind", flat=True))

    def described(self, key: str) -> str:
        """Say where a run stands, for whoever has to find out why."""
        row = Handler.objects.using(self._alias).select_related("worker").get(handler_id=key)
        return (
            f"run {row.run}, worker {row.worker_id} (process {row.worker and row.worker.pid}), fence {row.fence}, "
            f"updated {row.updated_at:%H:%M:%S}, idle since {row.idle_since}, due {row.wake_at}, "
            f"{len(self.ticks(key))} ticks, mail {self.mail(key)}"
        )

    def has_stray_mail(self) -> bool:
        """Tell whether there is mail for runs that have ended."""
        messages = Message.objects.using(self._alias)
        expected = messages.filter(handler__status=Handler.Status.RUNNING, run=F("handler__run"))
        return messages.exclude(pk__in=expected.values("pk")).exists()

    def left_behind(self) -> dict[str, int]:
        """Return how many rows there are of handlers that are gone: table -> number, where there are any."""
        handlers = Handler.objects.using(self._alias).values("pk")
        found = {
            model.__name__: model._default_manager.using(self._alias).exclude(handler__in=handlers).count()
            for model in (Tick, Event, Message, Context)
        }
        return {name: number for name, number in found.items() if number}

    def held_by(self, pid: int) -> dict[int, int]:
        """Return the runs that a process executes: primary key -> fence."""
        handlers = Handler.objects.using(self._alias).running().filter(worker__pid=pid)
        return dict(handlers.values_list("pk", "fence"))

    def still_held(self, runs: dict[int, int]) -> set[int]:
        """Return those of these runs that nobody has taken up since: not by another lease, nor to their end."""
        handlers = Handler.objects.using(self._alias).running().filter(pk__in=runs)
        # What waits, and was released, needs nobody.
        handlers = handlers.exclude(worker=None, idle_since__isnull=False)
        return {key for key, fence in handlers.values_list("pk", "fence") if runs[key] == fence}

    def handovers(self, key: str) -> int:
        """Return how often a handler's first run has changed hands."""
        return Handler.objects.using(self._alias).get(handler_id=key).fence - 1

    def check(self) -> None:
        """Check all runs that are new, or were under way, since the last time."""
        handlers = Handler.objects.using(self._alias).filter(Q(pk__gt=self._checked) | Q(pk__in=self._running))
        for handler in handlers.order_by("pk"):
            self._check(handler)
            self._checked = max(self._checked, handler.pk)
            (self._running.discard if handler.has_ended else self._running.add)(handler.pk)

    def broken(self) -> list[str]:
        """Check all runs and return what is wrong with which."""
        found = []
        for handler in Handler.objects.using(self._alias).order_by("pk"):
            try:
                self._check(handler)
            except AssertionError as error:
                found.append(str(error))
        return found

    def _check(self, handler: Handler) -> None:
        what = f"{handler.handler_id} ({handler.status})"
        for run in range(1, handler.run + 1):
            ticks = Tick.objects.using(self._alias).filter(handler=handler, run=run).order_by("sequence")
            positions = list(ticks.values_list("sequence", flat=True))
            assert positions == list(range(len(positions))), f"the journal of {what} has a gap: {positions}"
            rows = list(Event.objects.using(self._alias).filter(handler=handler, run=run).order_by("sequence"))
            positions = [row.sequence for row in rows]
            assert positions == list(range(len(rows))), f"the event log of {what} has a gap: {positions}"
            ends = [row.sequence for row in rows if is_terminal(json.loads(row.data))]
            if handler.has_ended or run < handler.run:
                assert ends == [len(rows) - 1], f"the log of {what} has its terminal events at {ends}"
            else:
                assert ends == [], f"the log of {what} has a terminal event"
        if handler.has_ended:
            last = rows[-1]
            if handler.status == Handler.Status.COMPLETED:
                assert handler.result == last.data, f"{what} has another result than its log"
            else:
                assert last.type in _ENDS[Handler.Status(handler.status)], f"{what} ends with {last.type}"
            assert (handler.result is not None) == (handler.status == Handler.Status.COMPLETED), what
            assert (handler.error is not None) == (handler.status == Handler.Status.FAILED), what
            assert handler.worker_id is None, f"{what} still has a worker"
            assert handler.completed_at is not None, what
        else:
            assert handler.result is None, what
            assert handler.error is None, what
            assert handler.completed_at is None, what
