from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core import checks as django_checks
from django.core.checks import CheckMessage
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from pydantic import BaseModel
from rest_framework.permissions import BasePermission, IsAdminUser, IsAuthenticated
from workflows import Context, Workflow, step
from workflows.context import PickleSerializer
from workflows.events import Event, StartEvent, StopEvent

from django_workflows import checks, registry

ROOT = Path(__file__).parent.parent
IS_AUTHENTICATED = "rest_framework.permissions.IsAuthenticated"


class Answer(Event):
    text: str


def _another_answer(module: str) -> type[Event]:
    """Return another class of the same name."""

    class Answer(Event):
        number: int

    Answer.__module__ = module
    return Answer


HomonymousAnswer = _another_answer("shop.events")
CollidingAnswer = _another_answer(__name__)


class Greeting(Workflow):
    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


class OneState(BaseModel):
    name: str = ""


class OtherState(BaseModel):
    number: int = 0


class TwoStates(Workflow):
    @step
    async def greet(self, ctx: Context[OneState], ev: StartEvent) -> Answer:
        return Answer(text="")

    @step
    async def answer(self, ctx: Context[OtherState], ev: Answer) -> StopEvent:
        return StopEvent()


def make_pickling() -> Greeting:
    return Greeting(serializer=PickleSerializer())


class Undecided(BasePermission):
    """A permission that cannot be asked without a real view."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return view.no_such_attribute


class OfModels(BasePermission):
    """As the REST framework's permissions for models: it asks for the view's model, and lets anybody read."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return view.queryset.model._meta.model_name == "handler" and request.method == "GET"


composed = IsAuthenticated & IsAdminUser
composed_open = IsAuthenticated | ~IsAdminUser
NUMBER = 3

application: Any = None


@pytest.fixture(autouse=True)
def _closed(settings: Any) -> None:
    """A site about which nothing is to say; each test spoils it in its own way."""
    settings.SILENCED_SYSTEM_CHECKS = []
    settings.DJANGO_WORKFLOWS = {"PERMISSION_CLASSES": [IS_AUTHENTICATED]}
    registry.forget()


def configure(settings: Any, **changes: Any) -> None:
    settings.DJANGO_WORKFLOWS = {**settings.DJANGO_WORKFLOWS, **changes}


def messages() -> list[CheckMessage]:
    return django_checks.run_checks(tags=[checks.TAG], include_deployment_checks=True)


def only_message() -> CheckMessage:
    (message,) = messages()
    assert message.hint, "it does not say what to do"
    return message


def ids() -> list[str]:
    return [str(message.id).removeprefix("django_workflows.") for message in messages()]


def test_nothing_to_say() -> None:
    # No test here has a database: a check that queries it would fail.
    assert ids() == []


def test_manage_py_check_runs_them(tmp_path: Path) -> None:
    (tmp_path / "broken_site.py").write_text("from tests.settings import *\nDJANGO_WORKFLOWS = {'NONSENSE': 1}\n")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "broken_site",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "django", "check"], env=environment, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert "(django_workflows.E001) DJANGO_WORKFLOWS: NONSENSE: unknown key" in done.stderr


def test_every_id_is_described() -> None:
    described = {line.split()[0] for line in str(checks.__doc__).splitlines() if line[:2] in ("E0", "W0")}

    assert described == {f"E{n:03}" for n in range(1, 16)} | {f"W{n:03}" for n in range(1, 7)}


# --- settings ------------------------------------------------------------------------------------------


def test_settings_that_do_not_validate(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {"IDLE_TIMEOUT": -1, "NONSENSE": 1, "WORKFLOWS": {"greet": "nowhere.Greeting"}}

    assert ids() == ["E001", "E001"]
    assert all(message.hint for message in messages())


@pytest.mark.parametrize("name", ["DJANGO_WORKFLOW", "DJANGO_WORKFLOWS_EXECUTE"])
def test_a_setting_that_nobody_reads(settings: Any, name: str) -> None:
    setattr(settings, name, {"EXECUTE": False})

    assert only_message().id == "django_workflows.W005"
    assert name in only_message().msg


def test_a_database_alias_that_is_none(settings: Any) -> None:
    configure(settings, DATABASE="runs")

    assert only_message().id == "django_workflows.E001"
    assert "'runs'" in only_message().msg


def test_workflows_are_not_imported_while_the_settings_do_not_validate(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_too_early.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.DJANGO_WORKFLOWS = {"NONSENSE": 1, "WORKFLOWS": {"greet": "imported_too_early.Greeting"}}

    assert ids() == ["E001"]
    assert "imported_too_early" not in sys.modules


@pytest.mark.parametrize("name", ["rest_framework", "channels"])
def test_an_app_is_missing(settings: Any, name: str) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if not app.startswith(name)]

    assert only_message().id == "django_workflows.E008"
    assert repr(name) in only_message().msg


@pytest.mark.parametrize(
    ("version", "expected"), [("4.2.1", ["E009"]), ("4.2.2", []), ("4.10.0", []), ("5.0", [])]
)
def test_daphne_must_be_new_enough(monkeypatch: pytest.MonkeyPatch, version: str, expected: list[str]) -> None:
    monkeypatch.setattr(checks.metadata, "version", lambda name: version)

    assert ids() == expected


@pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="about SQLite")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["W001"]),
        ({"transaction_mode": None}, ["W001"]),
        ({"transaction_mode": "deferred"}, ["W001"]),
        ({"transaction_mode": "immediate"}, []),
        ({"transaction_mode": "EXCLUSIVE"}, []),
    ],
)
def test_sqlite_needs_immediate_transactions(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: list[str]
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)

    assert ids() == expected


@pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="about SQLite")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (":memory:", ["E014"]),
        ("file::memory:?cache=shared", ["E014"]),
        ("file:runs?mode=memory&cache=shared", ["E014"]),
        ("memory.sqlite3", []),
        (Path("memory.sqlite3"), []),
    ],
)
def test_sqlite_must_be_a_file(monkeypatch: pytest.MonkeyPatch, name: Any, expected: list[str]) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", name)

    assert ids() == expected
    # Where a site's tests run, it is there on purpose.
    assert django_checks.run_checks(tags=[checks.TAG]) == []


@pytest.mark.parametrize(
    ("vendor", "age", "expected"),
    [
        ("postgresql", 0, []),
        ("postgresql", 60, ["W006"]),
        # Without end.
        ("postgresql", None, ["W006"]),
        ("mysql", 60, []),
    ],
)
def test_connections_that_are_kept_open(
    monkeypatch: pytest.MonkeyPatch, vendor: str, age: int | None, expected: list[str]
) -> None:
    monkeypatch.setattr(connections["default"], "vendor", vendor)
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", age)

    assert ids() == expected
    # Somebody who is developing need not hear it.
    assert django_checks.run_checks(tags=[checks.TAG]) == []


# --- workflows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "entry", "id"),
    [
        ("greet", "nowhere.Greeting", "E002"),
        ("greet", f"{__name__}.NUMBER", "E003"),
        ("greet", {"workflow": f"{__name__}.Greeting", "additional_events": [f"{__name__}.NUMBER"]}, "E004"),
        ("a/b", f"{__name__}.Greeting", "E005"),
        ("greet", {"workflow": f"{__name__}.Greeting", "additional_events": [f"{__name__}.Answer"]}, None),
    ],
)
def test_workflows_that_cannot_be_served(settings: Any, name: str, entry: Any, id: str | None) -> None:
    configure(settings, WORKFLOWS={name: entry})

    assert ids() == ([] if id is None else [id])
    if id is not None:
        assert only_message().msg.startswith(f"Workflow {name!r}: ")


def test_a_name_that_is_given_twice(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registrations", {})
    registry.register("greet")(Greeting)
    configure(settings, WORKFLOWS={"greet": f"{__name__}.make_pickling"})

    assert ids() == ["E006", "W002"]


def test_two_classes_that_the_journal_cannot_tell_apart(settings: Any) -> None:
    events = [f"{__name__}.Answer", f"{__name__}.CollidingAnswer"]
    configure(settings, WORKFLOWS={"greet": {"workflow": f"{__name__}.Greeting", "additional_events": events}})

    assert "E007" in ids()
    assert f"{__name__}.Answer" in next(m.msg for m in messages() if m.id == "django_workflows.E007")


def test_two_states(settings: Any) -> None:
    configure(settings, WORKFLOWS={"greet": f"{__name__}.TwoStates"})

    assert only_message().id == "django_workflows.E007"


def test_two_classes_that_senders_cannot_tell_apart(settings: Any) -> None:
    events = [f"{__name__}.Answer", f"{__name__}.HomonymousAnswer"]
    configure(settings, WORKFLOWS={"greet": {"workflow": f"{__name__}.Greeting", "additional_events": events}})

    assert only_message().id == "django_workflows.W003"
    assert f"{HomonymousAnswer.__module__} and {__name__}" in only_message().msg


def test_the_same_class_twice_is_no_collision(settings: Any) -> None:
    events = [f"{__name__}.Answer", f"{__name__}.Answer"]
    configure(settings, WORKFLOWS={"greet": {"workflow": f"{__name__}.Greeting", "additional_events": events}})

    assert ids() == []


def test_pickles(settings: Any) -> None:
    configure(settings, WORKFLOWS={"greet": f"{__name__}.make_pickling"})

    assert only_message().id == "django_workflows.W002"


def test_one_problem_hides_no_other(settings: Any) -> None:
    configure(
        settings,
        WORKFLOWS={
            "broken": "nowhere.Greeting",
            "pickling": f"{__name__}.make_pickling",
            "a/b": "nowhere.Greeting",
        },
        PERMISSION_CLASSES=["nowhere.Permission"],
    )
    settings.ASGI_APPLICATION = None

    assert sorted(ids()) == ["E002", "E005", "E010", "E012", "W002"]


# --- the site ------------------------------------------------------------------------------------------


def use(settings: Any, monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    monkeypatch.setattr(sys.modules[__name__], "application", made)
    settings.ASGI_APPLICATION = f"{__name__}.application"


@pytest.mark.parametrize("value", [None, ""])
def test_no_asgi_application(settings: Any, value: Any) -> None:
    settings.ASGI_APPLICATION = value

    assert only_message().id == "django_workflows.E010"
    assert "django_workflows.asgi" in str(only_message().hint)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda django: django,
        lambda django: ProtocolTypeRouter({"http": django}),
        lambda django: ASGIStaticFilesHandler(django),
        lambda django: ProtocolTypeRouter({"http": ASGIStaticFilesHandler(django)}),
    ],
)
def test_djangos_own_asgi_application(settings: Any, monkeypatch: pytest.MonkeyPatch, wrap: Any) -> None:
    use(settings, monkeypatch, wrap(ASGIHandler()))

    assert only_message().id == "django_workflows.E011"
    assert "django_workflows.asgi" in str(only_message().hint)


@pytest.mark.parametrize("wrap", [lambda ours: ours, lambda ours: ProtocolTypeRouter({"http": ours})])
def test_our_asgi_application(settings: Any, monkeypatch: pytest.MonkeyPatch, wrap: Any) -> None:
    from tests.asgi import application as ours

    use(settings, monkeypatch, wrap(ours))

    assert ids() == []


@pytest.mark.parametrize("made", [lambda scope, receive, send: None, ProtocolTypeRouter({}), object()])
def test_an_asgi_application_that_we_do_not_know(
    settings: Any, monkeypatch: pytest.MonkeyPatch, made: Any
) -> None:
    use(settings, monkeypatch, made)

    assert ids() == []


@pytest.mark.parametrize(
    "path", ["nowhere.application", f"{__name__}.missing", "tests.nowhere.application", "application", 3]
)
def test_an_asgi_application_that_is_not_there(settings: Any, path: Any) -> None:
    settings.ASGI_APPLICATION = path

    assert only_message().id == "django_workflows.E015"
    assert repr(path) in only_message().msg


@pytest.mark.parametrize("line", ["import no_such_module", "from tests import no_such_name", "1 / 0", "open()"])
def test_an_asgi_module_that_is_broken_is_left_to_the_server(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    (tmp_path / "broken_asgi.py").write_text(line)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.ASGI_APPLICATION = "broken_asgi.application"

    assert ids() == []


# --- who may do what -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "path", "problem"),
    [
        ("PERMISSION_CLASSES", "nowhere.Permission", "cannot be imported"),
        ("PERMISSION_CLASSES", f"{__name__}.NUMBER", "is not a class with has_permission()"),
        ("PERMISSION_CLASSES", "rest_framework.authentication.SessionAuthentication", "has_permission()"),
        ("THROTTLE_CLASSES", "nowhere.Throttle", "cannot be imported"),
        ("THROTTLE_CLASSES", IS_AUTHENTICATED, "is not a class with allow_request()"),
        ("AUTHENTICATION_CLASSES", "nowhere.Authentication", "cannot be imported"),
        ("AUTHENTICATION_CLASSES", IS_AUTHENTICATED, "is not a class with authenticate()"),
        ("AUTHENTICATION_CLASSES", f"{__name__}.composed", "is not a class with authenticate()"),
    ],
)
def test_api_classes_that_are_none(settings: Any, setting: str, path: str, problem: str) -> None:
    configure(settings, **{setting: [path]})

    assert only_message().id == "django_workflows.E012"
    assert only_message().msg.startswith(f"DJANGO_WORKFLOWS[{setting!r}]: {path!r}")
    assert problem in only_message().msg


@pytest.mark.parametrize("path", ["nowhere.Class", f"{__name__}.configure"])
def test_a_workflows_classes_that_are_none(settings: Any, path: str) -> None:
    entry = {"workflow": "tests.access.workflows.echo", "permission_classes": [IS_AUTHENTICATED, path]}
    configure(settings, WORKFLOWS={"echo": entry})

    assert only_message().id == "django_workflows.E012"
    where = "DJANGO_WORKFLOWS['WORKFLOWS']['echo']['permission_classes']"
    assert only_message().msg.startswith(f"{where}: {path!r}")


@pytest.mark.parametrize("setting", ["DEFAULT_PERMISSION_CLASSES", "DEFAULT_AUTHENTICATION_CLASSES"])
def test_the_rest_frameworks_defaults_cannot_be_imported(settings: Any, setting: str) -> None:
    settings.DJANGO_WORKFLOWS = {}
    settings.REST_FRAMEWORK = {"DEFAULT_PERMISSION_CLASSES": [IS_AUTHENTICATED], setting: ["nowhere.Class"]}

    assert only_message().id == "django_workflows.E012"
    assert only_message().msg.startswith(f"REST_FRAMEWORK: {setting!r}")


def test_good_api_classes(settings: Any) -> None:
    configure(
        settings,
        AUTHENTICATION_CLASSES=["rest_framework.authentication.TokenAuthentication"],
        PERMISSION_CLASSES=[IS_AUTHENTICATED, f"{__name__}.composed", "django_workflows.permissions.IsOwner"],
        THROTTLE_CLASSES=["rest_framework.throttling.UserRateThrottle"],
    )

    assert ids() == []


@pytest.mark.parametrize("name", ["IsOwner", "HasModelPermission"])
def test_our_own_classes_let_nobody_in_who_is_nobody(settings: Any, name: str) -> None:
    configure(settings, PERMISSION_CLASSES=[f"django_workflows.permissions.{name}"])
    settings.DEBUG = False

    assert checks.check_anonymous_access() == []


@pytest.mark.parametrize(
    ("classes", "deeds"),
    [
        ([], "read and start"),
        (["rest_framework.permissions.AllowAny"], "read and start"),
        (["rest_framework.permissions.IsAuthenticatedOrReadOnly"], "read"),
        ([f"{__name__}.OfModels"], "read"),
        ([f"{__name__}.composed_open"], "read and start"),
        (["rest_framework.permissions.AllowAny", IS_AUTHENTICATED], None),
        (["rest_framework.permissions.DjangoModelPermissions"], None),
        ([f"{__name__}.composed"], None),
        ([f"{__name__}.Undecided"], None),
    ],
)
def test_an_api_that_is_open_to_everybody(settings: Any, classes: list[str], deeds: str | None) -> None:
    configure(settings, PERMISSION_CLASSES=classes)

    if deeds is None:
        assert ids() == []
    else:
        assert only_message().id == "django_workflows.E013"
        assert only_message().msg.startswith(f"Everybody may {deeds} workflow runs")
        assert "SILENCED_SYSTEM_CHECKS" in str(only_message().hint)


def test_an_api_that_is_open_by_the_rest_frameworks_defaults(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {}
    settings.REST_FRAMEWORK = {}
    assert ids() == ["E013"]

    settings.REST_FRAMEWORK = {"DEFAULT_PERMISSION_CLASSES": [IS_AUTHENTICATED]}
    assert ids() == []


def test_an_open_api_while_debugging(settings: Any) -> None:
    configure(settings, PERMISSION_CLASSES=[])
    settings.DEBUG = True

    assert ids() == []


def test_an_api_that_is_open_on_purpose(settings: Any) -> None:
    configure(settings, PERMISSION_CLASSES=[])
    settings.SILENCED_SYSTEM_CHECKS = ["django_workflows.E013"]

    assert only_message().is_silenced()


# --- hints ---------------------------------------------------------------------------------------------


def test_a_channel_layer_in_memory_reaches_nobody(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    assert only_message().id == "django_workflows.W004"
    # Somebody who is developing need not hear it.
    assert django_checks.run_checks(tags=[checks.TAG]) == []

    configure(settings, CHANNEL_LAYER=None)
    assert messages() == []


def test_a_channel_layer_of_redis_is_fine(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"hints": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}}
    assert messages() == []
    configure(settings, CHANNEL_LAYER="hints")
    assert messages() == []
    configure(settings, CHANNEL_LAYER="other")
    assert only_message().id == "django_workflows.E001"
