"""Ticks and events as the engine's JsonSerializer has them, without what stands at its default, and exactly.

Most of a tick's fields say nothing most of the time, and to have them all written out, with each event by a
serializer of its own, took a fifth of the time that a run spends in the engine. And pydantic writes NaN and the
infinities as null, which no field of numbers takes back: a run with such an event could not be resumed.

What is written here is read by the engine's own reader, like its own text; ``tests/test_compact.py`` holds the two
against each other. Whatever has no place here is left to the engine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json
from workflows.context.utils import get_qualified_name
from workflows.events import Event
from workflows.runtime.types.results import (
    AddCollectedEvent,
    CollectionReleasePayload,
    DeleteCollectedEvent,
    DeleteWaiter,
    EmissionKey,
    RetryDecision,
    SentEvent,
    StepWorkerFailed,
    StepWorkerResult,
)
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent, TickSessionStart, TickStepResult, WorkflowTick

from django_workflows import declared

_TICKS: tuple[type[BaseModel], ...] = (TickAddEvent, TickSessionStart, TickStepResult)
_PARTS: tuple[type[BaseModel], ...] = (
    AddCollectedEvent,
    DeleteCollectedEvent,
    DeleteWaiter,
    RetryDecision,
    SentEvent,
    StepWorkerFailed,
    StepWorkerResult,
)
_NAMES = {cls: f"{cls.__module__}.{cls.__name__}" for cls in _TICKS}
# What fields are when nobody says anything; of those that live in memory alone, whatever they are.
_DEFAULTS: dict[type[BaseModel], dict[str, Any]] = {
    cls: {
        name: ... if field.exclude else field.get_default(call_default_factory=True)
        for name, field in cls.model_fields.items()
    }
    for cls in (*_TICKS, *_PARTS)
}


class _Unusual(Exception):
    """The engine knows better how to write it."""


def dump_tick(tick: WorkflowTick) -> str | None:
    """Write a tick; None when the engine must do it, be it that it holds something that cannot be written."""
    name = _NAMES.get(type(tick))
    if name is None:
        return None
    return _text(lambda writer: {"__is_pydantic": True, "value": writer.model(tick), "qualified_name": name})


def dump_event(event: Event) -> str | None:
    """Write an event; None as for :func:`dump_tick`."""
    return _text(lambda writer: writer.event(event))


def _text(write: Callable[[_Writer], Any]) -> str | None:
    try:
        text = to_json(write(_QUICKLY)).decode()
        return json.dumps(write(_EXACTLY)) if "null" in text else text
    except Exception:
        return None


class _Writer:
    """Makes plain JSON values.

    Args:
        is_exact: whether it looks for numbers that became null.
    """

    def __init__(self, *, is_exact: bool) -> None:
        self._is_exact = is_exact

    def model(self, model: BaseModel) -> dict[str, Any]:
        defaults = _DEFAULTS.get(type(model))
        if defaults is None:
            raise _Unusual
        written = {}
        for name, value in model.__dict__.items():
            if type(value) in (str, int, float):
                # With what tells the classes apart (``type``), which is its class's default.
                written[name] = value
            elif (value or value != defaults[name]) and defaults[name] is not ...:
                written[name] = self._value(value)
        return written

    def _value(self, value: Any) -> Any:
        cls = type(value)
        if cls in (str, int, float, bool):
            return value
        if cls is StepId:
            return str(value)
        if cls in (list, tuple):
            return [self._value(part) for part in value]
        if cls is dict:
            return {key: self._value(part) for key, part in value.items()}
        if cls is EmissionKey:
            return {"invocation_id": value.invocation_id, "index": value.index}
        if cls is CollectionReleasePayload:
            return {key: self._value(part) for key, part in vars(value).items()}
        if isinstance(value, Event):
            return self.event(value)
        if isinstance(value, Exception):
            return {"exception_type": f"{cls.__module__}.{cls.__qualname__}", "exception_message": str(value)}
        return self.model(value)

    def event(self, event: Event) -> dict[str, Any]:
        name, is_component = _class(type(event))
        loose = declared.undeclared(event)
        if is_component or "class_name" in loose:
            raise _Unusual
        value = declared.dump(event)
        if self._is_exact:
            value = _restored(value, event.__dict__ | {"_data": loose})
        return {"__is_pydantic": True, "value": value, "qualified_name": name}


_QUICKLY, _EXACTLY = _Writer(is_exact=False), _Writer(is_exact=True)


def _restored(written: Any, original: Any) -> Any:
    """Put back the numbers for which pydantic has written null."""
    if written is None:
        return original if type(original) is float and not math.isfinite(original) else None
    if isinstance(original, BaseModel):
        original = original.__dict__
    if isinstance(written, dict) and isinstance(original, dict):
        return {key: _restored(value, original.get(key)) for key, value in written.items()}
    if isinstance(written, list) and isinstance(original, list | tuple) and len(written) == len(original):
        return [_restored(*pair) for pair in zip(written, original, strict=True)]
    return written


@lru_cache(maxsize=1024)
def _class(cls: type[Event]) -> tuple[str, bool]:
    """Return a class's name in the journal, and whether the engine takes its events for something else."""
    is_component = hasattr(cls, "class_name") or "class_name" in cls.model_fields
    return get_qualified_name(cls.model_construct()), is_component


__all__ = ["dump_event", "dump_tick"]
