"""The form of an event, made from its schema."""

from __future__ import annotations

import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any, Literal

import pytest
from django import forms
from django.utils import timezone
from pydantic import BaseModel, Field, model_validator
from workflows.events import Event, HumanResponseEvent, StartEvent

from django_workflows.admin.forms import UNDECLARED, EventForm, fields_of
from tests.browser.admin_workflows import Address, Decision, Order


def filled(event_class: type[Event], **values: Any) -> EventForm:
    """Return the form as a browser sends it when a person changes only these fields."""
    empty = EventForm(event_class)
    data: dict[str, Any] = {}
    for bound in empty:
        value = bound.value()
        if value not in (None, False):
            data[bound.html_name] = value
    for name, value in values.items():
        data[empty.add_prefix(name)] = value
        if value is None:
            del data[empty.add_prefix(name)]
    return EventForm(event_class, data)


def event(event_class: type[Event], **values: Any) -> Any:
    form = filled(event_class, **values)
    assert form.is_valid(), form.errors
    return form.event


def errors(event_class: type[Event], **values: Any) -> dict[str, list[str]]:
    form = filled(event_class, **values)
    assert not form.is_valid()
    assert form.event is None
    return {name: list(found) for name, found in form.errors.items()}


def test_what_is_left_alone_is_what_the_class_gives_by_default() -> None:
    assert event(Order, title="Menu", signed="true") == Order(title="Menu", signed=True)


def test_each_kind_of_field() -> None:
    found = event(
        Order,
        title="Menu",
        copies="7",
        weight="2.5",
        urgent="on",
        signed="false",
        paper='"Letter"',
        colour='"blue"',
        on="2026-03-01",
        at="2026-03-01T14:30:00",
        note="two\nlines",
        tags='["a", "b"]',
        address='{"street": "Main St", "city": "Springfield"}',
    )

    assert (found.copies, found.weight, found.urgent, found.signed) == (7, 2.5, True, False)
    assert (found.paper, found.colour, found.note) == ("Letter", "blue", "two\nlines")
    assert found.on == datetime.date(2026, 3, 1)
    assert found.at == timezone.make_aware(datetime.datetime(2026, 3, 1, 14, 30))
    assert found.tags == ["a", "b"]
    assert found.address == Address(street="Main St", city="Springfield")


def test_the_fields_look_as_they_should() -> None:
    form = EventForm(Order)

    kinds = {name: type(field.widget).__name__ for name, field in form.fields.items()}
    assert kinds["title"] == "TextInput"
    assert kinds["copies"] == "NumberInput"
    assert kinds["urgent"] == "CheckboxInput"
    assert kinds["signed"] == "RadioSelect", "nobody says no by forgetting a tick"
    assert kinds["paper"] == kinds["colour"] == "Select"
    html = str(form)
    assert 'type="date"' in html
    assert 'type="datetime-local"' in html
    assert 'max="99"' in html
    assert "What it is called." in html
    assert [name for name, field in form.fields.items() if field.required] == ["title", "signed"]
    assert ("", "---------") not in form.fields["paper"].choices
    assert ("", "---------") in form.fields["colour"].choices


def test_errors_stand_by_the_field() -> None:
    assert errors(Order, title="Menu") == {"signed": ["This field is required."]}
    assert list(errors(Order, title="x" * 41, copies="100", signed="true")) == ["title", "copies"]
    good = {"title": "Menu", "signed": "true"}
    assert errors(Order, title="menu", signed="true") == {"title": ["a title begins with a capital letter"]}
    assert errors(Order, **good, weight="0") == {"weight": ["Input should be greater than 0"]}
    assert errors(Order, **good, tags="[1]") == {"tags": ["0: Input should be a valid string"]}
    assert errors(Order, **good, tags="[")["tags"] == ["Enter a valid JSON."]
    assert "city: Field required" in errors(Order, **good, address='{"street": "x"}')["address"]
    assert list(errors(Order, **good, paper='"A5"')) == ["paper"]
    assert list(errors(Order, title="Menu", signed="maybe")) == ["signed"]


def test_what_is_emptied() -> None:
    # The default is "none", so an emptied field is no text at all.
    assert event(Order, title="Menu", signed="true", note="").note is None
    assert event(Order, title="Menu", signed="true", copies="").copies == 1
    assert event(Order, title="Menu", signed="true", tags="[]").tags == []
    assert event(Decision, approve="true", note="").note == ""


def test_a_decision_that_is_not_made_is_not_sent() -> None:
    assert errors(Decision) == {"approve": ["This field is required."]}
    assert event(Decision, approve="false").approve is False


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Odd(StartEvent):
    """What schemas have besides."""

    level: Level
    either: int | str = 3
    price: Decimal = Decimal("1.50")
    when: datetime.time | None = None
    fixed: Literal["only"] = "only"
    ready: bool | None
    limited: Annotated[int, Field(ge=0)] | None = None
    anything: Any = None
    mapping: dict[str, int] = {}

    @model_validator(mode="after")
    def fits_together(self) -> Odd:
        if self.level == Level.HIGH and self.limited == 0:
            raise ValueError("high and zero do not go together")
        return self


def test_odd_schemas() -> None:
    found = event(Odd, level="2", either='"x"', price='"2.25"', when="08:30:00", ready="", limited="5")

    assert (found.level, found.either, found.price) == (Level.HIGH, "x", Decimal("2.25"))
    assert (found.when, found.ready, found.limited) == (datetime.time(8, 30), None, 5)
    assert event(Odd, level="1", ready="true").ready is True
    assert event(Odd, level="1", ready="", mapping='{"a": 1}').mapping == {"a": 1}
    assert errors(Odd, level="2", limited="0", ready="") == {"__all__": ["high and zero do not go together"]}


def test_an_answer_of_no_class_in_particular() -> None:
    assert event(HumanResponseEvent, response="Grace").response == "Grace"
    found = event(HumanResponseEvent, response="Grace", **{UNDECLARED: '{"age": 3}'})
    assert (found.response, found.age) == ("Grace", 3)
    assert UNDECLARED in errors(HumanResponseEvent, **{UNDECLARED: "[1]"})
    assert event(StartEvent, **{UNDECLARED: '{"a": 1}'}).a == 1
    assert fields_of(event(StartEvent)) == {}


class Strange:
    """No pydantic type."""


class Unknown(StartEvent):
    model_config = {"arbitrary_types_allowed": True}

    strange: Strange | None = None
    name: str = "x"


def test_a_field_that_no_schema_describes() -> None:
    assert event(Unknown, name="y").name == "y"
    assert "strange" in errors(Unknown, strange='{"a": 1}')


class Nested(StartEvent):
    inner: Inner
    hidden: str = Field("h", alias="shown")


class Inner(BaseModel):
    again: list[Inner] = []


Nested.model_rebuild()


def test_a_schema_that_refers_to_itself() -> None:
    assert event(Nested, inner='{"again": [{"again": []}]}').inner.again[0].again == []


def test_a_form_begins_with_what_a_run_had() -> None:
    order = Order(
        title="Menu", signed=False, on=datetime.date(2026, 3, 1), colour="blue", tags=["a"], note=None, urgent=True
    )
    form = EventForm(Order, initial=fields_of(order))
    data = {bound.html_name: bound.value() for bound in form if bound.value() not in (None, False)}

    again = EventForm(Order, data)

    assert again.is_valid(), again.errors
    assert again.event == order


@pytest.mark.parametrize("value", ["NaN", "1e999", "x", "1,5"])
def test_numbers_that_are_none(value: str) -> None:
    assert list(errors(Order, title="Menu", signed="true", weight=value)) == ["weight"]


def test_a_value_that_no_form_sends_is_no_crash() -> None:
    form = EventForm(Order, {"Order-title": ["a"], "Order-address": "[" * 5000, "Order-signed": "\x00"})
    assert not form.is_valid()
    assert isinstance(form.fields["address"], forms.JSONField)
