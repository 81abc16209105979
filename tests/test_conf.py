from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_workflows import conf


def test_defaults_without_the_setting(settings: Any) -> None:
    del settings.DJANGO_WORKFLOWS

    assert conf.problems() == []
    assert conf.get().IDLE_TIMEOUT == 60.0
    assert conf.get().SSE_HEARTBEAT_INTERVAL == 25.0
    assert conf.get().PERSISTENCE_BACKOFF == (0.5, 3.0)
    assert conf.get().ACCEPT_CONTEXT_API is False
    assert conf.get().EXECUTE is True
    assert conf.get().DATABASE == "default"
    assert conf.get().WORKFLOWS == {}


def test_a_change_is_seen_at_the_next_use(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {"IDLE_TIMEOUT": 5}
    assert conf.get().IDLE_TIMEOUT == 5.0

    settings.DJANGO_WORKFLOWS = {"IDLE_TIMEOUT": None}
    assert conf.get().IDLE_TIMEOUT is None


def test_a_path_is_the_short_form_of_an_entry(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {
        "WORKFLOWS": {
            "short": "shop.flows.Greeting",
            "long": {"workflow": "shop.flows.Greeting", "additional_events": ["shop.flows.Answer"]},
            "guarded": {"workflow": "shop.flows.Greeting", "permission_classes": ["shop.flows.Refuse"]},
        }
    }

    short, long, guarded = conf.get().WORKFLOWS.values()
    assert guarded.permission_classes == ("shop.flows.Refuse",)
    assert (short.workflow, short.additional_events) == ("shop.flows.Greeting", ())
    assert (long.workflow, long.additional_events) == ("shop.flows.Greeting", ("shop.flows.Answer",))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, "expected a dictionary, got NoneType"),
        (["WORKFLOWS"], "expected a dictionary, got list"),
        ({"WORKFLOW": {}}, "WORKFLOW: unknown key; known are WORKFLOWS, DATABASE"),
        ({"WORKFLOWS": []}, "WORKFLOWS: expected a dictionary, got []"),
        ({"WORKFLOWS": {"greet": 3}}, "WORKFLOWS.greet: expected a dotted path or a dictionary, got 3"),
        (
            {"WORKFLOWS": {"greet": {"workflow": "a.B", "additional_event": []}}},
            "WORKFLOWS.greet.additional_event: unknown key; known are workflow, additional_events, permission",
        ),
        ({"WORKFLOWS": {"greet": {"additional_events": []}}}, "WORKFLOWS.greet.workflow: missing"),
        (
            {"WORKFLOWS": {"greet": {"workflow": "a.B", "additional_events": "a.C"}}},
            "WORKFLOWS.greet.additional_events: expected a list, got 'a.C'",
        ),
        ({"DATABASE": "runs"}, "DATABASE: 'runs' is not an alias of settings.DATABASES"),
        ({"CHANNEL_LAYER": "hints"}, "CHANNEL_LAYER: 'hints' is not an alias of settings.CHANNEL_LAYERS"),
        ({"CHANNEL_LAYER": 3}, "CHANNEL_LAYER: expected text, got 3"),
        ({"IDLE_TIMEOUT": 0}, "IDLE_TIMEOUT: "),
        ({"IDLE_TIMEOUT": True}, "IDLE_TIMEOUT: "),
        ({"IDLE_TIMEOUT": float("inf")}, "IDLE_TIMEOUT: "),
        ({"LEASE_TIMEOUT": None}, "LEASE_TIMEOUT: expected a number, got None"),
        ({"LEASE_TIMEOUT": "15"}, "LEASE_TIMEOUT: expected a number, got '15'"),
        ({"EXECUTE": "0"}, "EXECUTE: expected True or False, got '0'"),
        ({"SSE_HEARTBEAT_INTERVAL": "often"}, "SSE_HEARTBEAT_INTERVAL: "),
        ({"PERSISTENCE_BACKOFF": 3}, "PERSISTENCE_BACKOFF: expected a list, got 3"),
        ({"PERSISTENCE_BACKOFF": [-1]}, "PERSISTENCE_BACKOFF.0: "),
        ({"PERSISTENCE_BACKOFF": [True]}, "PERSISTENCE_BACKOFF.0: "),
        ({"THREADS": 0}, "THREADS: "),
        ({"THREADS": True}, "THREADS: expected an integer, got True"),
        ({"THREADS": "8"}, "THREADS: expected an integer, got '8'"),
        ({"PERMISSION_CLASSES": "a.B"}, "PERMISSION_CLASSES: expected a list, got 'a.B'"),
        ({"RETENTION": "30"}, "RETENTION: expected a number with a unit"),
        ({"SQLITE_SYNCHRONOUS": "OFF"}, "SQLITE_SYNCHRONOUS: "),
    ],
)
def test_what_does_not_validate_is_said_by_its_key(settings: Any, setting: Any, expected: str) -> None:
    settings.DJANGO_WORKFLOWS = setting

    (problem,) = conf.problems()
    assert problem.startswith(expected)
    with pytest.raises(ImproperlyConfigured, match="DJANGO_WORKFLOWS"):
        conf.get()


def test_lists_may_be_tuples_and_numbers_of_seconds_whole(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {
        "PERSISTENCE_BACKOFF": [1, 2.5],
        "PERMISSION_CLASSES": ("a.B",),
        "LEASE_TIMEOUT": 15,
    }

    assert conf.get().PERSISTENCE_BACKOFF == (1.0, 2.5)
    assert conf.get().PERMISSION_CLASSES == ("a.B",)
    assert conf.get().LEASE_TIMEOUT == 15.0


def test_every_problem_is_said(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {"IDLE_TIMEOUT": -1, "THREADS": "many", "DATABASES": "default"}

    assert len(conf.problems()) == 3


def test_settings_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="frozen"):
        conf.get().EXECUTE = False


def test_the_default_channel_layer_need_not_be_there(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    assert conf.channel_layer() is None

    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "a.Layer"}, "hints": {"BACKEND": "b.Layer"}}
    assert conf.channel_layer() == "default"
    settings.DJANGO_WORKFLOWS = {"CHANNEL_LAYER": "hints"}
    assert conf.channel_layer() == "hints"
    settings.DJANGO_WORKFLOWS = {"CHANNEL_LAYER": None}
    assert conf.channel_layer() is None
