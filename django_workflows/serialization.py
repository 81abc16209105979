"""Ticks, events and state to JSON and back; the envelope that goes over the wire.

Nothing is rebuilt by a name that the workflow does not declare: every serializer here resolves only the
workflow's own events, its additional events, its state type and what the engine itself persists.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from llama_agents.client.protocol.serializable_events import (  # type: ignore[import-untyped]
    EventEnvelope,
    EventValidationError,
)
from pydantic_core import PydanticSerializationError, to_json
from workflows.context.serializers import BaseSerializer, JsonSerializer, PickleSerializer
from workflows.context.state_store import DictState
from workflows.events import Event, InternalDispatchEvent, StartEvent
from workflows.runtime.types.results import AddCollectedEvent, AddWaiter, StepWorkerResult
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick, WorkflowTickAdapter

from django_workflows import compact, conf, declared, limits
from django_workflows.exceptions import InvalidEvent, InvalidRequest, NotSerializable
from django_workflows.registry import Served

_serializers: WeakKeyDictionary[Served, BaseSerializer] = WeakKeyDictionary()

# Python, and with it the published client, splits lines at these; JSON allows them raw in a string.
_LINE_BREAKS = {ord("\u2028"): "\\u2028", ord("\u2029"): "\\u2029", ord("\u0085"): "\\u0085"}
_HAS_LINE_BREAK = re.compile("[\u2028\u2029\u0085]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def serializer(served: Served) -> BaseSerializer:
    """Return the serializer of a workflow's ticks, start events and state.

    It is the workflow's own where it has one; a JsonSerializer with an allow-list is extended by what the
    workflow declares.
    """
    known = _serializers.get(served)
    if known is not None:
        return known
    chosen = served.workflow.serializer or JsonSerializer(allowed_types=[])
    if isinstance(chosen, JsonSerializer):
        declared: list[type[Any]] = [*served.workflow.events, *served.additional_events]
        state_type = served.state_type
        if state_type is not DictState:
            declared.append(state_type)
        chosen = chosen.with_types(*declared)
    _serializers[served] = chosen
    return chosen


def reads_pickle(served: Served) -> bool:
    """Tell whether what is stored of a workflow's runs can execute code when it is read."""
    return isinstance(served.workflow.serializer, PickleSerializer)


# --- journal ---------------------------------------------------------------------------------------


def dump_tick(tick: WorkflowTick, using: BaseSerializer) -> str:
    """Write a tick for the journal.

    Raises:
        NotSerializable: it holds a value that the serializer cannot write.
        OverLimit: it holds an event that is larger than MAX_EVENT_SIZE.
    """
    for cls in _event_classes(tick):
        _check_declared(cls, using)
    data = _dump(tick, using, f"a {type(tick).__name__}")
    largest = conf.get().MAX_EVENT_SIZE
    if largest is not None and len(data) * 4 > largest:
        # It may hold any number of events, each of which may be that large.
        for event in _events(tick):
            limits.check_written_event(_dump(event, using, "an event"), type(event).__name__)
    return data


def _event_classes(tick: WorkflowTick) -> Iterator[type[Event]]:
    """Yield the event classes that reading the tick again will have to find by name."""
    for event in _events(tick):
        yield type(event)
    if isinstance(tick, TickStepResult):
        for result in tick.result:
            if isinstance(result, AddWaiter):
                yield result.event_type


def _events(tick: WorkflowTick) -> Iterator[Event]:
    """Yield the events that a tick holds."""
    if isinstance(tick, TickAddEvent):
        yield tick.event
    elif isinstance(tick, TickStepResult):
        for result in tick.result:
            if isinstance(result, AddWaiter):
                if result.waiter_event is not None:
                    yield result.waiter_event
            elif isinstance(result, AddCollectedEvent):
                yield result.event
            elif isinstance(result, StepWorkerResult) and result.result is not None:
                yield result.result
        for sent in tick.sends:
            yield sent.event


def _check_declared(cls: type[Event], using: BaseSerializer) -> None:
    """Refuse a class now that could not be read after a restart, when it would be too late."""
    if isinstance(using, JsonSerializer):
        _check_readable(cls, using)


@lru_cache(maxsize=4096)
def _check_readable(cls: type[Event], using: JsonSerializer) -> None:
    """Check it once; a refusal is not remembered."""
    name = f"{cls.__module__}.{cls.__name__}"
    try:
        found = using.resolve_class(name)
    except Exception:
        found = None
    if found is not cls:
        raise NotSerializable(
            f"the event {name} is not declared by the workflow, so the run could not be resumed; "
            "name it in a step's signature or in additional_events"
        )


def load_tick(data: str, using: BaseSerializer) -> WorkflowTick:
    """Read a tick that :func:`dump_tick` wrote."""
    with using.validation_context():
        return WorkflowTickAdapter.validate_python(using.deserialize(data))


def dump_event(event: Event, using: BaseSerializer) -> str:
    """Write a start event or a posted event so that :func:`load_event` rebuilds the same class.

    Raises:
        InvalidEvent: the workflow does not declare its class, or it holds a value that cannot be written.
        TooLarge: it is larger than MAX_EVENT_SIZE.
    """
    try:
        _check_declared(type(event), using)
        data = _dump(event, using, f"the event {type(event).__name__}")
    except NotSerializable as error:
        raise InvalidEvent(str(error)) from error
    limits.check_posted_event(data, type(event).__name__)
    return data


def load_event(data: str, using: BaseSerializer) -> Event:
    event = using.deserialize(data)
    if not isinstance(event, Event):
        raise NotSerializable(f"expected a stored event, found {type(event).__name__}")
    return event


@lru_cache(maxsize=1024)
def is_written_whole(cls: type[Event]) -> bool:
    """Tell whether an event of a class is the same when it is read again, as far as its declaration says.

    A field that is left out, has another name outside, or is written in a way of its own would be another one
    after a restart.
    """
    decorators = cls.__pydantic_decorators__
    own = decorators.field_serializers or decorators.model_serializers.keys() - {"custom_model_dump"}
    left_out = any(field.exclude or field.validation_alias is not None for field in cls.model_fields.values())
    in_memory = cls.__private_attributes__.keys() - {"_data"}
    return not (own or left_out or in_memory)


def invented(event: Event) -> frozenset[str]:
    """Return the fields that the event's class has filled in with something new, such as an id or the time.

    Whoever sends the same again gets others there, and yet sends the same.
    """
    return frozenset(
        name
        for name, field in type(event).model_fields.items()
        if field.default_factory not in (None, list, dict, set, tuple) and name not in event.model_fields_set
    )


def is_same(stored: str, sent: str, *, apart_from: frozenset[str]) -> bool:
    """Tell whether two texts of :func:`dump_event` stand for the same event.

    Args:
        stored: the first.
        sent: what was sent later under the same name.
        apart_from: fields that may differ (:func:`invented`).
    """
    if stored == sent:
        return True
    try:
        first, second = json.loads(stored), json.loads(sent)
        for field in apart_from:
            first["value"].pop(field, None)
            second["value"].pop(field, None)
    except (ValueError, TypeError, KeyError, AttributeError):
        # A serializer with a format of its own.
        return False
    # As texts, which have 1, 1.0 and true apart; an earlier version has written other white space.
    return json.dumps(first) == json.dumps(second)


def _dump(value: Event | WorkflowTick, using: BaseSerializer, what: str) -> str:
    try:
        data = None
        if type(using) is JsonSerializer:
            data = compact.dump_event(value) if isinstance(value, Event) else compact.dump_tick(value)
        return using.serialize(value) if data is None else data
    except Exception as error:
        raise NotSerializable(f"{what} cannot be stored: {error}") from error


def readable(stored: Any) -> tuple[str | None, Any]:
    """Return what a stored state or event is for people: the name of its class, and its fields as plain JSON.

    Args:
        stored: the parsed record. What a pickling serializer wrote stays the text that it is.
    """
    name, value = None, _plain(stored)
    if isinstance(stored, dict) and "qualified_name" in stored:
        name = str(stored["qualified_name"]).rpartition(".")[2]
    if isinstance(value, dict) and isinstance(value.get("_data"), dict):
        # Fields that no class declares; those of a state are each a JSON text.
        loose = value.pop("_data")
        value |= loose if name is not None else {key: _unpacked(item) for key, item in loose.items()}
    return name, value


def _plain(value: Any) -> Any:
    """Take off what the engine's serializer wraps around models, at any depth."""
    if isinstance(value, dict):
        if "qualified_name" in value and ("__is_pydantic" in value or "__is_component" in value):
            return _plain(value["value"])
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _unpacked(text: Any) -> Any:
    try:
        return _plain(json.loads(text))
    except (TypeError, ValueError):
        return text


# --- wire --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Envelope:
    """An event as its readers get it.

    Attributes:
        type: the class's name.
        internal: whether it is sent only to readers that ask for internal events.
        data: the reference's EventEnvelopeWithMetadata as JSON, on one line.
    """

    type: str
    internal: bool
    data: str


@lru_cache(maxsize=1024)
def _wire_metadata(cls: type[Event]) -> tuple[str, bool, str]:
    """Return a class's name, whether it is internal, and the end of its envelopes."""
    parents = []
    for parent in cls.mro()[1:]:
        if parent is Event:
            break
        if issubclass(parent, Event):
            parents.append(parent.__name__)
    tail = to_json(
        {
            "qualified_name": f"{cls.__module__}.{cls.__name__}",
            "type": cls.__name__,
            "types": parents or None,
        }
    )
    return cls.__name__, issubclass(cls, InternalDispatchEvent), "," + tail.decode()[1:]


def envelope(event: Event) -> Envelope:
    """Produce an event's envelope.

    Half a surrogate pair, which no UTF-8 text can hold, becomes U+FFFD; characters at which readers split
    lines are escaped.

    Raises:
        NotSerializable: the event holds a value that has no JSON.
        OverLimit: it is larger than MAX_EVENT_SIZE.
    """
    name, internal, tail = _wire_metadata(type(event))
    try:
        try:
            value = declared.dump_json(event)
            # A class may be configured to write them so (ser_json_inf_nan), which is not JSON.
            is_plain = "NaN" not in value and "Infinity" not in value
        except PydanticSerializationError as error:
            if "surrogates" not in str(error):
                raise
            is_plain = False
        if not is_plain:
            value = _carefully(event)
    except Exception as error:
        raise NotSerializable(f"the event {name} cannot be written as JSON: {error}") from error
    data = f'{{"value":{value}{tail}'
    if _HAS_LINE_BREAK.search(data):
        data = data.translate(_LINE_BREAKS)
    limits.check_written_event(data, name)
    return Envelope(name, internal, data)


def _carefully(event: Event) -> str:
    """Write an event's fields as the reference does, in several steps: infinities and NaN become null."""
    fields = json.dumps(event.model_dump(mode="json"), ensure_ascii=False)
    return to_json(json.loads(storable(fields)), inf_nan_mode="null").decode()


def storable(text: str) -> str:
    """Replace what no database can hold in a text: half surrogate pairs, and NUL (PostgreSQL)."""
    return _LONE_SURROGATE.sub("\ufffd", text).replace("\x00", "\ufffd")


def without_qualified_name(data: str) -> str:
    """Return an envelope's JSON as readers with ``include_qualified_name=false`` get it."""
    parsed = json.loads(data)
    parsed["qualified_name"] = None
    text = to_json(parsed).decode()
    return text.translate(_LINE_BREAKS) if _HAS_LINE_BREAK.search(text) else text


# --- from outside ------------------------------------------------------------------------------------


def parse_start_event(data: Any, served: Served) -> StartEvent:
    """Read a start event from a request: a plain object, an envelope, either as a JSON string, or None.

    Raises:
        InvalidEvent: it is none of these, or the workflow's start event class refuses it.
    """
    expected = served.start_event_class
    event = _parse({} if data is None else data, served, "Validation error for 'start_event'", expected)
    if not isinstance(event, expected):
        raise InvalidEvent(f"Start event must be an instance of {expected.__name__}, got {type(event).__name__}")
    return event


def parse_event(data: Any, served: Served) -> Event:
    """Read an event for a run from a request: an envelope, or one as a JSON string.

    Raises:
        InvalidEvent: it is neither, its type is not declared by the workflow, or its class refuses it.
    """
    return _parse(data, served, "Failed to deserialize event", None)


def _parse(data: Any, served: Served, problem: str, explicit: type[Event] | None) -> Event:
    try:
        if isinstance(data, str):
            # What is no JSON goes on as it is, to whoever says best what is wrong with it.
            with contextlib.suppress(ValueError):
                data = json.loads(data)
            limits.check_depth(data)
        event: Event = EventEnvelope.parse(data, served.events, explicit_event=explicit)
    except EventValidationError as error:
        raise InvalidEvent(str(error) if explicit is None else f"{problem}: {error}") from None
    except InvalidRequest:
        raise
    except RecursionError:
        raise InvalidEvent(f"{problem}: it is nested too deeply") from None
    except Exception as error:
        raise InvalidEvent(f"{problem}: {error}") from None
    if not isinstance(event._data, dict):
        # Where an event keeps its undeclared fields; its class does not look at it.
        raise InvalidEvent(f"{problem}: _data must be an object, got {type(event._data).__name__}")
    return event
