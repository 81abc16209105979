from __future__ import annotations

import datetime
import decimal
import enum
import json
import sys
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_agents.client.protocol.serializable_events import (
    EventEnvelope,
    EventEnvelopeWithMetadata,
    EventValidationError,
)
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_serializer
from workflows import Context, Workflow, step
from workflows.context import JsonSerializer, PickleSerializer
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepState,
    StepStateChanged,
    StopEvent,
    UnhandledEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowIdleEvent,
    WorkflowTimedOutEvent,
)
from workflows.runtime.types.results import (
    AddCollectedEvent,
    AddWaiter,
    SentEvent,
    StepWorkerFailed,
    StepWorkerResult,
)
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent, TickCancelRun, TickStepResult, TickTimeout

from django_workflows import serialization
from django_workflows.exceptions import InvalidEvent, NotSerializable
from django_workflows.registry import Served


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: float
    y: float = Field(default=0.0, alias="why")


class Begin(StartEvent):
    name: str
    times: int = Field(default=1, ge=0)


class Step(Event):
    number: int


class HalfStep(Step):
    pass


class Answer(HumanResponseEvent):
    text: str


class Undeclared(Event):
    pass


class State(BaseModel):
    count: int = 0


class Everything(Event):
    when: datetime.datetime
    date: datetime.date
    span: datetime.timedelta
    amount: decimal.Decimal
    id: uuid.UUID
    color: Color
    point: Point
    inner: Step
    members: set[int]
    pairs: dict[int, tuple[str, float]]
    nothing: None
    data: bytes


class Lenient(Event):
    """A class that would write what is no JSON."""

    model_config = ConfigDict(ser_json_inf_nan="constants")
    number: float


class Done(StopEvent):
    total: int


class Counting(Workflow):
    @step
    async def first(self, ctx: Context[State], ev: Begin) -> HalfStep | Step:
        return Step(number=1)

    @step
    async def second(self, ev: HalfStep | Step) -> Done:
        return Done(total=1)


def serve(workflow: Workflow | None = None, additional: tuple[type[Event], ...] = (Answer,)) -> Served:
    return Served("counting", workflow or Counting(), additional)


@pytest.fixture
def served() -> Served:
    return serve()


@pytest.fixture
def serializer(served: Served) -> Any:
    return serialization.serializer(served)


EVENTS = [
    Event(),
    Event(text="hello", number=1, list=[1, [2, None]], nested={"a": {"b": True}}),
    Begin(name="Ada"),
    Begin(name="Ada", note="extra"),
    HalfStep(number=3),
    Everything(
        when=datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC),
        date=datetime.date(2026, 1, 2),
        span=datetime.timedelta(hours=1.5),
        amount=decimal.Decimal("1.10"),
        id=uuid.UUID(int=1),
        color=Color.RED,
        point=Point(x=1e22, why=-0.0),
        inner=Step(number=1, note="within"),
        members={1},
        pairs={1: ("a", 0.1)},
        nothing=None,
        data=b"bytes",
    ),
    Event(point=Point(x=1), inner=Step(number=1), when=datetime.date(2026, 1, 2), keys={1: 2, None: 3, False: 4}),
    Event(quoted='"\\/\b\f\n\r\t', control="\x00\x1f\x7f", high="é漢😀\ufeff\uffff"),
    Event(big=10**40, small=5e-324, whole=1e16, negative=-0.0),
    Event(nan=float("nan"), plus=float("inf"), minus=float("-inf")),
    Event(text="NaN and Infinity"),
    Lenient(number=float("nan")),
    Lenient(number=float("-inf")),
    StopEvent(),
    StopEvent(result={"answer": [42]}),
    StopEvent(result=Step(number=1)),
    StopEvent(result=Point(x=1.5)),
    StopEvent(result=None),
    Done(total=3),
    InputRequiredEvent(prefix="name?"),
    HumanResponseEvent(response="Ada"),
    Answer(text="yes"),
    WorkflowFailedEvent(step_name="first", exception=ValueError("no"), attempts=2, elapsed_seconds=0.5),
    WorkflowTimedOutEvent(timeout=1.5, active_steps=["first"]),
    WorkflowCancelledEvent(),
    WorkflowIdleEvent(),
    StepStateChanged(
        name="first", step_state=StepState.RUNNING, worker_id="0", input_event_name="Begin", output_event_name=None
    ),
    UnhandledEvent(event_type="Answer", qualified_name="a.Answer", step_name=None, idle=True),
]


# --- the envelope --------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_envelope_is_the_references_to_the_byte(event: Event) -> None:
    expected = EventEnvelopeWithMetadata.from_event(event).model_dump_json()

    assert serialization.envelope(event).data == expected


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u0085\u2028\u2029")),
    lambda children: st.lists(children) | st.dictionaries(st.text('abc"\\\n é漢'), children),
    max_leaves=20,
)


@given(fields=st.dictionaries(st.text("abcdefgh"), json_values), result=json_values)
def test_the_envelope_is_the_references_for_any_value(fields: dict[str, Any], result: Any) -> None:
    for event in (Event(data=fields), StopEvent(result=result)):
        expected = EventEnvelopeWithMetadata.from_event(event).model_dump_json()
        assert serialization.envelope(event).data == expected


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_envelope_without_the_qualified_name_is_the_references_too(event: Event) -> None:
    expected = EventEnvelopeWithMetadata.from_event(event, include_qualified_name=False).model_dump_json()

    assert serialization.without_qualified_name(serialization.envelope(event).data) == expected


def test_the_envelope_names_the_class() -> None:
    found = serialization.envelope(HalfStep(number=1))

    assert found.type == "HalfStep"
    assert json.loads(found.data) == {
        "value": {"number": 1},
        "qualified_name": f"{__name__}.HalfStep",
        "type": "HalfStep",
        "types": ["Step"],
    }


def test_internal_events_are_told_apart() -> None:
    assert serialization.envelope(WorkflowIdleEvent()).internal
    assert not serialization.envelope(WorkflowCancelledEvent()).internal


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085"])
def test_nothing_breaks_the_line(character: str) -> None:
    """The published client splits a stream with str.splitlines()."""
    event = Event(**{"text": f"a{character}b", f"key{character}": 1})
    data = serialization.envelope(event).data

    for text in (data, serialization.without_qualified_name(data)):
        assert text.splitlines() == [text]
        assert json.loads(text)["value"] == event.model_dump(mode="json")


def test_every_character_below_a_space_is_escaped() -> None:
    data = serialization.envelope(Event(text="".join(map(chr, range(32))))).data

    assert data.splitlines() == [data]
    assert "\x00" not in data


def test_half_a_surrogate_pair_is_replaced() -> None:
    data = serialization.envelope(StopEvent(result={"text": "a\ud800b\udfffc😀", "nan": float("nan")})).data

    data.encode()
    assert json.loads(data)["value"] == {"result": {"text": "a\ufffdb\ufffdc😀", "nan": None}}


@pytest.mark.parametrize(
    "event",
    [
        Lenient(number=float("nan")),
        Event(nan=float("nan"), half="\ud800"),
        Lenient(number=1, half="\ud800", x=[float("inf")]),
    ],
)
def test_the_envelope_is_json_that_browsers_read(event: Event) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(serialization.envelope(event).data, parse_constant=refuse)


@pytest.mark.parametrize("value", [object(), b"\xff", lambda: None, {"a": {object()}}])
def test_what_has_no_json(value: Any) -> None:
    with pytest.raises(NotSerializable, match="StopEvent cannot be written as JSON"):
        serialization.envelope(StopEvent(result=value))


@pytest.mark.parametrize(
    ("text", "expected"), [("plain", "plain"), ("a\x00b", "a\ufffdb"), ("a\ud800b", "a\ufffdb"), ("😀", "😀")]
)
def test_texts_are_made_storable(text: str, expected: str) -> None:
    assert serialization.storable(text) == expected


# --- the journal ---------------------------------------------------------------------------------------


def step_result(*results: Any, sends: tuple[SentEvent, ...] = ()) -> TickStepResult:
    return TickStepResult(
        step_id=StepId.root("first"), worker_id=0, event=Begin(name="Ada"), result=list(results), sends=list(sends)
    )


TICKS = [
    TickAddEvent(event=Begin(name="Ada", note="\u2028\x00\ud800"), stamped_at=1.5),
    TickAddEvent(event=Answer(text="yes"), step_id=StepId.root("first")),
    TickAddEvent(event=HumanResponseEvent(response="yes")),
    TickCancelRun(),
    TickTimeout(timeout=1.5, stamped_at=2.5),
    step_result(StepWorkerResult(result=HalfStep(number=1))),
    step_result(StepWorkerResult(result=None)),
    step_result(StepWorkerResult(result=Done(total=1)), sends=(SentEvent(index=0, event=Step(number=2)),)),
    step_result(
        AddWaiter(waiter_id="w", event_type=Answer, waiter_event=InputRequiredEvent(prefix="?"), timeout=3)
    ),
    step_result(AddCollectedEvent(event_id="c", event=Step(number=1))),
]


@pytest.mark.parametrize("tick", TICKS, ids=lambda tick: type(tick).__name__)
def test_a_tick_comes_back_as_it_was(tick: Any, serializer: Any) -> None:
    data = serialization.dump_tick(tick, serializer)

    data.encode()
    assert "\x00" not in data
    found = serialization.load_tick(data, serializer)
    assert type(found) is type(tick)
    assert found.model_dump() == tick.model_dump()


def test_a_failure_comes_back_with_its_message(serializer: Any) -> None:
    tick = step_result(StepWorkerFailed(exception=ValueError("no"), failed_at=1.0))

    (found,) = serialization.load_tick(serialization.dump_tick(tick, serializer), serializer).result
    assert isinstance(found.exception, ValueError)
    assert str(found.exception) == "no"


@pytest.mark.parametrize(
    "tick",
    [
        TickAddEvent(event=Undeclared()),
        step_result(StepWorkerResult(result=Undeclared())),
        step_result(StepWorkerResult(result=None), sends=(SentEvent(index=0, event=Undeclared()),)),
        step_result(AddWaiter(waiter_id="w", event_type=Undeclared)),
        step_result(AddWaiter(waiter_id="w", event_type=Answer, waiter_event=Undeclared())),
        step_result(AddCollectedEvent(event_id="c", event=Undeclared())),
    ],
)
def test_a_class_that_could_not_be_found_again_is_refused_at_once(tick: Any, serializer: Any) -> None:
    with pytest.raises(NotSerializable, match=rf"{__name__}.Undeclared is not declared .* additional_events"):
        serialization.dump_tick(tick, serializer)


def test_a_class_of_the_same_name_is_not_taken_for_it(serializer: Any) -> None:
    impostor = type("Step", (Event,), {"__module__": __name__})

    with pytest.raises(NotSerializable, match="not declared"):
        serialization.dump_tick(TickAddEvent(event=impostor()), serializer)


def test_a_declared_class_need_not_be_importable() -> None:
    class Local(Event):
        number: int

    using = serialization.serializer(serve(additional=(Local,)))
    found = serialization.load_tick(serialization.dump_tick(TickAddEvent(event=Local(number=3)), using), using)

    assert type(found.event) is Local


def test_a_tick_with_a_value_that_has_no_json(serializer: Any) -> None:
    with pytest.raises(NotSerializable, match="TickStepResult cannot be stored"):
        serialization.dump_tick(step_result(StepWorkerResult(result=Step(number=1, file=object()))), serializer)


# --- start events and mail ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event", [Begin(name="\ud800\x00\u2028"), Answer(text="yes", more={"a": [1]}), StartEvent(a=1)]
)
def test_an_event_comes_back_as_it_was(event: Event, serializer: Any) -> None:
    data = serialization.dump_event(event, serializer)

    data.encode()
    assert "\x00" not in data
    found = serialization.load_event(data, serializer)
    assert type(found) is type(event)
    assert found.model_dump() == event.model_dump()


@pytest.mark.parametrize("event", [Undeclared(), Answer(text="", file=object()), Answer(text="", **{"\ud800": 1})])
def test_an_event_that_cannot_be_stored_is_the_senders_mistake(event: Event, serializer: Any) -> None:
    with pytest.raises(InvalidEvent):
        serialization.dump_event(event, serializer)


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", f"{__name__}.Undeclared", "builtins.eval"])
def test_nothing_is_rebuilt_by_a_name_that_is_not_declared(name: str, serializer: Any) -> None:
    data = json.dumps({"__is_pydantic": True, "value": {}, "qualified_name": name})

    with pytest.raises(ValueError, match="not in the serializer's allowed types"):
        serialization.load_event(data, serializer)
    with pytest.raises(ValueError, match="allowed types"):
        serialization.load_tick(json.dumps({"type": "add_event", "event": json.loads(data)}), serializer)


def test_no_module_is_imported_for_a_stored_name(serializer: Any) -> None:
    data = json.dumps({"__is_component": True, "value": {}, "qualified_name": "antigravity.Event"})

    waiter = {"type": "add_waiter", "waiter_id": "w", "event_type": "antigravity.Event"}
    event = json.loads(serialization.dump_event(Begin(name="Ada"), serializer))
    tick = {"type": "step_result", "step_id": "first", "worker_id": 0, "event": event, "result": [waiter]}

    with pytest.raises(ValueError, match="allowed types"):
        serialization.load_event(data, serializer)
    with pytest.raises(ValueError, match="allowed types"):
        serialization.load_tick(json.dumps(tick), serializer)
    assert "antigravity" not in sys.modules


class WithAlias(StartEvent):
    name: str = Field(alias="title")


class WithExcluded(StartEvent):
    name: str = Field(default="", exclude=True)


class WithOwnWriting(StartEvent):
    number: float

    @field_serializer("number")
    def rounded(self, number: float) -> int:
        return round(number)


class WithMemory(StartEvent):
    _seen: int = PrivateAttr(default=0)


@pytest.mark.parametrize("cls", [WithAlias, WithExcluded, WithOwnWriting, WithMemory])
def test_what_would_not_come_back_as_it_is_is_read_from_the_start(cls: type[StartEvent]) -> None:
    """A run shall see before a crash what it sees after it."""
    assert not serialization.is_written_whole(cls)
    assert serialization.is_written_whole(StartEvent)
    assert serialization.is_written_whole(Begin)


@pytest.mark.parametrize("data", ["{}", "[1]", "null", '"text"'])
def test_what_is_stored_must_be_an_event(data: str, serializer: Any) -> None:
    with pytest.raises(NotSerializable, match="expected a stored event"):
        serialization.load_event(data, serializer)


# --- the serializer ------------------------------------------------------------------------------------


def test_state_is_rebuilt(serializer: Any) -> None:
    assert serializer.deserialize(serializer.serialize(State(count=3))) == State(count=3)


def test_there_is_one_serializer_for_each_served_workflow(served: Served) -> None:
    assert serialization.serializer(served) is serialization.serializer(served)


def test_two_names_for_one_workflow_have_their_own_events() -> None:
    workflow = Counting()
    plain, more = serve(workflow, ()), serve(workflow, (Undeclared,))
    tick = TickAddEvent(event=Undeclared())

    serialization.dump_tick(tick, serialization.serializer(more))
    with pytest.raises(NotSerializable):
        serialization.dump_tick(tick, serialization.serializer(plain))


def test_an_allow_list_of_the_workflow_is_extended() -> None:
    class Extra(BaseModel):
        number: int

    using = serialization.serializer(serve(Counting(serializer=JsonSerializer(allowed_types=[Extra]))))

    for value in (Extra(number=1), Begin(name="Ada"), Answer(text="yes"), State(count=1)):
        assert using.deserialize(using.serialize(value)) == value


def test_the_workflows_own_serializer_is_used() -> None:
    pickling = PickleSerializer()
    served = serve(Counting(serializer=pickling))

    assert serialization.serializer(served) is pickling
    assert serialization.reads_pickle(served)
    assert not serialization.reads_pickle(serve())
    event = Answer(text="yes", data=range(3))
    assert serialization.load_event(serialization.dump_event(event, pickling), pickling)["data"] == range(3)


# --- from outside --------------------------------------------------------------------------------------

NAMES = ["Begin", "Step", "HalfStep", "Done", "Answer", "Undeclared", "Nothing", "", None, 3]
QUALIFIED = [f"{__name__}.{name}" for name in ("Begin", "Answer", "Undeclared")] + ["os.system", "x", "", None, 3]
VALUES = [
    {},
    {"name": "Ada"},
    {"name": "Ada", "times": 2, "more": [1]},
    {"name": "Ada", "times": -1},
    {"text": "yes"},
    {"number": "4"},
    {"_data": {"a": 1}},
    None,
    [],
    "text",
    '{"name": "Ada"}',
    3,
]
POSTED: list[Any] = [
    *VALUES,
    *[{"type": name, "value": value} for name in NAMES for value in VALUES],
    *[{"type": name, "data": value} for name in NAMES[:5] for value in VALUES],
    *[{"qualified_name": name, "value": value} for name in QUALIFIED for value in VALUES],
    *[{"type": name, "qualified_name": qualified, "value": {}} for name in NAMES for qualified in QUALIFIED],
    *[{"type": name, **value} for name in NAMES for value in VALUES[:7]],  # type: ignore[dict-item]
    {"value": {"name": "Ada"}},
    {"type": "Begin"},
    "{",
    "[]",
    '"\\ud800"',
    True,
    1.5,
]
POSTED += [json.dumps(posted) for posted in POSTED if isinstance(posted, dict)]


def reference(data: Any, served: Served, explicit: type[Event] | None = None) -> Event | None:
    """Return what the reference reads, None when it refuses."""
    try:
        return EventEnvelope.parse(data, served.events, explicit_event=explicit)
    except (EventValidationError, Exception):
        return None


def test_posted_events_are_read_as_the_reference_does(served: Served) -> None:
    accepted = 0
    for data in POSTED:
        expected = reference(data, served)
        if expected is None:
            with pytest.raises(InvalidEvent):
                serialization.parse_event(data, served)
        else:
            found = serialization.parse_event(data, served)
            assert (type(found), found.model_dump()) == (type(expected), expected.model_dump()), data
            accepted += 1
    assert accepted > 20


def test_start_events_are_read_as_the_reference_does(served: Served) -> None:
    accepted = 0
    for data in POSTED:
        if data is None:
            continue
        expected = reference(data, served, Begin)
        if not isinstance(expected, Begin):
            with pytest.raises(InvalidEvent):
                serialization.parse_start_event(data, served)
        else:
            found = serialization.parse_start_event(data, served)
            assert (type(found), found.model_dump()) == (type(expected), expected.model_dump()), data
            accepted += 1
    assert accepted > 20


def test_no_start_event_is_an_empty_one(served: Served) -> None:
    class Optional(Workflow):
        @step
        async def first(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    assert type(serialization.parse_start_event(None, serve(Optional()))) is StartEvent
    with pytest.raises(InvalidEvent, match="name"):
        serialization.parse_start_event(None, served)


def test_a_start_event_of_another_class(served: Served) -> None:
    with pytest.raises(InvalidEvent, match="Start event must be an instance of Begin, got Step"):
        serialization.parse_start_event({"type": "Step", "value": {"number": 1}}, served)


def test_nesting_without_end(served: Served) -> None:
    deep = '{"type": "Answer", "value": ' + '{"a": ' * 100_000 + "1" + "}" * 100_000 + "}"

    with pytest.raises(InvalidEvent, match="nested too deeply"):
        serialization.parse_event(deep, served)
    with pytest.raises(InvalidEvent, match="nested too deeply"):
        serialization.parse_start_event(deep, served)


def test_a_number_of_many_digits(served: Served) -> None:
    with pytest.raises(InvalidEvent):
        serialization.parse_event('{"type": "Answer", "value": {"text": ' + "9" * 10_000 + "}}", served)


@pytest.mark.parametrize(
    ("sent", "apart_from", "expected"),
    [
        ('{"value": {"a": 1, "id": "x"}}', set(), True),
        ('{"value":{"a":1,"id":"x"}}', set(), True),
        ('{"value":{"a":1,"id":"y"}}', set(), False),
        ('{"value":{"a":1,"id":"y"}}', {"id"}, True),
        ('{"value":{"a":1}}', {"id"}, True),
        ('{"value":{"a":2,"id":"x"}}', {"id"}, False),
        ('{"value":{"a":true,"id":"x"}}', {"id"}, False),
        ('{"value":{"a":1.0,"id":"x"}}', set(), False),
        ("of a serializer's own", {"id"}, False),
    ],
)
def test_what_is_sent_again_is_told_from_something_else(sent: str, apart_from: set[str], expected: bool) -> None:
    """Whatever white space is in it: that of a text is its writer's."""
    stored = '{"value": {"a": 1, "id": "x"}}'

    assert serialization.is_same(stored, sent, apart_from=frozenset(apart_from)) is expected
