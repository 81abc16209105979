"""What the debugger needs to know beyond the reference's interface: a run from inside.

For anybody who builds a page of their own; under the same authentication and permissions as the rest.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from django.contrib.auth import get_permission_codename
from django.db.models import Model
from django.http import HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from pydantic_core import to_json
from rest_framework.request import Request
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.representation import get_workflow_representation

from django_workflows import contexts, eventlog, layout, registry, routes, serialization
from django_workflows.api import serializers
from django_workflows.api.views import WorkflowsView
from django_workflows.exceptions import InvalidRequest
from django_workflows.models import Handler
from django_workflows.registry import Served

# Events on a page, at most and by default.
EVENTS_PAGE_SIZE = 1000


def _answer(content: bytes) -> HttpResponse:
    response = HttpResponse(content, content_type="application/json")
    # What it says is true now.
    response["Cache-Control"] = "no-store"
    return response


class AcceptedEventsView(WorkflowsView):
    """The events that a workflow's runs may be sent, those that are meant to come from outside first."""

    actions = {"GET": "describe"}

    def get(self, request: Request, name: str) -> HttpResponse:
        served = registry.get(name)
        expected = _expected(served)
        events = [
            {
                "type": type_name,
                "expected": type_name in expected,
                "additional": event in served.additional_events,
                "schema": serializers.event_schema(event),
            }
            for type_name, event in served.events.items()
            if not issubclass(event, (StartEvent, StopEvent))
        ]
        events.sort(key=lambda one: (not one["expected"], not one["additional"]))
        return _answer(to_json({"events": events}))


class LayoutView(WorkflowsView):
    """Where the nodes of a workflow's graph go in a drawing from top to bottom, and where its edges lead."""

    actions = {"GET": "describe"}

    def get(self, request: Request, name: str) -> HttpResponse:
        graph = get_workflow_representation(registry.get(name).workflow)
        nodes = tuple(layout.Size(node.id, layout.width_of(node.label), layout.HEIGHT) for node in graph.nodes)
        found = layout.layout(nodes, tuple((edge.source, edge.target) for edge in graph.edges))
        return _answer(
            to_json(
                {
                    "nodes": {one: asdict(box) for one, box in found.nodes.items()},
                    "edges": [_line(edge, found) for edge in found.edges],
                    "width": found.width,
                    "height": found.height,
                }
            )
        )


def _line(edge: layout.Edge, found: layout.Layout) -> dict[str, Any]:
    path, middle = routes.route(edge, found.nodes)
    return {"source": edge.source, "target": edge.target, "path": path, "middle": middle._asdict()}


def _expected(served: Served) -> set[str]:
    """Return the names of the events that are meant to be sent from outside."""
    graph = get_workflow_representation(served.workflow)
    external = {node.id for node in graph.nodes if node.node_type == "external"}
    answers = {name for name, event in served.events.items() if issubclass(event, HumanResponseEvent)}
    return answers | {edge.target for edge in graph.edges if edge.source in external}


class HandlerEventsView(WorkflowsView):
    """A page of a run's event log, with internal events and the time of each."""

    def get(self, request: Request, handler_id: str) -> HttpResponse:
        after = _number(request, "after", -1, low=-1, high=2**31 - 1)
        limit = _number(request, "limit", EVENTS_PAGE_SIZE, low=1, high=EVENTS_PAGE_SIZE)
        handler = self.handler(handler_id)
        last = eventlog.last_sequence(handler.pk, handler.run)
        page = eventlog.read(handler.pk, handler.run, after, limit)
        head = to_json(
            {"run_id": handler.run_id, "now": serializers.timestamp(timezone.now()), "last_sequence": last}
        )
        events = b",".join(
            b'{"sequence":%d,"time":%b,"internal":%b,"event":%b}'
            % (
                event.sequence,
                to_json(serializers.timestamp(event.created_at)),
                b"true" if event.internal else b"false",
                event.data.encode(),
            )
            for event in page
        )
        return _answer(b'%b,"events":[%b]}' % (head[:-1], events))


def _number(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    text = request.query_params.get(name) or str(default)
    try:
        value = int(text) if len(text) <= 11 else high + 1
    except ValueError:
        value = high + 1
    if not low <= value <= high:
        raise InvalidRequest(f"{name} must be a number from {low} to {high}, got {text!r}")
    return value


class HandlerContextView(WorkflowsView):
    """What a run began from, what it has saved, and what it waits for."""

    def get(self, request: Request, handler_id: str) -> HttpResponse:
        handler = self.handler(handler_id)
        context = contexts.read(handler.pk)
        record = None if context is None else context.state
        state_type, state = (None, None) if record is None else serialization.readable(json.loads(record))
        start_type, start = serialization.readable(_parsed(handler.start_event))
        head = to_json(
            {
                "run": handler.run,
                "start_event": {"type": start_type, "value": start},
                "state": state,
                "state_type": state_type,
                "state_updated_at": None if context is None else serializers.timestamp(context.updated_at),
                "idle_since": serializers.timestamp(handler.idle_since),
                "wake_at": serializers.timestamp(handler.wake_at),
                **_in_the_admin(request.user, handler),
            },
            # A state may hold numbers that JSON has not.
            inf_nan_mode="null",
        )
        # 200 also when the run has failed: it is its context that is asked for.
        return _answer(b'{"handler":%b,%b' % (serializers.handler(handler), head[1:]))


def _in_the_admin(user: Any, handler: Handler) -> dict[str, Any]:
    """Return a run's page in the admin and its owner, for the staff who may see them there; None otherwise."""

    def page(model: type[Model], key: Any) -> str | None:
        meta = model._meta
        if not user.has_perm(f"{meta.app_label}.{get_permission_codename('view', meta)}"):
            return None
        with suppress(NoReverseMatch):
            return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[key])
        return None

    found: dict[str, Any] = {"admin_url": None, "owner": None}
    if user is not None and user.is_active and getattr(user, "is_staff", False):
        found["admin_url"] = page(Handler, handler.pk)
    if found["admin_url"] and handler.owner is not None:
        owner = handler.owner
        found["owner"] = {"name": owner.get_username(), "url": page(type(owner), owner.pk)}
    return found


def _parsed(text: str) -> Any:
    """Read a stored start event; that of a workflow with a serializer of its own may be no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
