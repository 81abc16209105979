"""What ``openapi.json`` says about each operation, and the JSON that goes over the wire as pydantic models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from drf_spectacular.utils import OpenApiParameter
from llama_agents.client import protocol  # type: ignore[import-untyped]
from llama_agents.client.protocol.serializable_events import (  # type: ignore[import-untyped]
    EventEnvelope,
    EventEnvelopeWithMetadata,
)
from pydantic import BaseModel, Field, RootModel
from pydantic.json_schema import JsonSchemaMode
from workflows.events import Event

from django_workflows import registry
from django_workflows.api.views import PAGE_SIZE
from django_workflows.models import Handler

JSON = "application/json"

Model = type[BaseModel]
# A description, and what is sent: a model, a JSON schema, or None for nothing.
Answer = tuple[str, Model | dict[str, Any] | None]


# --- what is sent --------------------------------------------------------------------------------------

Text = Annotated[str, Field(min_length=2, json_schema_extra={"contentMediaType": JSON})]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
HandlerId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f-\x9f/?#%\\]+$")]


class Error(BaseModel):
    """Why a request was refused or failed."""

    detail: str | list[Any] | dict[str, Any] = Field(
        description="A sentence; only the site's own authentication and permissions may say it otherwise."
    )


class HandlerData(protocol.HandlerData):  # type: ignore[misc]
    """The public record of a run."""

    handler_id: str = Field(description="The id that the client gave, or a random one.")
    workflow_name: str = Field(description="The name that the workflow is served by.")
    run_id: str | None = Field(description="The handler's present run; another one when the handler is continued.")
    error: str | None = Field(description="Why the run failed.")
    result: EventEnvelopeWithMetadata | None = Field(description="The stop event of a completed run.")
    result_unreadable: bool = Field(False, description="Always false: a result is kept as it is sent.")
    status: protocol.Status = Field(description="How the run stands.")
    started_at: Timestamp
    updated_at: Timestamp | None
    completed_at: Timestamp | None


class LegacyHandlerData(HandlerData):
    """The public record of a run, with its bare result."""

    result: Any = Field(description="The stop event's fields; of a plain StopEvent, what the step returned.")


class HandlerOrError(RootModel[HandlerData | Error]):
    """A run that failed or was cancelled, or an error of the server."""


class LegacyHandlerOrError(RootModel[LegacyHandlerData | Error]):
    """A run that failed or was cancelled, or an error of the server."""


class HandlersListResponse(BaseModel):
    """A page of handlers, newest first."""

    handlers: list[HandlerData]
    next_cursor: str | None = Field(description="Pass it as cursor to get the next page; null on the last one.")


class StartOptions(BaseModel):
    """What a start may have besides its event."""

    handler_id: HandlerId | None = Field(
        None,
        description=(
            "An id of your own. A new one makes the start safe to repeat; that of a finished handler "
            "continues it with its state; that of a running one is refused. A random one by default."
        ),
    )
    context: dict[str, Any] | None = Field(
        None, description="A serialized workflow context to begin from, where the server accepts one."
    )


class RunRequest(StartOptions):
    """What a run begins from."""

    start_event: EventEnvelope | dict[str, Any] | Text | None = Field(
        None, description="The start event's fields, its envelope (type and value), or either as a JSON text."
    )
    kwargs: dict[str, Any] = Field({}, description="The start event's fields, when there is no start_event.")


class SendEventRequest(BaseModel):
    """An event for a run."""

    event: EventEnvelope | Text = Field(description="The event's envelope (type and value), also as a JSON text.")
    step: str | None = Field(
        None, description="The step that alone gets it; every step that accepts it by default."
    )


# --- what is said --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """What the document says about a view's method, beyond what the view itself shows.

    Attributes:
        id: name of the function in a generated client; where the reference's client has one, its name.
        answers: status, or status and media type -> what is answered.
        example: the beginning of a stream.
        events: event classes that the operation's run may send or take.
    """

    id: str
    tag: str
    summary: str
    answers: Mapping[int | tuple[int, str], Answer]
    description: str = ""
    parameters: tuple[OpenApiParameter, ...] = ()
    body: Model | None = None
    deprecated: bool = False
    example: str | None = None
    events: tuple[type[Event], ...] = ()

    def models(self) -> Iterator[tuple[Model, JsonSchemaMode]]:
        """Yield the models whose schemas it needs, as they are read or as they are written."""
        if self.body is not None:
            yield self.body, "validation"
        for _, model in self.answers.values():
            if isinstance(model, type):
                yield model, "serialization"
        for event in self.events:
            yield event, "serialization"


def _flag(name: str, default: bool, description: str) -> OpenApiParameter:
    return OpenApiParameter(name, {"type": "boolean", "default": default}, description=description)


_NAME = OpenApiParameter(
    "name",
    {"type": "string", "pattern": f"^{registry.NAME.pattern}$"},
    OpenApiParameter.PATH,
    description="The name that the workflow is served by.",
)
_HANDLER_ID = OpenApiParameter(
    "handler_id",
    {"type": "string", "minLength": 1, "maxLength": 200},
    OpenApiParameter.PATH,
    description="The handler's id.",
)

_NO_WORKFLOW: Answer = ("No workflow is served under that name.", Error)
_NO_HANDLER: Answer = ("There is no handler with that id.", Error)
_INVALID: Answer = ("The request does not have the form that is expected; nothing was changed.", Error)
_TOO_LARGE: Answer = ("The body is larger than the server accepts; nothing was changed.", Error)
_UNAVAILABLE: Answer = ("The server cannot do it now; the same request may succeed later.", Error)
_FAILED: Answer = ("The run failed or was cancelled, or the server failed.", HandlerOrError)
_STREAM = (
    "Each event is an EventEnvelopeWithMetadata as JSON: as Server-Sent Events with the event's sequence as id "
    "and with comments while nothing happens, or (sse=false) one on a line. The stream ends after the run's last "
    "event."
)

_START_ANSWERS: dict[int | tuple[int, str], Answer] = {
    400: _INVALID,
    404: _NO_WORKFLOW,
    409: ("The handler has a run under way.", Error),
    413: _TOO_LARGE,
    503: _UNAVAILABLE,
}

# The name of the URL and the method -> what is said about it.
OPERATIONS: dict[tuple[str, str], Operation] = {
    ("health", "GET"): Operation(
        "get_health",
        "server",
        "Whether this process serves",
        {
            200: ("It does.", protocol.HealthResponse),
            503: ("The database cannot be reached, or the runtime does not run.", protocol.HealthResponse),
        },
    ),
    ("openapi", "GET"): Operation(
        "get_openapi",
        "server",
        "This document",
        {200: ("An OpenAPI document.", {"type": "object", "additionalProperties": True})},
    ),
    ("workflows", "GET"): Operation(
        "list_workflows",
        "workflows",
        "List the workflows that are served",
        {200: ("Their names.", protocol.WorkflowsListResponse)},
    ),
    ("run", "POST"): Operation(
        "run_workflow",
        "workflows",
        "Run a workflow and wait for its end",
        {200: ("The run has completed.", HandlerData), 500: _FAILED, **_START_ANSWERS},
        description="The run goes on when the client does not wait for it.",
        parameters=(_NAME,),
        body=RunRequest,
    ),
    ("run-nowait", "POST"): Operation(
        "run_workflow_nowait",
        "workflows",
        "Start a run of a workflow",
        {200: ("The run is stored and will happen.", HandlerData), **_START_ANSWERS},
        parameters=(_NAME,),
        body=RunRequest,
    ),
    ("schema", "GET"): Operation(
        "get_workflow_schema",
        "workflows",
        "Get the JSON schemas of a workflow's start and stop event",
        {200: ("The schemas.", protocol.WorkflowSchemaResponse), 404: _NO_WORKFLOW},
        parameters=(_NAME,),
    ),
    ("workflow-events", "GET"): Operation(
        "get_workflow_events",
        "workflows",
        "Get the JSON schemas of a workflow's events",
        {200: ("The schemas.", protocol.WorkflowEventsListResponse), 404: _NO_WORKFLOW},
        parameters=(_NAME,),
    ),
    ("representation", "GET"): Operation(
        "get_workflow_representation",
        "workflows",
        "Get the graph of a workflow's steps and events",
        {200: ("The graph.", protocol.WorkflowGraphResponse), 404: _NO_WORKFLOW},
        parameters=(_NAME,),
    ),
    ("handlers", "GET"): Operation(
        "get_handlers",
        "handlers",
        "List handlers, newest first",
        {200: ("A page.", HandlersListResponse), 400: _INVALID},
        parameters=(
            OpenApiParameter(
                "status",
                {"type": "array", "items": {"type": "string", "enum": list(Handler.Status.values)}},
                description="Only those of this status; repeat it for several.",
            ),
            OpenApiParameter(
                "workflow_name",
                {"type": "array", "items": {"type": "string"}},
                description="Only those of this workflow; repeat it for several.",
            ),
            OpenApiParameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE, "default": PAGE_SIZE},
                description="Handlers on a page, at most.",
            ),
            OpenApiParameter("cursor", {"type": "string"}, description="The next_cursor of an earlier page."),
        ),
    ),
    ("handler", "GET"): Operation(
        "get_handler",
        "handlers",
        "Get a handler: how its run stands, and its result",
        {
            200: ("The run has completed.", HandlerData),
            202: ("The run goes on.", HandlerData),
            404: _NO_HANDLER,
            500: _FAILED,
        },
        parameters=(_HANDLER_ID,),
    ),
    ("result", "GET"): Operation(
        "get_result",
        "handlers",
        "Get a handler with its bare result",
        {
            200: ("The run has completed.", LegacyHandlerData),
            202: ("The run goes on.", LegacyHandlerData),
            404: _NO_HANDLER,
            500: (_FAILED[0], LegacyHandlerOrError),
        },
        description="Use get_handler.",
        parameters=(_HANDLER_ID,),
        deprecated=True,
    ),
    ("cancel", "POST"): Operation(
        "cancel_handler",
        "handlers",
        "Cancel a run, or delete a handler",
        {
            200: ("The run is cancelled, or the handler deleted.", protocol.CancelHandlerResponse),
            404: ("There is no such handler, or (without purge) its run has ended.", Error),
            503: _UNAVAILABLE,
        },
        parameters=(_HANDLER_ID, _flag("purge", False, "Delete the handler with all that belongs to it.")),
    ),
    ("events", "GET"): Operation(
        "stream_events",
        "events",
        "Stream a run's events",
        {
            (200, "text/event-stream"): (_STREAM, {"type": "string"}),
            (200, "application/x-ndjson"): (_STREAM, {"type": "string"}),
            204: ("The run has ended, and there is no event after the position.", None),
            400: _INVALID,
            404: _NO_HANDLER,
            503: ("The server was not started with what streams need.", Error),
        },
        parameters=(
            _HANDLER_ID,
            _flag("sse", True, "Server-Sent Events, or else lines of JSON."),
            OpenApiParameter(
                "after_sequence",
                {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["now"]}], "default": "now"},
                description="Begin after the event of this sequence; -1 is before the first.",
            ),
            OpenApiParameter(
                "Last-Event-ID",
                {"type": "integer"},
                OpenApiParameter.HEADER,
                description="What a browser sends when it reconnects; with sse it wins over after_sequence.",
            ),
            _flag("include_internal", False, "With the engine's own events."),
            _flag("include_qualified_name", True, "With the event classes' qualified names."),
            OpenApiParameter(
                "acquire_timeout",
                {"type": "number"},
                description="Without effect: a run has any number of readers.",
                deprecated=True,
            ),
        ),
        example=(
            'id: 1\ndata: {"value": {"percent": 50}, "qualified_name": "shop.workflows.Progress", '
            '"type": "Progress", "types": null}\n\n'
        ),
    ),
    ("events", "POST"): Operation(
        "send_event",
        "events",
        "Send an event to a run",
        {
            200: ("The event is stored and will be delivered once.", protocol.SendEventResponse),
            400: _INVALID,
            404: _NO_HANDLER,
            409: ("The run has ended.", Error),
            413: _TOO_LARGE,
            503: _UNAVAILABLE,
        },
        parameters=(_HANDLER_ID,),
        body=SendEventRequest,
    ),
}

TAGS = {
    "workflows": "What is served, and how it is started.",
    "handlers": "Runs: how they stand, their results, their end.",
    "events": "What a run tells, and what it is told.",
    "server": "The server itself.",
}
