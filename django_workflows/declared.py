"""Events as pydantic writes them, without what the engine calls for each to add the fields that no class declares.

That function in the middle takes ten times as long as all the rest, and most events have no such fields: a class
declares them all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic_core import SchemaSerializer
from workflows.events import DictLikeModel, Event


def undeclared(event: Event) -> dict[str, Any]:
    """Return an event's fields that its class does not declare; to ask for ``event._data`` takes much longer."""
    found: dict[str, Any] = (event.__pydantic_private__ or {}).get("_data", {})
    return found


def dump(event: Event) -> Any:
    """Return what ``event.model_dump(mode="json")`` does, perhaps with NaN and infinities where that has None."""
    serializer = _serializer(type(event))
    if serializer is None or undeclared(event):
        return event.model_dump(mode="json")
    return serializer.to_python(event, mode="json")


def dump_json(event: Event) -> str:
    """Return what ``event.model_dump_json()`` returns."""
    serializer = _serializer(type(event))
    if serializer is None or undeclared(event):
        return event.model_dump_json()
    return serializer.to_json(event).decode()


@lru_cache(maxsize=1024)
def _serializer(cls: type[Event]) -> SchemaSerializer | None:
    """Return what writes the declared fields of a class, None where it has a way of its own."""
    schema: Any = cls.__pydantic_core_schema__
    if schema["type"] != "model" or schema["cls"] is not cls:
        return None
    if schema.get("serialization", {}).get("function") is not DictLikeModel.custom_model_dump:
        return None
    if cls.model_dump is not Event.model_dump or cls.model_dump_json is not Event.model_dump_json:
        return None
    return SchemaSerializer({key: part for key, part in schema.items() if key != "serialization"})
