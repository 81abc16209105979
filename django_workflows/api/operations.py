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
from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.json_schema import JsonSchemaMode
from workflows.events import Event

from django_workflows import idempotency, registry
from django_workflows.api.inspection import EVENTS_PAGE_SIZE
from django_workflows.api.lists import DEFAULT_ORDER, ORDERS, PAGE_SIZE
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
    """A page of handlers."""

    handlers: list[HandlerData]
    next_cursor: str | None = Field(description="Pass it as cursor to get the next page; null on the last one.")


class AcceptedEvent(BaseModel):
    """A class of events that a workflow's runs may be sent."""

    model_config = ConfigDict(serialize_by_alias=True)

    type: str = Field(description="The class's name.")
    expected: bool = Field(
        description="Whether it is meant to come from outside: a person's answer, for instance."
    )
    additional: bool = Field(description="Whether it is one of the workflow's additional events.")
    json_schema: dict[str, Any] = Field(alias="schema", description="The JSON schema of its fields.")


class AcceptedEventsResponse(BaseModel):
    """The events that a workflow's runs may be sent, those that are meant to come from outside first."""

    events: list[AcceptedEvent]


class Place(BaseModel):
    """A point of the drawing, in pixels."""

    x: float
    y: float


class PlacedNode(Place):
    """A node of the graph; x and y are its upper left corner."""

    width: float
    height: float
    layer: int


class PlacedEdge(BaseModel):
    """An edge of the graph."""

    source: str
    target: str
    path: str = Field(description="Its line, as the data of an SVG path; it begins inside of the source.")
    middle: Place = Field(description="A place for a label.")


class LayoutResponse(BaseModel):
    """A workflow's graph as a drawing from top to bottom."""

    nodes: dict[str, PlacedNode]
    edges: list[PlacedEdge]
    width: float
    height: float


class LoggedEvent(BaseModel):
    """An event at its position in a run's event log."""

    sequence: int
    time: Timestamp = Field(description="When the run produced it.")
    internal: bool = Field(description="Whether it is one of the engine's own.")
    event: EventEnvelopeWithMetadata


class HandlerEventsResponse(BaseModel):
    """A page of a run's event log."""

    run_id: str = Field(description="The run whose log it is; another one when the handler is continued.")
    now: Timestamp = Field(description="The time at the server.")
    last_sequence: int = Field(description="The position of the log's last event, -1 while there is none.")
    events: list[LoggedEvent]


class StoredEvent(BaseModel):
    """The event that a run began from."""

    type: str | None
    value: Any


class Owner(BaseModel):
    """The user whose run it is."""

    name: str
    url: str | None = Field(description="The user's page in the admin, for whom may see it.")


class HandlerContextResponse(BaseModel):
    """A run from inside."""

    handler: HandlerData
    run: int = Field(description="The number of the present run among those of its handler, from 1.")
    start_event: StoredEvent
    state: Any = Field(description="What the steps have saved in the context; null while there is nothing.")
    state_type: str | None = Field(description="The state's class, null for a plain dictionary.")
    state_updated_at: Timestamp | None
    idle_since: Timestamp | None = Field(description="Since when the run waits for an event from outside.")
    wake_at: Timestamp | None = Field(description="The earliest deadline of a run that has left memory.")
    admin_url: str | None = Field(description="The run's page in the admin, for staff who may see it.")
    owner: Owner | None = Field(description="Who started the run, for the same.")


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
        items: what the stream that is answered consists of.
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
    items: Model | None = None

    def models(self) -> Iterator[tuple[Model, JsonSchemaMode]]:
        """Yield the models whose schemas it needs, as they are read or as they are written."""
        if self.body is not None:
            yield self.body, "validation"
        for _, model in self.answers.values():
            if isinstance(model, type):
                yield model, "serialization"
        for event in self.events:
            yield event, "serialization"
        if self.items is not None:
            yield self.items, "serialization"


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
# What a reader of a run's events may choose.
_READING = (
    OpenApiParameter(
        "after_sequence",
        {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["now"]}], "default": "now"},
        description="Begin after the event of this sequence; -1 is before the first.",
    ),
    _flag("include_internal", False, "With the engine's own events."),
    _flag("include_qualified_name", True, "With the event classes' qualified names."),
)

_NO_WORKFLOW: Answer = ("No workflow is served under that name.", Error)
_NO_HANDLER: Answer = ("There is no handler with that id.", Error)
_INVALID: Answer = ("The request does not have the form that is expected; nothing was changed.", Error)
_TOO_LARGE: Answer = ("The body or event is larger than the server accepts; nothing was changed.", Error)
_TOO_MANY: Answer = ("Too many at a time for this user or run, or too many requests; nothing was changed.", Error)
_UNAVAILABLE: Answer = ("The server cannot do it now; the same request may succeed later.", Error)
_FAILED: Answer = ("The run failed or was cancelled, or the server failed.", HandlerOrError)
_STREAM = (
    "Each event is an EventEnvelopeWithMetadata as JSON: as Server-Sent Events with the event's sequence as id "
    "and with comments while nothing happens, or (sse=false) one on a line. The stream ends after the run's last "
    "event."
)

_KEY_REUSED: Answer = ("The idempotency key was used with another content; nothing was changed.", Error)


# In the quotes of the IETF's draft, or without.
_KEY = r'^("([ !#-\[\]-~]|\\["\\])+"|[!#-~]+)$'


def _idempotency_key(description: str) -> OpenApiParameter:
    return OpenApiParameter(
        idempotency.HEADER,
        {"type": "string", "minLength": 1, "maxLength": idempotency.MAX_LENGTH, "pattern": _KEY},
        OpenApiParameter.HEADER,
        description=description,
    )


_START_KEY = _idempotency_key(
    "A key of your own that makes the start safe to repeat: a start of this workflow by the same user with a key "
    "that was used is answered with the run of that time."
)

_START_ANSWERS: dict[int | tuple[int, str], Answer] = {
    400: _INVALID,
    404: _NO_WORKFLOW,
    409: ("The handler has a run under way.", Error),
    413: _TOO_LARGE,
    422: _KEY_REUSED,
    429: _TOO_MANY,
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
        parameters=(_NAME, _START_KEY),
        body=RunRequest,
    ),
    ("run-nowait", "POST"): Operation(
        "run_workflow_nowait",
        "workflows",
        "Start a run of a workflow",
        {200: ("The run is stored and will happen.", HandlerData), **_START_ANSWERS},
        parameters=(_NAME, _START_KEY),
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
    ("layout", "GET"): Operation(
        "get_workflow_layout",
        "workflows",
        "Get where the nodes and edges of a workflow's graph go in a drawing",
        {200: ("The places.", LayoutResponse), 404: _NO_WORKFLOW},
        parameters=(_NAME,),
    ),
    ("accepted-events", "GET"): Operation(
        "get_accepted_events",
        "workflows",
        "Get the events that a workflow's runs may be sent",
        {200: ("The events, with their schemas.", AcceptedEventsResponse), 404: _NO_WORKFLOW},
        parameters=(_NAME,),
    ),
    ("handlers", "GET"): Operation(
        "get_handlers",
        "handlers",
        "List handlers",
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
            OpenApiParameter(
                "order",
                {"type": "string", "enum": list(ORDERS), "default": DEFAULT_ORDER},
                description="By start or by last change; with a minus sign the last one first.",
            ),
            OpenApiParameter(
                "started_since",
                {"type": "string", "format": "date-time"},
                description="Only those that were started at this moment or later.",
            ),
            OpenApiParameter(
                "started_until",
                {"type": "string", "format": "date-time"},
                description="Only those that were started before this moment.",
            ),
            OpenApiParameter(
                "owner", {"type": "string"}, description="Only those of a user: me, or the user's id."
            ),
            OpenApiParameter(
                "idle",
                {"type": "boolean"},
                description="Only those that wait for an event from outside (true), or only the others (false).",
            ),
            OpenApiParameter(
                "handler_id",
                {"type": "string", "minLength": 1, "maxLength": 200},
                description="Only those whose id begins so.",
            ),
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
    ("handler-events", "GET"): Operation(
        "get_handler_events",
        "handlers",
        "Get a page of a run's event log, with internal events and times",
        {200: ("A page.", HandlerEventsResponse), 400: _INVALID, 404: _NO_HANDLER},
        parameters=(
            _HANDLER_ID,
            OpenApiParameter(
                "after",
                {"type": "integer", "minimum": -1, "default": -1},
                description="Begin after the event of this sequence; -1 is before the first.",
            ),
            OpenApiParameter(
                "limit",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": EVENTS_PAGE_SIZE,
                    "default": EVENTS_PAGE_SIZE,
                },
                description="Events on a page, at most.",
            ),
        ),
    ),
    ("handler-context", "GET"): Operation(
        "get_handler_context",
        "handlers",
        "Get what a run began from, its state, and since when it waits",
        {200: ("The run from inside.", HandlerContextResponse), 404: _NO_HANDLER},
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
            429: _TOO_MANY,
            503: ("The server was not started with what streams need.", Error),
        },
        parameters=(
            _HANDLER_ID,
            _flag("sse", True, "Server-Sent Events, or else lines of JSON."),
            *_READING,
            OpenApiParameter(
                "Last-Event-ID",
                {"type": "integer"},
                OpenApiParameter.HEADER,
                description="What a browser sends when it reconnects; with sse it wins over after_sequence.",
            ),
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
        items=EventEnvelopeWithMetadata,
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
            422: _KEY_REUSED,
            429: _TOO_MANY,
            503: _UNAVAILABLE,
        },
        parameters=(
            _HANDLER_ID,
            _idempotency_key(
                "A key of your own that makes it safe to send the event again: while the run goes on, within a "
                "day, it is delivered once."
            ),
        ),
        body=SendEventRequest,
    ),
    ("socket", "GET"): Operation(
        "open_socket",
        "events",
        "Open a WebSocket for a run's events and for commands",
        {
            101: ("The connection is a WebSocket from now on.", None),
            426: ("The request does not ask for a WebSocket.", Error),
        },
        description=(
            "Once it is open, a refusal is an error message and a close code of 4000 and the status that a GET "
            "would be answered with."
        ),
        parameters=(_HANDLER_ID, *_READING),
    ),
}

TAGS = {
    "workflows": "What is served, and how it is started.",
    "handlers": "Runs: how they stand, their results, their end.",
    "events": "What a run tells, and what it is told.",
    "server": "The server itself.",
}
