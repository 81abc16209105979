"""A Django form for an event, made from the JSON schema of its class.

Text, numbers, yes or no, one of several, dates and times have fields of their own; what is nested is written as
JSON. Whether the values fit together is asked of the class itself, and what it says stands by the field.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from workflows.events import Event, HumanResponseEvent

from django_workflows import serialization

# The field for what a class does not declare; no name in Python is like it.
UNDECLARED = "other fields"
# What stands for "nothing chosen"; the values of choices are JSON, which this is not.
NOTHING = ""


class _LenientSchema(GenerateJsonSchema):
    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


class EventForm(forms.Form):
    """Asks for the fields of an event; when it is valid, ``event`` is one.

    Args:
        event_class: what is asked for.
        initial: the fields of an event to begin with; what the class gives by default otherwise.
    """

    required_css_class = "required"

    def __init__(self, event_class: type[Event], *args: Any, initial: dict[str, Any] | None = None, **kwargs: Any):
        self.event_class = event_class
        self.event: Event | None = None
        kwargs.setdefault("prefix", event_class.__name__)
        super().__init__(*args, **kwargs)
        schema = event_class.model_json_schema(by_alias=False, schema_generator=_LenientSchema)
        self._schemas = {name: _resolved(one, schema) for name, one in schema.get("properties", {}).items()}
        self._required = set(schema.get("required", ()))
        known = dict(initial or {})
        for name, one in self._schemas.items():
            begin = known.pop(name, one.get("default"))
            self.fields[name] = _field(name, one, begin, name in self._required)
        if not self._schemas:
            self._add_undeclared(known)

    def _add_undeclared(self, known: dict[str, Any]) -> None:
        """An event without declared fields takes any; people's answers have a ``response`` by custom."""
        if issubclass(self.event_class, HumanResponseEvent):
            response = known.pop("response", "")
            if not isinstance(response, str):
                response, known["response"] = "", response
            self.fields["response"] = forms.CharField(
                label=_("Response"), required=False, initial=response, widget=_text_area(2)
            )
        self.fields[UNDECLARED] = _JSON(
            label=_("Fields") if len(self.fields) == 0 else _("Other fields"),
            required=False,
            initial=known or None,
            help_text=_("A JSON object; empty for none."),
            widget=_text_area(3, is_code=True),
            encoder=_Encoder,
        )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        other = cleaned.get(UNDECLARED)
        if other is not None and not isinstance(other, dict):
            self.add_error(UNDECLARED, _("Write a JSON object, as in {“name”: “Ada”}."))
            return cleaned
        value = {**(other or {}), **self._values(cleaned)}
        try:
            self.event = self.event_class.model_validate(value)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                self._add(item)
        except (TypeError, ValueError, RecursionError) as problem:
            self.add_error(None, str(problem))
        return cleaned

    def _values(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        """Return what was entered; what was left empty is left to the class, or null."""
        found = {}
        for name, schema in self._schemas.items():
            value: Any = cleaned.get(name)
            if isinstance(self.fields[name], forms.TypedChoiceField):
                if value == NOTHING:
                    value = None
                else:
                    value = json.loads(value)
                    found[name] = value
                    continue
            if value is not None and value != "":
                found[name] = value
            elif schema.get("nullable") and (name in self._required or schema.get("default") is not None):
                found[name] = None
            elif value == "" and schema.get("default"):
                # Emptied on purpose.
                found[name] = ""
        response = cleaned.get("response")
        if response and "response" not in self._schemas:
            found["response"] = response
        return found

    def _add(self, item: Any) -> None:
        """Put what the class says to the field that it is about."""
        where = [str(part) for part in item["loc"]]
        message = item["msg"].removeprefix("Value error, ")
        if where and where[0] in self.fields:
            inside = ".".join(where[1:])
            self.add_error(where[0], f"{inside}: {message}" if inside else message)
        else:
            self.add_error(None, f"{'.'.join(where)}: {message}" if where else message)


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Return a property's schema with ``$ref`` followed and "or null" turned into ``nullable``."""
    schema = dict(schema)
    for _step in range(10):
        if "$ref" in schema:
            name = schema.pop("$ref").rsplit("/", 1)[-1]
            schema = {**root.get("$defs", {}).get(name, {}), **schema}
        elif len(schema.get("allOf", ())) == 1:
            (one,) = schema.pop("allOf")
            schema = {**one, **schema}
        elif "anyOf" in schema:
            choices = [one for one in schema["anyOf"] if one.get("type") != "null"]
            if len(choices) < len(schema["anyOf"]):
                schema["nullable"] = True
            if len(choices) != 1:
                return schema
            del schema["anyOf"]
            schema = {**choices[0], **schema}
        else:
            break
    return schema


def _field(name: str, schema: dict[str, Any], begin: Any, required: bool) -> forms.Field:
    kind, form = schema.get("type"), schema.get("format")
    nullable = bool(schema.get("nullable"))
    common: dict[str, Any] = {
        "label": schema.get("title") or name.replace("_", " ").capitalize(),
        "help_text": schema.get("description", ""),
        "required": required and not nullable,
        "initial": begin,
    }
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices is not None and kind not in ("object", "array"):
        return _choice(choices, common, nullable)
    if kind == "boolean":
        if not nullable and isinstance(begin, bool) and not required:
            return forms.BooleanField(**{**common, "required": False})
        return _yes_or_no(common, nullable)
    if kind == "integer":
        return forms.IntegerField(
            min_value=schema.get("minimum"), max_value=schema.get("maximum"), localize=False, **common
        )
    if kind == "number":
        return forms.FloatField(
            min_value=schema.get("minimum"),
            max_value=schema.get("maximum"),
            widget=forms.NumberInput(attrs={"step": "any"}),
            **common,
        )
    if kind == "string":
        return _text(schema, form, common)
    common["help_text"] = " ".join(filter(None, [common["help_text"], _("Written as JSON.")]))
    return _JSON(widget=_text_area(4, is_code=True), encoder=_Encoder, **common)


class _JSON(forms.JSONField):
    # An empty list is an answer.
    empty_values = [None, ""]

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except RecursionError:
            raise forms.ValidationError(_("It is nested too deeply.")) from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except RecursionError:
            return forms.fields.InvalidJSONInput(data)

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class _Encoder(json.JSONEncoder):
    """JSON with line breaks, for people."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "indent": 2, "ensure_ascii": False})


def _choice(choices: list[Any], common: dict[str, Any], nullable: bool) -> forms.Field:
    begin = common.pop("initial")
    offered = [(json.dumps(choice), str(choice)) for choice in choices]
    if nullable or begin is None:
        offered.insert(0, (NOTHING, "---------"))
    initial = NOTHING if begin is None else json.dumps(begin)
    return forms.TypedChoiceField(choices=offered, initial=initial, empty_value=NOTHING, **common)


def _yes_or_no(common: dict[str, Any], nullable: bool) -> forms.Field:
    """A required answer that nobody gives by forgetting to tick a box."""
    begin = common.pop("initial")
    offered = [("true", gettext_lazy("Yes")), ("false", gettext_lazy("No"))]
    if nullable:
        offered.append((NOTHING, gettext_lazy("Not said")))
    initial = NOTHING if begin is None else json.dumps(begin)
    return forms.TypedChoiceField(
        choices=offered, initial=initial, empty_value=NOTHING, widget=forms.RadioSelect, **common
    )


def _text(schema: dict[str, Any], form: str | None, common: dict[str, Any]) -> forms.Field:
    begin = common["initial"]
    if form == "date-time":
        common["initial"] = _local(begin)
        return forms.DateTimeField(widget=_Moment(), **common)
    if form == "date":
        return forms.DateField(widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}), **common)
    if form == "time":
        return forms.TimeField(widget=forms.TimeInput(attrs={"type": "time", "step": "1"}), **common)
    longest = schema.get("maxLength")
    widget = forms.TextInput(attrs={"class": "vTextField"}) if longest and longest <= 200 else _text_area(2)
    return forms.CharField(
        min_length=schema.get("minLength"), max_length=longest, strip=False, widget=widget, **common
    )


class _Moment(forms.DateTimeInput):
    """A date with a time, in the site's time zone."""

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M:%S", attrs={"type": "datetime-local", "step": "1"})


def _local(value: Any) -> Any:
    moment = parse_datetime(value) if isinstance(value, str) else value
    if isinstance(moment, datetime.datetime) and timezone.is_aware(moment):
        return timezone.localtime(moment)
    return moment


def _text_area(rows: int, *, is_code: bool = False) -> forms.Textarea:
    return forms.Textarea(
        attrs={"rows": rows, "class": "vLargeTextField wf-code" if is_code else "vLargeTextField"}
    )


def fields_of(event: Event) -> dict[str, Any]:
    """Return an event's fields as a form begins with them."""
    # Half a surrogate pair is no text that a page could hold.
    fields: dict[str, Any] = json.loads(serialization.storable(event.model_dump_json()))
    return {**{name: value for name, value in fields.items() if name != "_data"}, **fields.get("_data", {})}
