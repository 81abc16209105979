"""``GET /openapi.json``: the HTTP interface as OpenAPI 3.1, to read and to generate clients from.

drf-spectacular writes the operations from our views and from what ``operations`` says about them. Beside the
generic ones stands one for each served workflow and way to start it, with the workflow's own events. All schemas
come from one pydantic generator, which keeps classes of the same name apart.

The site's own drf-spectacular settings (its hooks, prefixes, version) do not apply here, and it need not have any.
"""

from __future__ import annotations

import inspect
import logging
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed
from django.http import HttpResponse
from django.utils.encoding import escape_uri_path
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from llama_agents.client.protocol.serializable_events import (  # type: ignore[import-untyped]
    EventEnvelope,
    EventEnvelopeWithMetadata,
)
from pydantic import Field, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema, to_json
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from workflows.events import Event, StartEvent, StopEvent

import django_workflows
from django_workflows import registry
from django_workflows.api.operations import (
    JSON,
    OPERATIONS,
    TAGS,
    Answer,
    Error,
    HandlerData,
    Model,
    Operation,
    RunRequest,
    StartOptions,
)
from django_workflows.api.views import WorkflowsView
from django_workflows.registry import Served

logger = logging.getLogger("django_workflows.api")


class OpenAPIView(WorkflowsView):
    """This document, with the workflows that the user may know of."""

    actions = {"GET": "describe"}

    def get(self, request: Request) -> HttpResponse:
        # The script name and the include() prefix, as the client has them in its URL.
        base = escape_uri_path(request.path.removesuffix("/openapi.json"))
        servers = to_json([{"url": base or "/"}])
        with _lock:
            rest = document(tuple(self.visible_workflows()))
        return HttpResponse(b'{"servers":%b,%b' % (servers, rest[1:]), content_type=JSON)


_lock = threading.Lock()


# Users may see different workflows.
@lru_cache(maxsize=16)
def document(served: tuple[Served, ...]) -> bytes:
    """Return the document as JSON, without its servers, which depend on the request.

    It is written once in a process for those who see the same workflows, and by one thread at a time:
    drf-spectacular is not made for several.
    """
    generic = list(_generic())
    taken = {endpoint.operation.id for endpoint in generic}
    starts = [endpoint for endpoint in generic if endpoint.operation.body is RunRequest]
    own = [_own(one, endpoint, taken) for one in served for endpoint in starts]
    components = _Components(endpoint.operation for endpoint in (*generic, *own))
    paths: dict[str, dict[str, Any]] = {}
    with GENERATOR_STATS.silence():
        for endpoint in (*generic, *own):
            operations = paths.setdefault(endpoint.path, {})
            operations[endpoint.method.lower()] = _Schema(endpoint).describe(components)
    tags = {**TAGS, **{_tag(one): inspect.cleandoc(type(one.workflow).__doc__ or "") for one in served}}
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "Workflows",
            "version": django_workflows.__version__,
            "description": (
                "Start workflows, watch, answer and cancel their runs. "
                "What is answered with a status of 2xx is stored. Every error has a detail."
            ),
        },
        "tags": [{"name": name, "description": text} if text else {"name": name} for name, text in tags.items()],
        "paths": paths,
        "components": components.build({}),
    }
    return to_json(found, inf_nan_mode="null", fallback=str)


def _forget(**kwargs: Any) -> None:
    document.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_workflows.api.openapi")


# --- endpoints -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Endpoint:
    path: str
    method: str
    view: type[WorkflowsView]
    operation: Operation


def _generic() -> Iterator[_Endpoint]:
    """Yield what our URLs offer."""
    # Here, since the URLs name the view above.
    from django_workflows.api.urls import urlpatterns

    for pattern in urlpatterns:
        path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        for method in ("GET", "POST"):
            operation = OPERATIONS.get((str(pattern.name), method))
            if operation is not None:
                yield _Endpoint(path, method, pattern.callback.cls, operation)  # type: ignore[attr-defined]


def _own(served: Served, start: _Endpoint, taken: set[str]) -> _Endpoint:
    """Return a way to start any workflow as one to start this one; ``taken`` gets its operation's id."""
    generic = start.operation
    slug = re.sub(r"\W", "_", served.name)
    operation = replace(
        generic,
        id=_unique(generic.id.replace("workflow", slug), taken),
        tag=_tag(served),
        summary=generic.summary.replace("a workflow", served.name),
        parameters=(),
        body=_run_request(served),
        answers={**generic.answers, 200: (generic.answers[200][0], _handler_data(served))},
        events=tuple(_describable(event, "serialization") for _, event in sorted(served.events.items())),
    )
    return replace(start, path=start.path.replace("{name}", served.name), operation=operation)


def _tag(served: Served) -> str:
    return f"workflow: {served.name}"


def _unique(name: str, taken: set[str]) -> str:
    number, chosen = 1, name
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    taken.add(chosen)
    return chosen


# --- schemas -------------------------------------------------------------------------------------------


# Each model is made once, since a second one of the same name would be kept apart from the first.
@lru_cache(maxsize=1024)
def _run_request(served: Served) -> Model:
    """Return the model of what starts a workflow: its own start event, and what every start may have."""
    start = _describable(served.start_event_class, "validation")
    fields: Any = start
    if "value" in start.model_fields or {"type", "qualified_name"} <= start.model_fields.keys():
        # Its plain fields would be taken for an envelope.
        fields = _envelope(start, EventEnvelope)
    needed = any(one.is_required() for one in start.model_fields.values())
    definition: Any = (fields, ...) if needed else (fields | None, None)
    return create_model(
        f"{_class_name(served)}RunRequest",
        __base__=StartOptions,
        __doc__=f"What a run of {served.name} begins from.",
        start_event=definition,
    )


@lru_cache(maxsize=1024)
def _handler_data(served: Served) -> Model:
    """Return the model of a workflow's handlers, with its own stop event."""
    stop_event_class: Any = served.workflow.stop_event_class
    stop = _describable(stop_event_class, "serialization")
    description = HandlerData.model_fields["result"].description
    definition: Any = (_envelope(stop, EventEnvelopeWithMetadata) | None, Field(description=description))
    return create_model(
        f"{_class_name(served)}HandlerData",
        __base__=HandlerData,
        __doc__=f"The public record of a run of {served.name}.",
        result=definition,
    )


@lru_cache(maxsize=1024)
def _envelope(event: type[Event], base: Model) -> Any:
    definition: Any = (event, ...)
    return create_model(
        f"{event.__name__}Envelope", __base__=base, __doc__=f"{event.__name__} as it is sent.", value=definition
    )


def _class_name(served: Served) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[\W_]+", served.name))


@lru_cache(maxsize=1024)
def _describable(event: type[Event], mode: JsonSchemaMode) -> type[Event]:
    """Return an event class, or the base that it is described as when pydantic has no schema of it."""
    try:
        models_json_schema([(event, mode)], schema_generator=_Schemas)
    except Exception as error:
        logger.warning("openapi.json says nothing about the fields of %s: %s", event.__qualname__, error)
        return next(base for base in (StartEvent, StopEvent, Event) if issubclass(event, base))
    return event


class _Schemas(GenerateJsonSchema):
    """pydantic's generator of schemas, for events as they are read and written."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        # A field whose type has no schema may be anything, and does not cost the others theirs.
        return {}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        if schema["cls"] is StopEvent:
            found.setdefault("properties", {})["result"] = {"description": "What the step returned."}
        return found

    def ser_schema(self, schema: Any) -> JsonSchemaValue | None:
        # The events' own serializer only adds to the fields, but is declared to return anything.
        if getattr(schema.get("function"), "__name__", "") == "custom_model_dump":
            return None
        return super().ser_schema(schema)

    def _get_alias_name(self, field: Any, name: str) -> str:
        # Aliases are for input: events are written with their fields' names. (The setting is of pydantic 2.11.)
        if self.mode == "serialization" and not getattr(self._config, "serialize_by_alias", False):
            return name
        return super()._get_alias_name(field, name)


class _Components(ComponentRegistry):
    """The document's components; the schemas of all operations' models are there from the start."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        super().__init__()
        models = dict.fromkeys(pair for operation in operations for pair in operation.models())
        self.schemas, rest = models_json_schema(
            list(models), ref_template="#/components/schemas/{model}", schema_generator=_Schemas
        )
        for name, schema in rest.get("$defs", {}).items():
            self.add(ResolvedComponent.SCHEMA, name, schema)

    def add(self, kind: str, name: str, schema: dict[str, Any]) -> None:
        self.register_on_missing(ResolvedComponent(name, kind, schema, object=name))  # type: ignore[no-untyped-call]


# --- operations ----------------------------------------------------------------------------------------


class _Schema(AutoSchema):
    """Describes an endpoint: what drf-spectacular reads from its view, and what ``operations`` says."""

    registry: _Components

    def __init__(self, endpoint: _Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.said = endpoint.operation
        view = endpoint.view()
        # As our views answer, whatever the site's defaults are.
        view.renderer_classes = [JSONRenderer]
        view.versioning_class = None
        self.view = view

    def describe(self, components: _Components) -> dict[str, Any]:
        endpoint = self.endpoint
        found = self.get_operation(endpoint.path, endpoint.path, "/", endpoint.method, components)
        assert found is not None
        if "requestBody" in found:
            found["requestBody"]["required"] = True
        return found

    def get_operation_id(self) -> str:
        return self.said.id

    def get_summary(self) -> str:
        return self.said.summary

    def get_description(self) -> str:  # type: ignore[override]
        return self.said.description

    def get_tags(self) -> list[str]:
        return [self.said.tag]

    def is_deprecated(self) -> bool:
        return self.said.deprecated

    def get_override_parameters(self) -> list[Any]:
        return list(self.said.parameters)

    def get_request_serializer(self) -> Any:
        body = self.said.body
        return {} if body is None else {JSON: self.registry.schemas[body, "validation"]}

    def get_response_serializers(self) -> Any:
        answers = {500: _SERVER_FAILED, **self._refusals(), **self.said.answers}
        responses = {}
        for key, (description, model) in answers.items():
            status, media_type = key if isinstance(key, tuple) else (key, JSON)
            schema = self.registry.schemas[model, "serialization"] if isinstance(model, type) else model
            examples = []
            if self.said.example is not None and media_type == "text/event-stream":
                examples.append(OpenApiExample("event", self.said.example))
            responses[status, media_type] = OpenApiResponse(schema, description, examples)
        return dict(sorted(responses.items()))

    def _refusals(self) -> dict[int | tuple[int, str], Answer]:
        """Return the answers that are given before the view is asked."""
        view = self.view
        refusals: dict[int | tuple[int, str], Answer] = {}
        if view.get_authenticators():
            refusals[401] = ("Not authenticated.", Error)
        asks = any(type(one) is not AllowAny for one in view.get_permissions()) or registry.guarded()
        if view.get_authenticators() or (asks and self.said.id != "get_health"):
            refusals[403] = ("Not allowed, or (with a session) without a CSRF token.", Error)
        if view.get_throttles():
            refusals[429] = ("Too many requests.", Error)
        return refusals

    def get_extensions(self) -> dict[str, Any]:
        schemas, said = self.registry.schemas, self.said
        found: dict[str, Any] = {}
        if said.events:
            found["x-workflow-events"] = [schemas[event, "serialization"] for event in said.events]
        if said.items is not None:
            # OpenAPI 3.1 has no word for it.
            found["x-stream-items"] = schemas[said.items, "serialization"]
        return found

    def get_auth(self) -> list[dict[str, Any]]:
        required = super().get_auth()
        for authenticator in self.view.get_authenticators():
            if OpenApiAuthenticationExtension.get_match(authenticator) is None:
                name = type(authenticator).__name__
                self.registry.add(ResolvedComponent.SECURITY_SCHEMA, name, _security_scheme(authenticator))
                required.insert(0, {name: []})
        return required


_SERVER_FAILED: Answer = ("The server failed.", Error)


def _security_scheme(authenticator: BaseAuthentication) -> dict[str, Any]:
    """Return what can be said of an authentication class that drf-spectacular has no extension for."""
    challenge = None
    with suppress(Exception):
        challenge = authenticator.authenticate_header(None)  # type: ignore[arg-type]
    if challenge:
        return {"type": "http", "scheme": challenge.split()[0].lower()}
    description = inspect.cleandoc(type(authenticator).__doc__ or "As the site says.")
    return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}
