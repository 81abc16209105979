"""Which workflows are served: name -> :class:`Served`.

They come from ``DJANGO_WORKFLOWS["WORKFLOWS"]`` and from :func:`register` in an app's ``workflows.py``,
which is imported on first use. Workflows are built once for each process, on first use.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import autodiscover_modules, import_string
from workflows import Workflow
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
    """A name that cannot be served, for the system check."""

    name: str
    message: str
    hint: str


@dataclass
class _Registrations:
    sources: dict[str, tuple[Source, tuple[type[Event], ...]]] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)


_registrations = _Registrations()
_lock = threading.RLock()
_served: dict[str, Served] | None = None
_problems: list[Problem] = []
_discovered = False


def register(name: str, *, additional_events: Iterable[type[Event]] = ()) -> Callable[[S], S]:
    """Serve a workflow class, instance or factory under ``name``; for an app's ``workflows.py``.

    Args:
        name: what stands in the URL; letters, digits and ``. _ ~ -``, at most 100 characters.
        additional_events: event classes that no step's signature names but that are sent from outside.

    A name that is registered twice is reported by ``manage.py check`` (django_workflows.E006).
    """

    def decorate(source: S) -> S:
        with _lock:
            known = _registrations.sources.get(name)
            if known is not None and known[0] is not source:
                _registrations.duplicates.append(name)
            _registrations.sources[name] = (source, tuple(additional_events))
            forget()
        return source

    return decorate


def get(name: str) -> Served:
    """Return what is served under ``name``.

    Raises:
        WorkflowNotFound: nothing is.
        ImproperlyConfigured: something is configured under that name but cannot be built.
    """
    served = _load().get(name)
    if served is None:
        for problem in _problems:
            if problem.name == name:
                raise ImproperlyConfigured(f"Workflow {name!r}: {problem.message}. {problem.hint}")
        raise WorkflowNotFound
    return served


def names() -> list[str]:
    """Return the names that are served, in the order of configuration."""
    return list(_load())


def all_served() -> Iterator[Served]:
    yield from _load().values()


def problems() -> list[Problem]:
    """Return why configured names cannot be served; empty when all can."""
    _load()
    return list(_problems)


def forget() -> None:
    """Build the workflows anew at the next use (after a change of settings or registrations)."""
    global _served
    with _lock:
        _served = None


def _load() -> dict[str, Served]:
    global _served, _discovered
    if _served is not None:
        return _served
    with _lock:
        if _served is not None:
            return _served
        if not _discovered:
            autodiscover_modules("workflows")
            _discovered = True
        _problems.clear()
        served: dict[str, Served] = {}
        entries = conf.get().WORKFLOWS
        for name in _registrations.duplicates:
            _problems.append(
                Problem(name, "the name is registered twice", "Give each workflow a name of its own.")
            )
        for name, entry in entries.items():
            if name in _registrations.sources:
                _problems.append(
                    Problem(
                        name,
                        "the name is in DJANGO_WORKFLOWS['WORKFLOWS'] and in a @register decorator",
                        "Remove one of the two.",
                    )
                )
            _add(served, name, lambda e=entry: (_import(e.workflow), [_import(p) for p in e.additional_events]))
        for name, registration in _registrations.sources.items():
            if name not in entries:
                _add(served, name, lambda r=registration: r)
        _served = served
        return served


def _add(served: dict[str, Served], name: str, source: Callable[[], tuple[Any, Iterable[Any]]]) -> None:
    if not NAME.fullmatch(name):
        _problems.append(
            Problem(
                name,
                f"{name!r} cannot stand in a URL",
                "Use letters, digits and . _ ~ - (at most 100 characters, a letter or digit first).",
            )
        )
        return
    try:
        workflow, events = source()
        served[name] = Served(name, _build(workflow), tuple(_event_class(event) for event in events))
    except _Refused as refused:
        _problems.append(Problem(name, str(refused), refused.hint))


class _Refused(Exception):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _import(path: str) -> Any:
    try:
        return import_string(path)
    except Exception as error:
        raise _Refused(
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
                f"building the workflow failed ({type(error).__name__}: {error})",
                "Classes and factories are called without arguments; give an instance or a factory otherwise.",
            ) from error
    if not isinstance(workflow, Workflow):
        raise _Refused(
            f"expected a workflows.Workflow, got {type(workflow).__name__}",
            "Give the dotted path of a Workflow class, an instance, or a function that returns one.",
        )
    try:
        workflow.validate()
    except Exception as error:
        raise _Refused(f"the workflow does not validate: {error}", "Correct its steps.") from error
    return workflow


def _event_class(event: Any) -> type[Event]:
    if not (isinstance(event, type) and issubclass(event, Event)):
        raise _Refused(
            f"additional_events expects Event classes, got {event!r}",
            "Give dotted paths of subclasses of workflows.events.Event.",
        )
    return event


def _settings_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("DJANGO_WORKFLOWS", "INSTALLED_APPS"):
        forget()


setting_changed.connect(_settings_changed, dispatch_uid="django_workflows.registry")
