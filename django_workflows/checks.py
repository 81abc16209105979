"""System checks: every misconfiguration has an id, says what was found, and what to do.

======  ===========================================================================
E001    DJANGO_WORKFLOWS does not validate
E002    a dotted path, or an app's ``workflows.py``, cannot be imported
E003    what is configured is no workflow, or cannot be built
E004    an additional event is no Event class
E005    a name cannot stand in a URL
E006    a name is given twice
E007    a workflow's events and state cannot be told apart in what is stored
E008    an app is missing from INSTALLED_APPS
E009    Daphne is too old
E010    ASGI_APPLICATION is missing
E011    ASGI_APPLICATION is Django's own, without ours around it
E012    an authentication, permission or throttling class cannot be imported, or is none
E013    the API is open to everybody, and DEBUG is off
E014    the database is in one connection's memory
E015    ASGI_APPLICATION names what is not there
W001    SQLite begins transactions in a way that fails when several processes write
W002    a workflow stores pickles
W003    two events of a workflow have the same name
W004    the channel layer for hints reaches no other process
W005    a setting is called almost like DJANGO_WORKFLOWS
W006    PostgreSQL's connections are kept open, and leak from async views
======  ===========================================================================

No check queries the database, and none raises: what one of them reports may be why another cannot look.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.utils.version import get_version_tuple

from django_workflows import conf, registry, serialization
from django_workflows.registry import Served

# ``manage.py check --tag workflows`` runs all of these.
TAG = "workflows"
# What ``check --deploy`` says, and what ``runworkflows`` refuses to serve.
SERVING_TAG = "workflows_serving"

REQUIRED_APPS = ("rest_framework", "channels")
# Older ones can be made to use up memory and to mix up requests (CVE-2026-44545, CVE-2026-44546).
MINIMUM_DAPHNE = "4.2.2"


def _error(id: str, message: str, hint: str) -> Error:
    return Error(message, hint=hint, id=f"django_workflows.{id}")


def _warning(id: str, message: str, hint: str) -> Warning:
    return Warning(message, hint=hint, id=f"django_workflows.{id}")


# --- settings ----------------------------------------------------------------------------------------


@register(TAG)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    hint = "Correct DJANGO_WORKFLOWS in the settings; nothing is served before."
    return [_error("E001", f"DJANGO_WORKFLOWS: {problem}.", hint) for problem in conf.problems()]


@register(TAG)
def check_setting_names(**kwargs: Any) -> list[CheckMessage]:
    return [
        _warning(
            "W005",
            f"The setting {name} is read by nobody.",
            "Everything is set in one dictionary, DJANGO_WORKFLOWS.",
        )
        for name in dir(settings)
        if name.startswith("DJANGO_WORKFLOW") and name != "DJANGO_WORKFLOWS"
    ]


@register(TAG)
def check_apps(**kwargs: Any) -> list[CheckMessage]:
    return [
        _error("E008", f"{name!r} is missing from INSTALLED_APPS.", f"Add {name!r} to INSTALLED_APPS.")
        for name in REQUIRED_APPS
        if not apps.is_installed(name)
    ]


@register(TAG)
def check_daphne(**kwargs: Any) -> list[CheckMessage]:
    try:
        found = metadata.version("daphne")
    except metadata.PackageNotFoundError:
        # The site is served by another server.
        return []
    if get_version_tuple(found) >= get_version_tuple(MINIMUM_DAPHNE):
        return []
    hint = f"Upgrade it: pip install 'daphne>={MINIMUM_DAPHNE}'."
    return [_error("E009", f"Daphne {found} has known vulnerabilities.", hint)]


def _connection() -> BaseDatabaseWrapper | None:
    """Return the connection, which need not be open, to the database of the runs; None when there is none."""
    if conf.problems():
        return None
    try:
        return connections[conf.get().DATABASE]
    except Exception:
        # Django says itself what is wrong with the database's settings.
        return None


@register(TAG)
def check_database(**kwargs: Any) -> list[CheckMessage]:
    connection = _connection()
    if connection is None or connection.vendor != "sqlite":
        return []
    alias = connection.alias
    mode = connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or "DEFERRED"
    if mode.upper() in ("IMMEDIATE", "EXCLUSIVE"):
        return []
    return [
        _warning(
            "W001",
            f"The SQLite database {alias!r} begins transactions as {mode.upper()}: one that reads before it "
            'writes fails with "database is locked" when another process has written meanwhile.',
            f'Set DATABASES[{alias!r}]["OPTIONS"] = {{"transaction_mode": "IMMEDIATE", "timeout": 20}}. '
            "(The process that executes runs does so by itself; this is about the site's other connections.)",
        )
    ]


# Not for every command: Django's test runner puts the database into memory, and serves nobody.
@register(TAG, SERVING_TAG, deploy=True)
def check_memory(**kwargs: Any) -> list[CheckMessage]:
    connection = _connection()
    if connection is None or connection.vendor != "sqlite":
        return []
    name = str(connection.settings_dict["NAME"])
    if ":memory:" not in name and "mode=memory" not in name:
        return []
    return [
        _error(
            "E014",
            f"The SQLite database {connection.alias!r} is in memory ({name!r}): runs end with the process, and "
            "no other thread or process sees the same database.",
            f'Set DATABASES[{connection.alias!r}]["NAME"] to a file on a local disk.',
        )
    ]


@register(TAG, deploy=True)
def check_persistent_connections(**kwargs: Any) -> list[CheckMessage]:
    connection = _connection()
    if connection is None or connection.vendor != "postgresql":
        return []
    age = connection.settings_dict["CONN_MAX_AGE"]
    if age == 0:
        return []
    return [
        _warning(
            "W006",
            f"Connections to the database {connection.alias!r} are kept open (CONN_MAX_AGE is {age}): under ASGI, "
            "those of the site's async views are never closed.",
            f'Set DATABASES[{connection.alias!r}]["CONN_MAX_AGE"] to 0; the pool in OPTIONS keeps them too. '
            "Silence django_workflows.W006 when the site has no async views, or is served by WSGI.",
        )
    ]


@register(TAG, deploy=True)
def check_channel_layer(**kwargs: Any) -> list[CheckMessage]:
    if conf.problems():
        return []
    alias = conf.channel_layer()
    if alias is None or not conf.is_in_memory(alias):
        return []
    return [
        _warning(
            "W004",
            f"The channel layer {alias!r} is in this process's memory, so it carries no hints to others: several "
            "processes see each other's work only every POLL_INTERVAL.",
            f'Configure CHANNEL_LAYERS[{alias!r}] with "channels_redis.pubsub.RedisPubSubChannelLayer"; or, for '
            'one process alone, set DJANGO_WORKFLOWS["CHANNEL_LAYER"] = None.',
        )
    ]


# --- workflows ---------------------------------------------------------------------------------------


@register(TAG)
def check_workflows(**kwargs: Any) -> list[CheckMessage]:
    # Importing the workflows can have effects; not for a site that cannot serve them.
    if conf.problems():
        return []
    messages: list[CheckMessage] = []
    for problem in registry.problems():
        prefix = f"Workflow {problem.name!r}: " if problem.name else ""
        messages.append(_error(problem.id, f"{prefix}{problem.message}.", problem.hint))
    for served in registry.all_served():
        messages += _check_serialization(served)
        messages += _check_event_names(served)
    return messages


def _check_serialization(served: Served) -> list[CheckMessage]:
    try:
        serialization.serializer(served)
    except Exception as error:
        message = f"Workflow {served.name!r}: its events and state cannot be stored: {error}"
        hint = "Give each event and state class of a workflow a module and name of its own."
        return [_error("E007", message, hint)]
    if not serialization.reads_pickle(served):
        return []
    return [
        _warning(
            "W002",
            f"Workflow {served.name!r} has a PickleSerializer: whoever can write to the database can run code "
            "in the processes that execute its runs.",
            "Leave the serializer out and keep events and state to what JSON and pydantic can hold, or silence "
            "django_workflows.W002 when nobody else writes to the database.",
        )
    ]


def _check_event_names(served: Served) -> list[CheckMessage]:
    by_name = defaultdict(set)
    for event in (*served.workflow.events, *served.additional_events):
        by_name[event.__name__].add(event)
    return [
        _warning(
            "W003",
            f"Workflow {served.name!r}: {len(events)} of its event classes are called {name}, in "
            f"{' and '.join(sorted(event.__module__ for event in events))}. An event that is sent from outside as "
            f"{name!r} may be taken for either.",
            "Rename one of them.",
        )
        for name, events in sorted(by_name.items())
        if len(events) > 1
    ]


# --- the site ----------------------------------------------------------------------------------------


@register(TAG)
def check_asgi_application(**kwargs: Any) -> list[CheckMessage]:
    remedy = (
        "In the module that ASGI_APPLICATION names, import get_asgi_application from django_workflows.asgi "
        "instead of django.core.asgi."
    )
    path = getattr(settings, "ASGI_APPLICATION", None)
    if not path:
        hint = f'Set ASGI_APPLICATION = "mysite.asgi.application". {remedy}'
        return [_error("E010", "ASGI_APPLICATION is not set.", hint)]
    try:
        application = import_string(path)
    except Exception as error:
        if not _is_not_there(path, error):
            # The module is broken: the server says so, with a traceback.
            return []
        hint = 'Name the application of the site\'s asgi.py, as in "mysite.asgi.application".'
        return [_error("E015", f"ASGI_APPLICATION names what is not there: {path!r} ({error}).", hint)]
    if type(_inside(application)) is not ASGIHandler:
        # Ours, or something around it that we do not know.
        return []
    message = f"{path} is Django's own ASGI application: it neither executes runs nor streams their events."
    return [_error("E011", message, remedy)]


def _is_not_there(path: Any, error: Exception) -> bool:
    """Tell whether a dotted path could not be imported because it is none, or leads to no module or attribute."""
    module = str(path).rpartition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        # Not another one, which the module imports.
        return f"{module}.".startswith(f"{error.name}.")
    return not module or module in sys.modules


def _inside(application: Any) -> Any:
    """Return what answers HTTP requests inside the wrappers that sites commonly put around Django."""
    from channels.routing import ProtocolTypeRouter
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

    while True:
        if isinstance(application, ProtocolTypeRouter):
            application = application.application_mapping.get("http")
        elif isinstance(application, ASGIStaticFilesHandler):
            application = application.application
        else:
            return application


# --- who may do what ---------------------------------------------------------------------------------


@register(Tags.security, TAG)
def check_api_classes(**kwargs: Any) -> list[CheckMessage]:
    if conf.problems():
        return []
    messages: list[CheckMessage] = []
    asked = [
        (*_api_classes("AUTHENTICATION_CLASSES"), "authenticate"),
        (*_api_classes("PERMISSION_CLASSES"), "has_permission"),
        (*_api_classes("THROTTLE_CLASSES"), "allow_request"),
    ]
    for name, entry in conf.get().WORKFLOWS.items():
        classes = [(path, _attempt(import_string, path)) for path in entry.permission_classes]
        asked.append((f"DJANGO_WORKFLOWS['WORKFLOWS'][{name!r}]['permission_classes']", classes, "has_permission"))
    for where, found, method in asked:
        for path, cls in found:
            if isinstance(cls, Exception):
                problem = f"{path!r} cannot be imported ({type(cls).__name__}: {cls})"
            elif not _makes(cls, method):
                problem = f"{path!r} is not a class with {method}()"
            else:
                continue
            hint = "Name subclasses of the REST framework's BaseAuthentication, BasePermission and BaseThrottle."
            messages.append(_error("E012", f"{where}: {problem}.", hint))
    return messages


# Not for every command: Django's test runner turns DEBUG off as well, and serves nobody.
@register(Tags.security, TAG, SERVING_TAG, deploy=True)
def check_anonymous_access(**kwargs: Any) -> list[CheckMessage]:
    if settings.DEBUG or conf.problems():
        return []
    permissions = [cls for _, cls in _api_classes("PERMISSION_CLASSES")[1]]
    deeds = [deed for method, deed in (("GET", "read"), ("POST", "start")) if _lets_anybody(permissions, method)]
    if not deeds:
        return []
    return [
        _error(
            "E013",
            f"Everybody may {' and '.join(deeds)} workflow runs without logging in, and DEBUG is off.",
            'Set DJANGO_WORKFLOWS["PERMISSION_CLASSES"] (or DEFAULT_PERMISSION_CLASSES in REST_FRAMEWORK), for '
            'instance to ["rest_framework.permissions.IsAuthenticated"]. If the API is open on purpose, add '
            '"django_workflows.E013" to SILENCED_SYSTEM_CHECKS.',
        )
    ]


def _api_classes(setting: str) -> tuple[str, list[tuple[str, Any]]]:
    """Return where the API's classes are set, and each with its path; an exception for what cannot be had."""
    paths: Sequence[str] | None = getattr(conf.get(), setting)
    if paths is not None:
        return f"DJANGO_WORKFLOWS[{setting!r}]", [(path, _attempt(import_string, path)) for path in paths]
    where, key = "REST_FRAMEWORK", f"DEFAULT_{setting}"

    def defaults() -> list[Any]:
        from rest_framework.settings import api_settings

        return list(getattr(api_settings, key))

    found = _attempt(defaults)
    if isinstance(found, Exception):
        return where, [(key, found)]
    return where, [(getattr(cls, "__name__", repr(cls)), cls) for cls in found]


def _attempt(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except Exception as error:
        return error


def _makes(cls: Any, method: str) -> bool:
    """Tell whether it is a class with that method, or permission classes joined by ``&``, ``|`` or ``~``."""
    from rest_framework.permissions import OperandHolder, SingleOperandHolder

    if isinstance(cls, OperandHolder | SingleOperandHolder):
        return method == "has_permission"
    return isinstance(cls, type) and callable(getattr(cls, method, None))


def _lets_anybody(permissions: Sequence[Any], method: str) -> bool:
    """Ask the permission classes about a request by nobody; one that cannot answer here does not let it in."""
    try:
        from rest_framework.request import Request
        from rest_framework.settings import api_settings
        from rest_framework.views import APIView

        from django_workflows.models import Handler

        request = Request(HttpRequest())
        request._request.method = method
        nobody: Any = api_settings.UNAUTHENTICATED_USER
        user: Any = nobody() if nobody else None
        request.user = user
        view: Any = APIView(queryset=Handler.objects.none(), request=request, args=(), kwargs={})
        view.action, view.workflow_name = ("read" if method == "GET" else "start"), None
        return all(permission().has_permission(request, view) for permission in permissions)
    except Exception:
        return False
