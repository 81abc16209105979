"""Events as the bytes of a stream."""

from __future__ import annotations

from django_workflows.eventlog import EventEntry
from django_workflows.serialization import without_qualified_name

# A comment, which keeps proxies from closing a silent connection.
SSE_HEARTBEAT = b": heartbeat\n\n"


def sse(event: EventEntry, *, qualified_name: bool = True) -> bytes:
    """Return an event as one Server-Sent Event, with its sequence as the id to resume from."""
    return f"id: {event.sequence}\ndata: {_data(event, qualified_name)}\n\n".encode()


def ndjson(event: EventEntry, *, qualified_name: bool = True) -> bytes:
    """Return an event as one line of JSON."""
    return f"{_data(event, qualified_name)}\n".encode()


def _data(event: EventEntry, qualified_name: bool) -> str:
    return event.data if qualified_name else without_qualified_name(event.data)
