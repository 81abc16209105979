"""Which workflows are served: name -> :class:`Served`.

They come from ``DJANGO_WORKFLOWS["WORKFLOWS"]`` and from :func:`register` in an app's ``workflows.py``,
which is imported on first use. Workflows are built once for each process, on first use.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string, module_has_submodule
from workflows import Workflow
from workflows.context.state_store import infer_state_type
from workflows.events import Event, StartEvent

from django_workflows import conf
from django_workflows.exceptions import InvalidEvent, WorkflowNotFound

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,99}")

Source = type[Workflow] | Workflow | Callable[[], Workflow]
S = TypeVar("S", bound=Source)


@dataclass(frozen=True)
class Served:
    """A workflow under the name that it is served by.

    Attributes:
        name: the name in URLs and in ``Handler.workflow_name``.
        workflow: the instance that every run of this process shares, as in the reference server.
        additional_events: event classes beyond those in the steps' signatures.
    """

    name: str
    workflow: Workflow
    additional_events: tuple[type[Event], ...] = ()

    @cached_property
    def events(self) -> dict[str, type[Event]]:
        """Class name -> class of every event that may be sent from outside."""
        return {event.__name__: event for event in (*self.workflow.events, *self.additional_events)}

    @cached_property
    def state_type(self) -> type[Any]:
        """The class of a run's state."""
        return infer_state_type(self.workflow)

    @property
    def start_event_class(self) -> type[StartEvent]:
        return self.workflow.start_event_class

    def check_step(self, step: str, event: Event) -> None:
        """Raise InvalidEvent unless the named step exists and accepts this event."""
        try:
            self.workflow._validate_valid_step_message(step, event)
        except Exception as error:
            raise InvalidEvent(str(error)) from None


@dataclass(frozen=True)
class Problem:
    """Why something that is configured cannot be served, for the system check.

    Attributes:
        id: of the check, without the app's name.
        name: the name that it should be served by; empty when it is an app's whole ``workflows.py``.
        message: what was found.
        hint: what to do.
        is_repeated: whether another problem says the same of what both have in common.
    """

    id: str
    name: str
    message: str
    hint: str
    is_repeated: bool = False


@dataclass(frozen=True)
class _Registration:
    # The name of the module that has registered it.
    module: str
    source: Source
    additional_events: tuple[Any, ...]
    permission_classes: tuple[Any, ...]


@dataclass(frozen=True)
class _Loaded:
    served: dict[str, Served]
    problems: list[Problem]
    # Modules whose import has failed, and why.
    broken: dict[str, Exception]


_registrations: dict[str, _Registration] = {}
_registered_twice: set[str] = set()
_loaded: _Loaded | None = None
# How often something has changed that what is loaded depends on.
_generation = 0
# Held while workflows are imported and built. Registering does not take it: who registers is being imported,
# and who loads may be waiting for that import.
_loading = threading.RLock()


def register(
    name: str, *, additional_events: Iterable[type[Event]] = (), permission_classes: Iterable[Any] = ()
) -> Callable[[S], S]:
    """Serve a workflow class, instance or factory under ``name``; for an app's ``workflows.py``.

    Args:
        name: what stands in the URL; letters, digits and ``. _ ~ -``, at most 100 characters.
        additional_events: event classes that no step's signature names but that are sent from outside.
        permission_classes: those that are asked about this workflow and its runs, after the site's.

    A name that is registered twice is reported by ``manage.py check`` (django_workflows.E006).
    """
    if not isinstance(name, str):
        raise TypeError(f'expected a name, as in @register("greet"), got {name!r}')
    events, permissions = tuple(additional_events), tuple(permission_classes)
    # Not that of what is registered, which may be defined elsewhere.
    module = sys._getframe(1).f_globals.get("__name__", "")

    def decorate(source: S) -> S:
        known = _registrations.get(name)
        if known is not None and known.source is not source:
            _registered_twice.add(name)
        _registrations[name] = _Registration(module, source, events, permissions)
        forget()
        return source

    return decorate


def get(name: str) -> Served:
    """Return what is served under ``name``.

    Raises:
        WorkflowNotFound: nothing is.
        ImproperlyConfigured: something is configured under that name but cannot be built.
    """
    loaded = _load()
    served = loaded.served.get(name)
    if served is None:
        for problem in loaded.problems:
            if problem.name == name:
                raise ImproperlyConfigured(f"Workflow {name!r}: {problem.message}. {problem.hint}")
        raise WorkflowNotFound
    return served


def names() -> list[str]:
    """Return the names that are served, in the order of configuration."""
    return list(_load().served)


def all_served() -> Iterator[Served]:
    yield from _load().served.values()


def permission_classes(name: str) -> tuple[Any, ...]:
    """Return the permission classes that are asked about one workflow and its runs, after the site's.

    Raises:
        ImportError: one of them cannot be imported; nobody may do anything then.
    """
    _load()
    entry = conf.get().WORKFLOWS.get(name)
    if entry is not None:
        return tuple(map(import_string, entry.permission_classes))
    registration = _registrations.get(name)
    return () if registration is None else registration.permission_classes


def guarded() -> list[str]:
    """Return the names of the workflows that have permission classes of their own."""
    _load()
    entries = conf.get().WORKFLOWS
    configured = [name for name, entry in entries.items() if entry.permission_classes]
    registered = [name for name, one in list(_registrations.items()) if one.permission_classes]
    return configured + [name for name in registered if name not in entries]


def problems() -> list[Problem]:
    """Return why something that is configured cannot be served; empty when all can."""
    return [problem for problem in _load().problems if not problem.is_repeated]


def forget() -> None:
    """Build the workflows anew at the next use (after a change of settings or registrations)."""
    global _loaded, _generation
    _generation += 1
    _loaded = None


def _load() -> _Loaded:
    global _loaded
    loaded = _loaded
    if loaded is not None:
        return loaded
    with _loading:
        if _loaded is not None:
            return _loaded
        entries = conf.get().WORKFLOWS
        broken = _discover()
        loaded = _Loaded({}, [_broken_module(name, error) for name, error in broken.items()], broken)
        for name, entry in entries.items():
            _add(loaded, name, _from_settings(entry, broken))
        generation = _generation
        for name, registration in list(_registrations.items()):
            if name in entries:
                message = "the name is in DJANGO_WORKFLOWS['WORKFLOWS'] and in a @register decorator"
                loaded.problems.append(Problem("E006", name, message, "Remove one of the two."))
            else:
                _add(loaded, name, _from_registration(registration))
        for name in sorted(_registered_twice):
            hint = "Give each workflow a name of its own."
            loaded.problems.append(Problem("E006", name, "the name is registered twice", hint))
        # What another thread has registered meanwhile is found at the next use.
        if generation == _generation:
            _loaded = loaded
        return loaded


def _discover() -> dict[str, Exception]:
    """Import every app's ``workflows.py``, so that its @register decorators run; returns those that failed."""
    broken: dict[str, Exception] = {}
    for app in apps.get_app_configs():
        if app.module is None or not module_has_submodule(app.module, "workflows"):
            continue
        name = f"{app.name}.workflows"
        try:
            with _importing():
                import_module(name)
        except Exception as error:
            broken[name] = error
    return broken


def _broken_module(name: str, error: Exception) -> Problem:
    message = f"{name} cannot be imported ({type(error).__name__}: {error})"
    return Problem("E002", "", message, "Correct the module.")


@contextmanager
def _importing() -> Iterator[None]:
    """Forget what was registered by modules whose import has failed in the block.

    They are executed anew when somebody else imports them, and register the same names again.
    """
    before, twice = dict(_registrations), set(_registered_twice)
    try:
        yield
    except Exception:
        for name, registration in list(_registrations.items()):
            if registration is before.get(name) or registration.module in sys.modules:
                continue
            if name in before:
                _registrations[name] = before[name]
            else:
                del _registrations[name]
            if name not in twice:
                _registered_twice.discard(name)
        raise


# What stands for a workflow, and its additional events.
_Sources = Callable[[], tuple[Any, Iterable[Any]]]


def _from_settings(entry: conf.WorkflowEntry, broken: Mapping[str, Exception]) -> _Sources:
    return lambda: (_import(entry.workflow, broken), [_import(path, broken) for path in entry.additional_events])


def _from_registration(registration: _Registration) -> _Sources:
    return lambda: (registration.source, registration.additional_events)


def _add(loaded: _Loaded, name: str, sources: _Sources) -> None:
    if not NAME.fullmatch(name):
        loaded.problems.append(
            Problem(
                "E005",
                name,
                f"{name!r} cannot stand in a URL",
                "Use letters, digits and . _ ~ - (at most 100 characters, a letter or digit first).",
            )
        )
        return
    try:
        workflow, events = sources()
        loaded.served[name] = Served(name, _build(workflow), tuple(_event_class(event) for event in events))
    except _Refused as refused:
        # Whatever is named in a module that cannot be imported fails alike, and the module's own problem says why.
        is_repeated = refused.__cause__ in loaded.broken.values()
        loaded.problems.append(Problem(refused.id, name, str(refused), refused.hint, is_repeated))


class _Refused(Exception):
    def __init__(self, id: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.id = id
        self.hint = hint


def _import(path: str, broken: Mapping[str, Exception]) -> Any:
    try:
        if (known := broken.get(path.rpartition(".")[0])) is not None:
            # It would only be executed once more.
            raise known
        with _importing():
            return import_string(path)
    except Exception as error:
        raise _Refused(
            "E002",
            f"{path!r} cannot be imported ({type(error).__name__}: {error})",
            "Give the dotted path of a Workflow class, an instance, or a function that returns one.",
        ) from error


def _build(source: Any) -> Workflow:
    workflow = source
    if not isinstance(workflow, Workflow) and callable(workflow):
        try:
            workflow = workflow()
        except Exception as error:
            raise _Refused(
                "E003",
                f"building the workflow failed ({type(error).__name__}: {error})",
                "Classes and factories are called without arguments; give an instance or a factory otherwise.",
            ) from error
    if not isinstance(workflow, Workflow):
        raise _Refused(
            "E003",
            f"expected a workflows.Workflow, got {type(workflow).__name__}",
            "Give the dotted path of a Workflow class, an instance, or a function that returns one.",
        )
    try:
        if not workflow._disable_validation:
            workflow.validate()
    except Exception as error:
        raise _Refused("E003", f"the workflow does not validate: {error}", "Correct its steps.") from error
    return workflow


def _event_class(event: Any) -> type[Event]:
    if not (isinstance(event, type) and issubclass(event, Event)):
        raise _Refused(
            "E004",
            f"additional_events expects Event classes, got {event!r}",
            "Give dotted paths of subclasses of workflows.events.Event.",
        )
    return event


def _settings_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("DJANGO_WORKFLOWS", "INSTALLED_APPS"):
        forget()


setting_changed.connect(_settings_changed, dispatch_uid="django_workflows.registry")
