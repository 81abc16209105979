"""Events are written as pydantic writes them, whatever their class declares."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent, WorkflowFailedEvent

from django_workflows import declared


class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    at: datetime
    size: int = 1


class Plain(Event):
    at: float
    text: str | None = None


class Rich(Plain):
    colour: Colour = Colour.RED
    when: date = date(2026, 11, 30)
    span: timedelta = timedelta(seconds=90)
    price: Decimal = Decimal("1.10")
    key: UUID = UUID(int=7)
    raw: bytes = b"raw"
    names: set[str] = {"one"}
    pair: tuple[int, str] = (1, "two")
    anything: Any = None
    part: Part | None = None
    secret: SecretStr = SecretStr("secret")
    hidden: str = Field(default="hidden", exclude=True)
    renamed: int = Field(default=1, serialization_alias="other")


class Own(Plain):
    length: Annotated[float, PlainSerializer(lambda value: f"{value} m")] = 1.0

    @field_serializer("text")
    def shout(self, text: str | None) -> str:
        return (text or "").upper()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> float:
        return 2 * self.at


class Checked(Plain):
    @field_validator("text")
    @classmethod
    def check(cls, text: str | None) -> str | None:
        return text and text.strip()

    @model_validator(mode="after")
    def check_all(self) -> Checked:
        return self


class Constants(Plain):
    model_config = ConfigDict(ser_json_inf_nan="constants", ser_json_bytes="base64", ser_json_timedelta="float")
    raw: bytes = b"\xff"
    span: timedelta = timedelta(seconds=90)


class Extra(Plain):
    model_config = ConfigDict(extra="allow")


class Whole(Plain):
    @model_serializer(mode="plain")
    def whole(self) -> dict[str, Any]:
        return {"whole": self.at}


class ByHand(Plain):
    def model_dump(self, **options: Any) -> dict[str, Any]:
        return {"by": "hand"}

    def model_dump_json(self, **options: Any) -> str:
        return '{"by":"hand"}'


class Nested(Event):
    event: Event
    more: list[Plain] = []


class Tree(Event):
    leaf: int = 0
    trees: list[Tree] = []


NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
EVENTS: list[Event] = [
    StartEvent(),
    StartEvent(name="Ada"),
    StopEvent(),
    StopEvent(result={"a": [1, None]}),
    HumanResponseEvent(response="yes"),
    WorkflowFailedEvent(step_name="step", exception=ValueError("wrong")),
    Plain(at=1.5),
    Plain(at=math.nan),
    Plain(at=math.inf, text="é\u2028"),
    Plain(at=1.0, more="undeclared"),
    Rich(at=1.0, part=Part(at=NOW)),
    Rich(at=1.0, anything=[NOW, math.nan, {"deep": Colour.RED}]),
    Rich(at=1.0, anything=Part(at=NOW)),
    Rich(at=1.0, anything=Plain(at=2.0, more=1)),
    Own(at=1.0, text="a"),
    Checked(at=1.0, text=" a "),
    Constants(at=math.inf),
    Extra(at=1.0, beyond=[1]),
    Whole(at=1.0),
    ByHand(at=1.0),
    Nested(event=Plain(at=1.0, more=1), more=[Own(at=1.0)]),
    Tree(trees=[Tree(leaf=1), Tree(trees=[Tree(leaf=2)])]),
    Plain.model_construct(at="not a number"),
    # What cannot be written.
    Rich(at=1.0, anything=object()),
    Plain(at=1.0, text="half \ud800"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_events_are_written_as_pydantic_writes_them(event: Event) -> None:
    assert _outcome(lambda: declared.dump_json(event)) == _outcome(event.model_dump_json)
    # Here, numbers that JSON has not may be left as they are.
    ours, its = (_outcome(lambda: declared.dump(event)), _outcome(lambda: event.model_dump(mode="json")))
    assert _without_nan(ours) == _without_nan(its)


def _outcome(write: Callable[[], Any]) -> Any:
    try:
        return write()
    except Exception as error:
        return type(error)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    return [_without_nan(part) for part in value] if isinstance(value, list) else value


def test_most_events_are_written_without_a_function_of_python() -> None:
    """Else there would be no reason for all this."""
    found = [type(event) for event in EVENTS if declared._serializer(type(event)) is not None]
    assert {StartEvent, HumanResponseEvent, Plain, Rich, Own, Constants} <= set(found)
    assert not {StopEvent, Whole, ByHand} & set(found)


def test_what_changes_after_it_was_made_is_written_as_it_is() -> None:
    event = Plain(at=1.0)
    assert declared.dump_json(event) == '{"at":1.0,"text":null}'
    event.text = "changed"
    event.more = "undeclared"
    assert declared.dump(event) == {"at": 1.0, "text": "changed", "_data": {"more": "undeclared"}}
