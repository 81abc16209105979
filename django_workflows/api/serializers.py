"""Stored records as the JSON of the reference's wire models.

A stored envelope is JSON already; it is set into the answer as it is, not read and written again.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

from django.utils import timezone
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import to_json
from workflows.events import Event

from django_workflows.models import Handler


def handler(found: Handler) -> bytes:
    """Return a handler as the reference's HandlerData."""
    return _handler(found, found.result or "null")


def legacy_result(found: Handler) -> bytes:
    """Return a handler with its bare result, as the deprecated ``/results/{id}`` gives it."""
    if found.result is None:
        return _handler(found, "null")
    envelope = json.loads(found.result)
    value = envelope["value"]
    if envelope["qualified_name"] == "workflows.events.StopEvent":
        value = value.get("result")
    return _handler(found, to_json(value).decode())


def handler_list(found: list[Handler], next_cursor: str | None) -> bytes:
    """Return a page of handlers."""
    return b'{"handlers":[%b],"next_cursor":%b}' % (
        b",".join(handler(one) for one in found),
        to_json(next_cursor),
    )


class _LenientSchema(GenerateJsonSchema):
    """Describes a field of a class that pydantic knows nothing of as anything, instead of failing."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def event_schema(event: type[Event]) -> dict[str, Any]:
    """Return an event class's JSON schema."""
    return event.model_json_schema(schema_generator=_LenientSchema)


def _handler(found: Handler, result: str) -> bytes:
    head = to_json(
        {
            "handler_id": found.handler_id,
            "workflow_name": found.workflow_name,
            "run_id": found.run_id,
            "error": found.error,
        }
    )
    tail = to_json(
        {
            "result_unreadable": False,
            "status": found.status,
            "started_at": timestamp(found.started_at),
            "updated_at": timestamp(found.updated_at),
            "completed_at": timestamp(found.completed_at),
        }
    )
    return b'%b,"result":%b,%b' % (head[:-1], result.encode(), tail[1:])


def timestamp(moment: datetime.datetime | None) -> str | None:
    """Return a moment in UTC, as the reference writes it, also on a site without USE_TZ."""
    if moment is None:
        return None
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    return moment.astimezone(datetime.UTC).isoformat()
