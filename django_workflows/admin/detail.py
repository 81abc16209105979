"""What the page of one handler shows, read for it in a bounded number of queries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models.functions import Length, Substr
from django.http import HttpRequest
from django.utils.translation import gettext as _

from django_workflows import database
from django_workflows.admin import graph, labels, questions, timeline
from django_workflows.models import Context, Event, Handler, Message, Tick

# Events on a page; messages and log entries that are shown.
EVENTS, MESSAGES, ENTRIES = 50, 20, 20


@dataclass(frozen=True)
class EventRow:
    sequence: int
    type: str
    internal: bool
    at: datetime
    # A few words of it, and the whole (or its beginning) as indented JSON.
    summary: str
    text: str


@dataclass(frozen=True)
class EventPage:
    """A page of a run's events; ``earlier`` and ``later`` are query strings."""

    rows: list[EventRow]
    earlier: str
    later: str
    # The query string that shows or hides internal events.
    toggle: str
    with_internal: bool


def context(request: HttpRequest, handler: Handler) -> dict[str, Any]:
    """Return what the template needs, apart from the admin's own."""
    times = timeline.of(handler)
    is_waiting = not handler.has_ended and handler.idle_since is not None
    worker = handler.worker
    using = database.alias()
    ticks = Tick.objects.using(using).filter(handler=handler, run=handler.run).order_by("-sequence")
    state = (
        Context.objects.using(using)
        .filter(handler=handler)
        .annotate(text=Substr("state", 1, labels.SHOWN + 1))
        .values_list("text", "updated_at", "snapshot_sequence")
        .first()
    )
    last_tick = ticks.values_list("sequence", flat=True).first()
    failure = _failure(handler) if handler.status == Handler.Status.FAILED else None
    return {
        "is_waiting": is_waiting,
        "question": questions.of([handler]).get(handler.pk) if is_waiting else None,
        "duration": labels.duration(handler),
        "start_event": labels.pretty(_fields(handler.start_event)),
        "result": labels.pretty(_fields(handler.result)),
        "failure": failure,
        # The handler's, where the exception had no text, is its type's name.
        "error": handler.error if failure is None else failure["message"],
        "graph": graph.of(handler.workflow_name, times.counts, times.states),
        "timeline": times,
        "events": events(request, handler),
        "state": labels.pretty(_state(state[0]) if state else ""),
        "state_updated_at": state[1] if state else None,
        "snapshot_sequence": state[2] if state else -1,
        "messages_waiting": _mail(handler),
        "ticks": 0 if last_tick is None else last_tick + 1,
        "worker": worker,
        "worker_life": labels.life(worker) if worker else "",
        "worker_age": labels.age(worker.heartbeat_at) if worker else "",
        "entries": _entries(handler),
        "debugger_url": debugger_url(handler),
    }


def events(request: HttpRequest, handler: Handler) -> EventPage:
    """Return the page of events that the request asks for by ``after`` or ``before`` (a sequence)."""
    with_internal = request.GET.get("internal") == "1"
    internal = "&internal=1" if with_internal else ""
    found = Event.objects.using(database.alias()).filter(handler=handler, run=handler.run)
    if not with_internal:
        found = found.filter(internal=False)
    before, after = _sequence(request, "before"), _sequence(request, "after")
    if before is not None:
        page = found.filter(sequence__lt=before).order_by("-sequence")
    else:
        page = found.filter(sequence__gt=-1 if after is None else after).order_by("sequence")
    columns = ("sequence", "type", "internal", "created_at", Substr("data", 1, labels.SHOWN + 1), Length("data"))
    rows = [_event(*row) for row in page.values_list(*columns)[: EVENTS + 1]]
    more, rows = len(rows) > EVENTS, rows[:EVENTS]
    if before is not None:
        rows.reverse()
    first, last = (rows[0].sequence, rows[-1].sequence) if rows else (0, 0)
    has_earlier = more if before is not None else after is not None and after >= 0
    has_later = before is not None or more
    return EventPage(
        rows,
        earlier=f"?before={first}{internal}#events" if rows and has_earlier else "",
        later=f"?after={last}{internal}#events" if rows and has_later else "",
        toggle="?#events" if with_internal else "?internal=1#events",
        with_internal=with_internal,
    )


def _sequence(request: HttpRequest, name: str) -> int | None:
    value = request.GET.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else None


def _event(sequence: int, type: str, internal: bool, at: datetime, data: str, length: int) -> EventRow:
    text = _fields(data) or data
    summary = " ".join(text.split())
    return EventRow(
        sequence,
        type,
        internal,
        at,
        summary if len(summary) <= 120 else summary[:119] + "…",
        labels.pretty(text) if length <= labels.SHOWN else labels.pretty(data),
    )


def _fields(data: str | None) -> str:
    """Return the fields out of an envelope, or a stored event or state, as JSON; what is none, as it is."""
    if not data:
        return ""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if isinstance(value, dict) and "value" in value and ("qualified_name" in value or "__is_pydantic" in value):
        value = value["value"]
    if isinstance(value, dict) and set(value) == {"_data"}:
        value = value["_data"]
    return labels.as_json(value, indent=None)


def _failure(handler: Handler) -> dict[str, str] | None:
    """Return type and text of the exception that a run has failed with, and the step, as its last event says."""
    found = Event.objects.using(database.alias()).filter(handler=handler, run=handler.run, internal=False)
    last = found.order_by("-sequence").values_list("type", "data").first()
    if last is None or last[0] != "WorkflowFailedEvent":
        return None
    try:
        value = json.loads(last[1])["value"]
        exception = value["exception"]
        name = exception["exception_type"].removeprefix("builtins.")
        return {"type": name, "step": value["step_name"], "message": exception["exception_message"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _state(data: str | None) -> str:
    """Return a run's state as JSON; the engine keeps each value of an untyped one as a JSON text of its own."""
    text = _fields(data)
    try:
        value = json.loads(text)
        values = value["_data"] if isinstance(value.get("_data"), dict) else value
        return labels.as_json({name: _decoded(one) for name, one in values.items()}, indent=None)
    except (ValueError, AttributeError, RecursionError):
        return text


def _decoded(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _mail(handler: Handler) -> list[dict[str, Any]]:
    found = (
        Message.objects.using(database.alias())
        .filter(handler=handler, run=handler.run, consumed_at=None)
        .order_by("pk")
        .annotate(text=Substr("data", 1, labels.SHOWN + 1))
    )
    return [
        {
            "kind": message.get_kind_display(),
            "step": message.step,
            "at": message.created_at,
            "age": labels.age(message.created_at),
            "text": labels.pretty(_fields(message.text)),
        }
        for message in found.defer("data")[:MESSAGES]
    ]


def _entries(handler: Handler) -> list[LogEntry]:
    found = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(Handler), object_id=str(handler.pk)
    )
    return list(found.select_related("user").order_by("-action_time")[:ENTRIES])


def debugger_url(handler: Handler) -> str | None:
    """Return the address of the run in the debugger; None where the site does not include it."""
    page = labels.url("django_workflows:debugger")
    return page and f"{page}?{urlencode({'run': handler.handler_id})}"


def title(handler: Handler) -> str:
    return _("%(workflow)s run %(id)s") % {"workflow": handler.workflow_name, "id": handler.handler_id}
