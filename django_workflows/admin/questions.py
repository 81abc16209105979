"""What runs that wait ask for, and with which events a person may answer.

A question is the last InputRequiredEvent in a run's log. It is looked for on the last thousand events only, and
for all runs of a page in two queries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import IntegerField, OuterRef, Subquery
from django.db.models.functions import Cast, Substr
from workflows.events import Event as EngineEvent
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from django_workflows import database, registry
from django_workflows.admin import labels
from django_workflows.exceptions import WorkflowNotFound
from django_workflows.models import Event, Handler, Message, Tick
from django_workflows.registry import Served

# Events of a run among which its question is looked for, from the last one backwards.
LOOKED_AT = 1000
# Characters of a question that are read.
READ = 65_536
# Where a question's text is, usually.
TEXT_FIELDS = ("prompt", "prefix", "question", "message", "text")


@dataclass(frozen=True)
class Question:
    """What a run asks.

    Attributes:
        type: the event class's name.
        fields: what the event says; None when it is too long to be shown.
        asked_at: when it was written.
    """

    type: str
    fields: dict[str, Any] | None
    asked_at: datetime

    @property
    def text(self) -> str:
        """The question as one line; the event's name in words when it has no text."""
        name = self._text_field
        if name is None:
            return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.type).capitalize()
        return " ".join((self.fields or {})[name].split())

    @property
    def has_text(self) -> bool:
        return self._text_field is not None

    @property
    def details(self) -> list[tuple[str, str, bool]]:
        """The other fields: name, text, and whether that is JSON."""
        return [
            (
                name,
                value if isinstance(value, str) else labels.pretty(json.dumps(value)),
                isinstance(value, list | dict),
            )
            for name, value in (self.fields or {}).items()
            if name != self._text_field
        ]

    @property
    def _text_field(self) -> str | None:
        for name in TEXT_FIELDS:
            value = (self.fields or {}).get(name)
            if isinstance(value, str) and value.strip():
                return name
        return None


def of(handlers: Iterable[Handler]) -> dict[int, Question]:
    """Return what these runs ask, by the handler's primary key; those that ask nothing are left out."""
    keys = [handler.pk for handler in handlers]
    if not keys:
        return {}
    using = database.alias()
    # Through an alias of its own for each level: all three are served by the unique index of the positions.
    last = Event.objects.filter(handler=OuterRef(OuterRef("pk")), run=OuterRef(OuterRef("run")))
    # Cast, because on MySQL a position is unsigned, and so is what is left of it.
    newest = Subquery(last.order_by("-sequence").values("sequence")[:1])
    asking = (
        Event.objects.filter(handler=OuterRef("pk"), run=OuterRef("run"), type__in=_asking_types())
        .filter(sequence__gt=Cast(newest, IntegerField()) - LOOKED_AT)
        .order_by("-sequence")
    )
    found = (
        Handler.objects.using(using)
        .filter(pk__in=keys)
        .annotate(question=Subquery(asking.values("pk")[:1]))
        .values_list("question", flat=True)
    )
    rows = (
        Event.objects.using(using)
        .filter(pk__in=[key for key in found if key is not None])
        .values_list("handler", "type", Substr("data", 1, READ), "created_at")
    )
    return {handler: Question(type, _fields(data), at) for handler, type, data, at in rows}


def _asking_types() -> list[str]:
    names = {InputRequiredEvent.__name__}
    for one in registry.all_served():
        names |= {name for name, event in one.events.items() if issubclass(event, InputRequiredEvent)}
    return sorted(names)


def _fields(data: str) -> dict[str, Any] | None:
    try:
        value = json.loads(data)["value"]
        return {**{k: v for k, v in value.items() if k != "_data"}, **value.get("_data", {})}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def served(workflow: str) -> Served | None:
    """Return a workflow, None when this site does not serve it (any more), or cannot."""
    try:
        return registry.get(workflow)
    except (WorkflowNotFound, ImproperlyConfigured):
        return None


def answers(workflow: str) -> list[type[EngineEvent]]:
    """Return the events that people may send to a workflow's runs, those meant for people first."""
    found = served(workflow)
    if found is None:
        return []
    ours: list[type[EngineEvent]] = [
        event for event in found.events.values() if issubclass(event, HumanResponseEvent)
    ]
    others = [
        event
        for event in found.additional_events
        if event not in ours and not issubclass(event, StartEvent | StopEvent | InputRequiredEvent)
    ]
    # The engine keeps them in sets; people find them where they were.
    return sorted(ours, key=lambda event: event.__name__) + others


def positions(handlers: Iterable[Handler]) -> dict[int, str]:
    """Return the points at which runs wait, by the handler's primary key.

    A run's point is another one when it has taken an answer since: while it waits, it writes no ticks,
    whichever process holds it, and an answer that it takes is one.
    """
    ticks = Tick.objects.filter(handler=OuterRef("pk"), run=OuterRef("run")).order_by("-sequence")
    rows = (
        Handler.objects.using(database.alias())
        .filter(pk__in=[handler.pk for handler in handlers])
        .annotate(tick=Subquery(ticks.values("sequence")[:1]))
        .values_list("pk", "run", "tick", "context__snapshot_sequence")
    )
    return {
        # A snapshot may stand for ticks that are gone.
        key: f"{run}.{max(n for n in (-1, tick, snapshot) if n is not None)}"
        for key, run, tick, snapshot in rows
    }


def position(handler: Handler) -> str:
    """Return the point at which one run waits; empty when it is gone."""
    return positions([handler]).get(handler.pk, "")


def has_mail(handler: Handler) -> bool:
    """Tell whether an answer is on its way to a run."""
    mail = Message.objects.using(database.alias()).filter(handler=handler, run=handler.run, consumed_at=None)
    return mail.exists()


def waiting() -> Any:
    """Return the runs that wait for an answer, the oldest first."""
    return Handler.objects.using(database.alias()).unanswered().longest_waiting_first()
