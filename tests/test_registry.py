from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from django_workflows import registry
from django_workflows.exceptions import InvalidEvent, WorkflowNotFound
from tests.storage import PATIENCE


class Answer(Event):
    text: str


class Greeting(Workflow):
    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="hello")


class Demanding(Workflow):
    def __init__(self, model: str) -> None:
        super().__init__()

    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


class Unconnected(Workflow):
    """Nothing produces the event that its second step takes."""

    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent()

    @step
    async def answer(self, ev: Answer) -> StopEvent:
        return StopEvent()


greeting = Greeting()


def make_greeting() -> Greeting:
    return Greeting()


def make_nothing() -> None:
    return None


NUMBER = 3


@pytest.fixture(autouse=True)
def _no_registrations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_registrations", {})
    monkeypatch.setattr(registry, "_registered_twice", set())
    registry.forget()
    yield
    registry.forget()


_app_numbers = itertools.count()


@pytest.fixture
def install(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Install an app whose workflows.py has the given source; returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(source: str) -> str:
        name = f"app_with_workflows_{next(_app_numbers)}"
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "workflows.py").write_text(source)
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, name]
        return name

    return install


def serve(settings: Any, **workflows: Any) -> None:
    settings.DJANGO_WORKFLOWS = {"WORKFLOWS": workflows}


# --- from the settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["Greeting", "greeting", "make_greeting"])
def test_a_class_an_instance_and_a_factory_can_be_served(settings: Any, what: str) -> None:
    serve(settings, greet=f"{__name__}.{what}")

    assert registry.problems() == []
    assert isinstance(registry.get("greet").workflow, Greeting)
    assert registry.get("greet").name == "greet"


def test_a_workflow_is_built_once(settings: Any) -> None:
    serve(settings, greet=f"{__name__}.Greeting")

    assert registry.get("greet") is registry.get("greet")
    assert next(registry.all_served()) is registry.get("greet")


def test_names_come_in_the_order_of_the_settings(settings: Any) -> None:
    path = f"{__name__}.Greeting"
    serve(settings, zebra=path, ant=path, mouse=path)

    assert registry.names() == ["zebra", "ant", "mouse"]


def test_a_change_of_the_settings_is_seen(settings: Any) -> None:
    serve(settings, greet=f"{__name__}.Greeting")
    assert registry.names() == ["greet"]

    serve(settings, welcome=f"{__name__}.Greeting")
    assert registry.names() == ["welcome"]


def test_an_unknown_name(settings: Any) -> None:
    serve(settings, greet=f"{__name__}.Greeting")

    with pytest.raises(WorkflowNotFound):
        registry.get("Greet")


def test_events_are_those_of_the_steps_and_the_additional_ones(settings: Any) -> None:
    serve(settings, greet={"workflow": f"{__name__}.Greeting", "additional_events": [f"{__name__}.Answer"]})

    assert registry.get("greet").events == {"StartEvent": StartEvent, "StopEvent": StopEvent, "Answer": Answer}
    assert registry.get("greet").start_event_class is StartEvent


def test_a_step_must_exist_and_accept_the_event(settings: Any) -> None:
    serve(settings, greet=f"{__name__}.Greeting")
    served = registry.get("greet")

    served.check_step("greet", StartEvent())
    with pytest.raises(InvalidEvent, match="does not exist"):
        served.check_step("welcome", StartEvent())
    with pytest.raises(InvalidEvent, match="does not accept"):
        served.check_step("greet", Answer(text="Ada"))


# --- what cannot be served -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "id", "message"),
    [
        ("nowhere.Greeting", "E002", "'nowhere.Greeting' cannot be imported (ModuleNotFoundError"),
        (f"{__name__}.Missing", "E002", "cannot be imported (ImportError"),
        ("greeting", "E002", "cannot be imported"),
        (f"{__name__}.NUMBER", "E003", "expected a workflows.Workflow, got int"),
        (f"{__name__}.make_nothing", "E003", "expected a workflows.Workflow, got NoneType"),
        (f"{__name__}.Answer", "E003", "building the workflow failed (ValidationError"),
        (f"{__name__}.Demanding", "E003", "building the workflow failed (TypeError"),
        (f"{__name__}.Unconnected", "E003", "the workflow does not validate"),
        ({"workflow": f"{__name__}.Greeting", "additional_events": ["nowhere.Answer"]}, "E002", "nowhere.Answer"),
        ({"workflow": f"{__name__}.Greeting", "additional_events": [f"{__name__}.NUMBER"]}, "E004", "got 3"),
        ({"workflow": f"{__name__}.Greeting", "additional_events": [f"{__name__}.Greeting"]}, "E004", "Greeting"),
    ],
)
def test_what_cannot_be_built_is_a_problem_and_hinders_no_other(
    settings: Any, entry: Any, id: str, message: str
) -> None:
    serve(settings, broken=entry, greet=f"{__name__}.Greeting")

    (problem,) = registry.problems()
    assert (problem.id, problem.name) == (id, "broken")
    assert message in problem.message
    assert problem.hint
    assert registry.names() == ["greet"]
    with pytest.raises(ImproperlyConfigured, match="'broken'"):
        registry.get("broken")


@pytest.mark.parametrize("name", ["a/b", "a b", "ä", ".", "..", "-a", "", "a" * 101, "a\n", "a?b", "a%2Fb"])
def test_a_name_must_stand_in_a_url(settings: Any, name: str) -> None:
    settings.DJANGO_WORKFLOWS = {"WORKFLOWS": {name: f"{__name__}.Greeting"}}

    (problem,) = registry.problems()
    assert (problem.id, problem.name) == ("E005", name)


@pytest.mark.parametrize("name", ["a", "A-b_c.d~e", "0", "a" * 100])
def test_good_names(settings: Any, name: str) -> None:
    settings.DJANGO_WORKFLOWS = {"WORKFLOWS": {name: f"{__name__}.Greeting"}}

    assert registry.problems() == []


def test_nothing_is_imported_while_the_settings_do_not_validate(
    settings: Any, install: Callable[[str], str]
) -> None:
    name = install("")
    settings.DJANGO_WORKFLOWS = {"NONSENSE": 1}

    with pytest.raises(ImproperlyConfigured, match="NONSENSE"):
        registry.names()
    assert f"{name}.workflows" not in sys.modules


# --- from the code -------------------------------------------------------------------------------------

REGISTERS = """
from django_workflows.registry import register
from tests.test_registry import Answer, Greeting

@register("found", additional_events=[Answer])
class Found(Greeting):
    pass
"""


def test_workflows_py_of_an_app_is_found(install: Callable[[str], str]) -> None:
    name = install(REGISTERS)

    served = registry.get("found")
    assert type(served.workflow) is sys.modules[f"{name}.workflows"].Found
    assert served.additional_events == (Answer,)


def test_a_broken_workflows_py_hinders_no_other(install: Callable[[str], str]) -> None:
    broken = install("import no_such_module")
    install(REGISTERS)

    assert registry.names() == ["found"]
    (problem,) = registry.problems()
    assert (problem.id, problem.name) == ("E002", "")
    assert f"{broken}.workflows cannot be imported (ModuleNotFoundError" in problem.message


def test_a_broken_workflows_py_is_one_problem_whoever_names_it(
    settings: Any, install: Callable[[str], str]
) -> None:
    source = f"{REGISTERS}\nregister('instance')(Found())\nimport no_such_module"
    # Imported by another one first, it is executed for each.
    broken = f"app_with_workflows_{next(_app_numbers) + 2}"
    importing = install(f"import {broken}.workflows")
    assert install(source) == broken
    serve(settings, **{name: f"{broken}.workflows.Found" for name in ("first", "second")})

    said = [(problem.id, problem.name, problem.message.split()[0]) for problem in registry.problems()]
    assert said == [("E002", "", f"{name}.workflows") for name in (importing, broken)]
    assert registry.names() == []
    with pytest.raises(ImproperlyConfigured, match=r"'first'.*no_such_module"):
        registry.get("first")


def test_what_a_broken_module_has_imported_stays(settings: Any, install: Callable[[str], str]) -> None:
    whole = install(REGISTERS)
    broken = install(f"{REGISTERS.replace('found', 'lost')}\nimport {whole}.workflows, no_such_module")
    # First, so that it is what imports the other.
    settings.INSTALLED_APPS = [broken, *[app for app in settings.INSTALLED_APPS if app != broken]]

    assert registry.names() == ["found"]
    assert [problem.id for problem in registry.problems()] == ["E002"]


def test_a_broken_module_takes_no_name_from_another(install: Callable[[str], str]) -> None:
    whole = install(REGISTERS)
    install(f"{REGISTERS}\nimport no_such_module")

    assert type(registry.get("found").workflow) is sys.modules[f"{whole}.workflows"].Found
    assert [problem.id for problem in registry.problems()] == ["E002"]


def test_a_registered_class_stays_what_it_is() -> None:
    assert registry.register("greet")(Greeting) is Greeting
    assert isinstance(registry.get("greet").workflow, Greeting)


def test_instances_and_factories_can_be_registered() -> None:
    registry.register("instance")(greeting)
    registry.register("factory")(make_greeting)

    assert registry.get("instance").workflow is greeting
    assert isinstance(registry.get("factory").workflow, Greeting)


def test_the_decorator_needs_a_name() -> None:
    with pytest.raises(TypeError, match="expected a name"):
        registry.register(Greeting)  # type: ignore[arg-type]


def test_a_name_that_is_registered_twice() -> None:
    registry.register("greet")(Greeting)
    registry.register("greet")(make_greeting)

    (problem,) = registry.problems()
    assert (problem.id, problem.name) == ("E006", "greet")


def test_registering_the_same_again_is_no_problem() -> None:
    registry.register("greet")(Greeting)
    registry.register("greet")(Greeting)

    assert registry.problems() == []


def test_a_name_in_the_settings_and_in_a_decorator(settings: Any) -> None:
    serve(settings, greet=f"{__name__}.make_greeting")
    registry.register("greet")(Greeting)

    (problem,) = registry.problems()
    assert (problem.id, problem.name) == ("E006", "greet")
    assert registry.names() == ["greet"]


class Refusing:
    """Stands for a permission class."""


def test_permission_classes_of_a_workflow(settings: Any) -> None:
    registry.register("decorated", permission_classes=[Refusing])(Greeting)
    registry.register("plain")(Greeting)
    entry = {"workflow": f"{__name__}.Greeting", "permission_classes": [f"{__name__}.Refusing"]}
    serve(settings, configured=entry, short=f"{__name__}.Greeting")

    assert registry.permission_classes("configured") == (Refusing,)
    assert registry.permission_classes("decorated") == (Refusing,)
    for name in ("plain", "short", "nothing"):
        assert registry.permission_classes(name) == ()
    assert set(registry.guarded()) == {"configured", "decorated"}


def test_a_permission_class_that_cannot_be_imported_lets_nobody_in(settings: Any) -> None:
    entry = {"workflow": f"{__name__}.Greeting", "permission_classes": ["nowhere.Class"]}
    serve(settings, greet=entry)

    with pytest.raises(ImportError):
        registry.permission_classes("greet")


def test_a_registration_while_workflows_are_built_neither_waits_nor_is_lost() -> None:
    """Whoever registers is in the middle of an import that the building may be waiting for."""
    building, registered = threading.Event(), threading.Event()

    def slow() -> Greeting:
        building.set()
        assert registered.wait(PATIENCE)
        return Greeting()

    registry.register("slow")(slow)
    loading = threading.Thread(target=registry.names)
    loading.start()
    assert building.wait(PATIENCE)
    registering = threading.Thread(target=registry.register("late"), args=(Greeting,))
    registering.start()
    registering.join(5)
    waited = registering.is_alive()
    registered.set()
    loading.join(PATIENCE)
    registering.join(PATIENCE)

    assert not waited
    assert registry.names() == ["slow", "late"]
