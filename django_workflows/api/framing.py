"""Events as the bytes of a stream and the messages of a socket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic_core import to_json

from django_workflows.eventlog import EventEntry
from django_workflows.serialization import without_qualified_name

# A comment, which keeps proxies from closing a silent connection.
SSE_HEARTBEAT = b": heartbeat\n\n"
# Beside a server's own pings, which not every server sends and no script in a browser sees.
SOCKET_HEARTBEAT = '{"type":"heartbeat"}'


def sse(events: Iterable[EventEntry], *, qualified_name: bool = True) -> bytes:
    """Return each event as a Server-Sent Event, with its sequence as the id to resume from."""
    framed = [f"id: {event.sequence}\ndata: {_data(event, qualified_name)}\n\n" for event in events]
    return "".join(framed).encode()


def ndjson(events: Iterable[EventEntry], *, qualified_name: bool = True) -> bytes:
    """Return each event as a line of JSON."""
    return "".join([f"{_data(event, qualified_name)}\n" for event in events]).encode()


def message(event: EventEntry, *, qualified_name: bool = True) -> str:
    """Return an event as a message of a WebSocket."""
    return f'{{"type":"event","sequence":{event.sequence},"event":{_data(event, qualified_name)}}}'


def end(handler: bytes) -> str:
    """Return the message after a run's last event, with the handler's JSON."""
    return f'{{"type":"end","handler":{handler.decode()}}}'


def ack(id: str | None) -> str:
    """Return the answer to a command that has been carried out."""
    return to_json({"type": "ack", "id": id}).decode()


def refusal(id: str | None, status: int, detail: Any) -> str:
    """Return the answer to a command that has changed nothing; without an id, to what was none."""
    return to_json({"type": "error", "id": id, "status": status, "detail": detail}).decode()


def _data(event: EventEntry, qualified_name: bool) -> str:
    return event.data if qualified_name else without_qualified_name(event.data)
