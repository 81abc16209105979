"""What we write of a tick says the same as what the engine writes, to the engine's own reader."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError
from workflows.context import JsonSerializer, PickleSerializer
from workflows.events import Event, StartEvent, StopEvent
from workflows.runtime.types.results import (
    AddCollectedEvent,
    AddWaiter,
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
from workflows.runtime.types.ticks import (
    TickAddEvent,
    TickCancelRun,
    TickSessionStart,
    TickStepResult,
    TickTimeout,
    WorkflowTick,
)

from django_workflows import compact, serialization
from django_workflows.exceptions import NotSerializable


class Inner(BaseModel):
    x: float
    more: list[Inner] = []


class Rich(Event):
    name: str = ""
    number: float = 0.0
    inner: Inner | None = None
    hidden: str = Field(default="default", exclude=True)


class Component(Event):
    """The engine takes it for a component of another library."""

    class_name: str = "Component"


ENGINES = JsonSerializer()

texts = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
fields = st.dictionaries(st.sampled_from(["a", "b", "événement"]), values, max_size=3)
inners = st.builds(Inner, x=finite, more=st.lists(st.builds(Inner, x=st.just(1.0)), max_size=2))
riches = st.builds(
    lambda loose, **known: Rich(**known, **loose),
    fields,
    name=texts,
    number=finite | st.integers(),
    inner=st.none() | inners,
)
events = (
    riches
    | st.builds(lambda f: StartEvent(**f), fields)
    | st.builds(lambda v: StopEvent(result=v), values)
    | st.builds(Event)
)
names = st.builds(StepId.root, st.sampled_from(["one", "two"]))
moments = st.none() | st.floats(min_value=0, max_value=2e9)
keys = st.builds(EmissionKey, invocation_id=texts, index=st.integers(0, 9))
counts = st.dictionaries(texts, st.integers(0, 3), max_size=2)
failures = st.builds(lambda text: ValueError(text), texts)
payloads = st.builds(
    CollectionReleasePayload,
    binding_id=texts,
    stream_id=texts,
    events=st.lists(events, max_size=2),
    output_scope_path=st.lists(texts, max_size=2).map(tuple),
)
results = st.one_of(
    st.builds(StepWorkerResult, result=st.none() | events, fanned_out=st.booleans()),
    st.builds(
        StepWorkerFailed,
        exception=failures,
        failed_at=st.floats(0, 2e9),
        retry_decision=st.none() | st.builds(RetryDecision, delay=moments),
        first_attempt_at=moments,
    ),
    st.builds(AddCollectedEvent, event_id=texts, event=events),
    st.builds(DeleteCollectedEvent, event_id=texts),
    st.builds(DeleteWaiter, waiter_id=texts),
)
sends = st.builds(
    SentEvent, index=st.integers(0, 9), event=events, step_id=st.none() | names, recovery_counts=counts
)
ticks: st.SearchStrategy[WorkflowTick] = st.one_of(
    st.builds(TickSessionStart, stamped_at=moments),
    st.builds(
        TickAddEvent,
        event=events,
        step_id=st.none() | names,
        bound_events=st.none() | st.dictionaries(texts, events, max_size=1),
        attempts=st.none() | st.integers(0, 3),
        first_attempt_at=moments,
        last_exception=st.none() | failures,
        recovery_counts=counts,
        collection_release_payload=st.none() | payloads,
        scope_path=st.lists(texts, max_size=2).map(tuple),
        work_item_id=st.none() | texts,
        stamped_at=moments,
        emission=st.none() | keys,
    ),
    st.builds(
        TickStepResult,
        step_id=names,
        worker_id=st.integers(0, 9),
        invocation_namespace=st.just(()) | st.just(("child",)),
        event=events,
        result=st.lists(results, max_size=2),
        stamped_at=moments,
        invocation_id=st.none() | texts,
        sends=st.lists(sends, max_size=2),
    ),
)


@given(tick=ticks)
def test_a_tick_reads_as_the_engines_own_text(tick: WorkflowTick) -> None:
    written = compact.dump_tick(tick)

    assert written is not None
    read, expected = (ENGINES.deserialize(text) for text in (written, ENGINES.serialize(tick)))
    # Events compare without their undeclared fields, and exceptions by identity.
    assert (type(read), json.loads(ENGINES.serialize(read))) == (
        type(tick),
        json.loads(ENGINES.serialize(expected)),
    )
    assert getattr(read, "invocation_namespace", ()) == ()


def _a_result(event: Event, *sends: SentEvent) -> TickStepResult:
    result = [StepWorkerResult(result=event)]
    return TickStepResult(step_id=StepId.root("one"), worker_id=0, event=event, result=result, sends=list(sends))


EVERYDAY = [
    TickSessionStart(stamped_at=1.0),
    TickAddEvent(event=StartEvent(), stamped_at=1.0),
    TickAddEvent(event=Rich(name="x", more=[1]), stamped_at=1.0, emission=EmissionKey("abc", 1)),
    _a_result(Rich(name="x")),
    _a_result(StopEvent(result={"a": [1]}), SentEvent(index=0, event=Rich(), step_id=StepId.root("two"))),
]


@pytest.mark.parametrize("tick", EVERYDAY, ids=lambda tick: type(tick).__name__)
def test_everyday_ticks_are_written_shorter(tick: WorkflowTick) -> None:
    written = compact.dump_tick(tick)
    assert written is not None
    assert len(written) <= len(ENGINES.serialize(tick))


UNUSUAL = [
    TickCancelRun(),
    TickTimeout(timeout=1.0),
    TickAddEvent(event=Component()),
    TickAddEvent(event=Event(class_name="x")),
    _a_result(StartEvent()).model_copy(
        update={"result": [AddWaiter(waiter_id="a", event_type=Rich, requirements={"name": "x"})]}
    ),
]


@pytest.mark.parametrize("tick", UNUSUAL, ids=lambda tick: type(tick).__name__)
def test_what_is_unusual_is_left_to_the_engine(tick: WorkflowTick) -> None:
    assert compact.dump_tick(tick) is None


def test_what_cannot_be_written_is_left_to_the_engine_to_refuse() -> None:
    tick = TickAddEvent(event=Event(value=object()))
    assert compact.dump_tick(tick) is None
    with pytest.raises(NotSerializable, match="cannot be stored"):
        serialization.dump_tick(tick, ENGINES)


def test_a_serializer_of_the_workflows_own_writes_all_of_its_ticks() -> None:
    class Loud(JsonSerializer):
        def serialize(self, value: Any) -> str:
            return super().serialize(value).upper()

    tick = TickSessionStart(stamped_at=1.0)
    assert serialization.dump_tick(tick, ENGINES) == compact.dump_tick(tick)
    assert serialization.dump_tick(tick, Loud()).startswith('{"__IS_PYDANTIC"')
    assert serialization.dump_tick(tick, PickleSerializer()) == ENGINES.serialize(tick)


class Measured(Event):
    best: float
    each: list[float] = []
    inner: Inner | None = None
    note: str | None = None


INFINITE = Measured(
    best=-math.inf,
    each=[1.0, math.inf],
    inner=Inner(x=math.inf, more=[Inner(x=math.inf)]),
    loose=[{"a": math.inf}],
)


@pytest.mark.parametrize(
    "tick",
    [
        TickAddEvent(event=INFINITE, bound_events={"a": INFINITE}),
        _a_result(INFINITE, SentEvent(index=0, event=INFINITE)),
        _a_result(INFINITE).model_copy(update={"result": [AddCollectedEvent(event_id="a", event=INFINITE)]}),
    ],
)
def test_numbers_that_json_has_not_come_back(tick: WorkflowTick) -> None:
    """The engine writes null for them, and cannot read it."""
    with pytest.raises(ValidationError):
        ENGINES.deserialize(ENGINES.serialize(tick))

    read = serialization.load_tick(serialization.dump_tick(tick, ENGINES), ENGINES)

    found = [read.event, *_others(read)]
    assert [(one, one._data) for one in found] == [(INFINITE, INFINITE._data)] * len(found)
    assert len(found) > 1


def _others(tick: Any) -> list[Event]:
    if isinstance(tick, TickAddEvent):
        return list((tick.bound_events or {}).values())
    found = [result.event if isinstance(result, AddCollectedEvent) else result.result for result in tick.result]
    return [*found, *(sent.event for sent in tick.sends)]


def test_what_is_no_number_stays_one_in_an_event_that_is_sent() -> None:
    event = serialization.load_event(serialization.dump_event(Measured(best=math.nan), ENGINES), ENGINES)
    assert isinstance(event, Measured)
    assert math.isnan(event.best)
    assert event.note is None
