"""The app's settings, typed: ``settings.DJANGO_WORKFLOWS`` validated into a frozen model.

Read at use (``conf.get().IDLE_TIMEOUT``), so that ``override_settings`` works; the parsed model is kept
until the setting changes. ``checks.py`` turns what :func:`problems` finds into system check messages.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


def _list(value: Any) -> Any:
    """Take a list for the tuple that is kept of it."""
    return tuple(value) if isinstance(value, list) else value


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Paths = Annotated[tuple[str, ...], BeforeValidator(_list)]


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_age(value: Any) -> Any:
    """Read a length of time: ``"90s"``, ``"30m"``, ``"12h"``, ``"30d"``, ``"4w"``, a timedelta or seconds.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        number, unit = value[:-1], value[-1:]
        if number.isascii() and number.isdigit() and unit in _UNITS and len(number) < 7:
            return timedelta(**{_UNITS[unit]: int(number)})
        raise ValueError('expected a number with a unit, as in "90s", "30m", "12h", "30d" or "4w"')
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    raise ValueError(f"expected a length of time, got {type(value).__name__}")


class WorkflowEntry(BaseModel):
    """One entry of WORKFLOWS in its long form."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # Dotted path to a Workflow class, an instance, or a callable without arguments that makes one.
    workflow: str
    # Dotted paths to Event classes that are sent from outside or written to the stream without
    # appearing in a step's signature.
    additional_events: Paths = ()
    # Dotted paths of permission classes that are asked about this workflow and its runs, after the site's.
    permission_classes: Paths = ()


def _entry(value: Any) -> Any:
    """Read the short form (a dotted path) as the long one."""
    return {"workflow": value} if isinstance(value, str) else value


class Settings(BaseModel):
    """``DJANGO_WORKFLOWS`` with defaults; another key, or a value of another type, is a misconfiguration."""

    # Strict: text from the environment is converted where it is read, by who knows what it may be.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # What is served: name in the URL -> dotted path, or {"workflow": path, "additional_events": [paths],
    # "permission_classes": [paths]}.
    WORKFLOWS: dict[str, Annotated[WorkflowEntry, BeforeValidator(_entry)]] = {}
    # Alias of the database that holds handlers, journals and events.
    DATABASE: str = "default"
    # Seconds without anything to do after which a waiting run leaves memory; None keeps it there.
    IDLE_TIMEOUT: Seconds | None = 60.0
    # Seconds of silence after which an SSE stream sends a comment; None sends none.
    SSE_HEARTBEAT_INTERVAL: Seconds | None = 25.0
    # Seconds to wait before each retry of a failed write; after the last one the run is let go.
    PERSISTENCE_BACKOFF: Annotated[tuple[Delay, ...], BeforeValidator(_list)] = (0.5, 3.0)
    # Whether a start may bring a serialized Context along (it can set a run's whole internal state).
    ACCEPT_CONTEXT_API: bool = False
    # Dotted paths of DRF classes; None takes the site's REST_FRAMEWORK defaults.
    AUTHENTICATION_CLASSES: Paths | None = None
    PERMISSION_CLASSES: Paths | None = None
    THROTTLE_CLASSES: Paths | None = None
    # Whether this process executes runs; False only serves and leaves them to workers.
    EXECUTE: bool = True
    # Whether the debugger's page is served, at the root of the include prefix.
    DEBUGGER: bool = True
    # Seconds without a heartbeat after which a worker counts as dead and its runs are taken over.
    LEASE_TIMEOUT: Seconds = 30.0
    # Seconds between two looks at the database for mail and runs that no hint announced.
    POLL_INTERVAL: Seconds = 1.0
    # Alias of the channel layer that carries hints between processes; None for none. The default one need not be
    # configured.
    CHANNEL_LAYER: str | None = "default"
    # Requests that are inside Django (middleware and view) at the same time.
    THREADS: Count = 8
    # Synchronous steps that run at the same time.
    STEP_THREADS: Count = 16
    # Largest request body in bytes; a larger one is answered 413 before it is read.
    MAX_BODY_SIZE: Count = 8 * 1024 * 1024
    # Processes that may die one after the other with a run in their hands before it fails; None: any number.
    MAX_CRASHES: Count | None = 10
    # Whether ticks are deleted that no replay needs any more: those before a snapshot, and all of an ended run.
    PRUNE_TICKS: bool = False
    # Objects and arrays inside each other in a body, the body itself counted.
    MAX_JSON_DEPTH: Count = 100
    # Largest event and largest state of a run, in bytes as stored; None is no limit. The engine escapes what is
    # not ASCII, so that an event from a body may be stored in three times the bytes.
    MAX_EVENT_SIZE: Count | None = 32 * 1024 * 1024
    MAX_STATE_SIZE: Count | None = 32 * 1024 * 1024
    # Events in the log of one run, without the one that ends it.
    MAX_EVENTS_PER_RUN: Count | None = 1_000_000
    # Events from outside that wait for one run.
    MAX_MAIL_PER_RUN: Count | None = 10_000
    # Runs of one workflow that one user has under way through the API.
    MAX_RUNS_PER_USER: Count | None = None
    # Streams that one user, or one address without a user, reads from one process.
    MAX_STREAMS_PER_USER: Count | None = 1000
    # How long finished handlers are kept: "30d", a timedelta, or seconds; None keeps them for ever.
    RETENTION: Annotated[timedelta, BeforeValidator(parse_age), Field(gt=timedelta(0))] | None = None
    # Durability of a commit on SQLite at a power failure (a crash of the process loses nothing either way).
    SQLITE_SYNCHRONOUS: Literal["NORMAL", "FULL"] = "NORMAL"


_parsed: Settings | None = None


def get() -> Settings:
    """Return the validated settings.

    Raises:
        ImproperlyConfigured: ``DJANGO_WORKFLOWS`` does not validate; the message lists every problem.
    """
    global _parsed
    if _parsed is None:
        found = problems()
        if found:
            raise ImproperlyConfigured("DJANGO_WORKFLOWS: " + "; ".join(found))
        _parsed = Settings.model_validate(getattr(settings, "DJANGO_WORKFLOWS", {}))
    return _parsed


def problems() -> list[str]:
    """Describe what is wrong with ``DJANGO_WORKFLOWS``, one sentence each; empty when it is valid."""
    raw = getattr(settings, "DJANGO_WORKFLOWS", {})
    if not isinstance(raw, dict):
        return [f"expected a dictionary, got {type(raw).__name__}"]
    try:
        Settings.model_validate(raw)
    except ValidationError as error:
        return [_sentence(item) for item in error.errors(include_url=False)]
    if raw.get("DATABASE", "default") not in settings.DATABASES:
        return [f"DATABASE: {raw['DATABASE']!r} is not an alias of settings.DATABASES"]
    if raw.get("CHANNEL_LAYER") is not None and raw["CHANNEL_LAYER"] not in _channel_layers():
        return [f"CHANNEL_LAYER: {raw['CHANNEL_LAYER']!r} is not an alias of settings.CHANNEL_LAYERS"]
    return []


def channel_layer() -> str | None:
    """Return the alias of the channel layer that carries hints, None when there is none."""
    alias = get().CHANNEL_LAYER
    return alias if alias in _channel_layers() else None


def is_in_memory(channel_layer: str) -> bool:
    """Tell whether a channel layer ends at the process, so that it reaches no other."""
    return bool(_channel_layers()[channel_layer].get("BACKEND") == "channels.layers.InMemoryChannelLayer")


def _channel_layers() -> dict[str, Any]:
    return getattr(settings, "CHANNEL_LAYERS", None) or {}


# What pydantic calls a type -> what it is in a settings file.
_EXPECTED = {
    "bool_type": "True or False",
    "dict_type": "a dictionary",
    "float_type": "a number",
    "int_type": "an integer",
    "model_type": "a dotted path or a dictionary",
    "string_type": "text",
    "tuple_type": "a list",
}


def _sentence(item: Any) -> str:
    loc, kind, got = item["loc"], item["type"], item["input"]
    where = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        model = Settings if len(loc) == 1 else WorkflowEntry
        return f"{where}: unknown key; known are {', '.join(model.model_fields)}"
    if kind == "missing":
        return f"{where}: missing"
    if kind in _EXPECTED:
        return f"{where}: expected {_EXPECTED[kind]}, got {got!r}"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}, got {got!r}"


def _forget(*, setting: str, **kwargs: Any) -> None:
    global _parsed
    if setting in ("DJANGO_WORKFLOWS", "DATABASES", "CHANNEL_LAYERS"):
        _parsed = None


setting_changed.connect(_forget, dispatch_uid="django_workflows.conf")
