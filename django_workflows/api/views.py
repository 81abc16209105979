"""The HTTP interface: what is asked, checked and authorised; the deciding is done by ``service``.

The views are ordinary synchronous DRF views. What has to wait is handed over (``handoff``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.http import Http404, HttpRequest, HttpResponse
from pydantic_core import to_json
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from workflows.representation import get_workflow_representation

from django_workflows import conf, eventlog, handlers, idempotency, limits, registry, service
from django_workflows.api import errors, lists, serializers
from django_workflows.api.access import AuthorisedView
from django_workflows.api.consumers import EventStreamConsumer, Reading
from django_workflows.api.handoff import Answer, Handoff, Waiting, without_gate
from django_workflows.api.sockets import EventSocketConsumer
from django_workflows.exceptions import (
    HandlerFinished,
    HandlerNotFound,
    InvalidRequest,
    TooLarge,
    WorkflowNotFound,
)
from django_workflows.handlers import NEW, Start
from django_workflows.models import Handler

# Set in the scope by the gate, which takes handoffs.
GATE = "django_workflows.gate"
# Set by it where the request is the handshake of a WebSocket, or a command over one.
SOCKET = "django_workflows.socket"


class WorkflowsView(AuthorisedView):
    """Base of the views: authorised as the settings say, and JSON whatever the headers say."""

    # They have a document of their own (``openapi``), and keep out of the site's.
    schema = None

    def get_exception_handler(self) -> Callable[..., Any]:
        return errors.handle

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        # As the reference: the Accept header and ?format= have no say.
        return JSONRenderer(), "application/json"

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        scope = getattr(request._request, "scope", {})
        if isinstance(response, Handoff) and GATE not in scope:
            return without_gate(response)
        return response

    def owner(self) -> AbstractBaseUser | None:
        """Return the user whose run is started."""
        user = self.request.user
        return user if user is not None and user.is_authenticated else None

    def reader(self) -> str:
        """Return whom a stream counts for (MAX_STREAMS_PER_USER): a user, or else an address."""
        user = self.owner()
        # The address as the site's throttling sees it (NUM_PROXIES).
        return f"user {user.pk}" if user is not None else f"address {BaseThrottle().get_ident(self.request)}"

    def handler(self, handler_id: str) -> Handler:
        """Return a handler with which the user may do what is asked for.

        Raises:
            HandlerNotFound: there is none with that id, or the user may not know of it.
            PermissionDenied: the user may read it, and no more.
        """
        found = handlers.find(handler_id)
        self.check_object_permissions(self.request, found)
        return found


def _json(content: bytes | Any, status: int = 200) -> HttpResponse:
    data = content if isinstance(content, bytes) else to_json(content)
    response = HttpResponse(data, status=status, content_type="application/json")
    # A handler that failed is answered with 500 by design; Django would report an error of the site each time.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def _body(request: Request) -> dict[str, Any]:
    """Read a request's body as a JSON object, whatever its Content-Type says."""
    django_request: HttpRequest = request._request
    limit = conf.get().MAX_BODY_SIZE
    data = django_request.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes")
    parsed = limits.load_json(data)
    if not isinstance(parsed, dict):
        raise InvalidRequest(f"The body must be a JSON object, got {limits.json_type(parsed)}")
    return parsed


def _flag(request: Request, name: str, default: bool) -> bool:
    """Read a boolean parameter: only "true", in any case, is true."""
    value = request.query_params.get(name)
    return default if value is None else value.lower() == "true"


def _idempotency_key(request: Request) -> str | None:
    return idempotency.read_header(request.headers.get(idempotency.HEADER))


def _concerns(what: Handler | Start) -> dict[str, str]:
    """Return what log records about a request to a run say."""
    return {"handler_id": what.handler_id, "run_id": what.run_id, "workflow": what.workflow_name}


class HealthView(WorkflowsView):
    """Whether this process serves; open to everybody, since load balancers have no account."""

    def get_authenticators(self) -> list[BaseAuthentication]:
        return []

    def get_permissions(self) -> list[BasePermission]:
        return [AllowAny()]

    def get_throttles(self) -> list[BaseThrottle]:
        return []

    def get(self, request: Request) -> HttpResponse:
        try:
            service.check_health()
        except Exception as error:
            errors.logger.warning("unhealthy: %s", error)
            return _json({"status": "unhealthy"}, status=503)
        return _json({"status": "healthy"})


class NotFoundView(WorkflowsView):
    """What is no path of ours, whatever the method and whoever asks."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise Http404


class WorkflowListView(WorkflowsView):
    actions = {"GET": "describe"}

    def get(self, request: Request) -> HttpResponse:
        return _json({"workflows": [served.name for served in self.visible_workflows()]})


class WorkflowSchemaView(WorkflowsView):
    actions = {"GET": "describe"}

    def get(self, request: Request, name: str) -> HttpResponse:
        workflow = registry.get(name).workflow
        return _json(
            {
                "start": serializers.event_schema(workflow.start_event_class),
                "stop": serializers.event_schema(workflow.stop_event_class),
            }
        )


class WorkflowEventsView(WorkflowsView):
    actions = {"GET": "describe"}

    def workflow_not_found(self, name: str) -> WorkflowNotFound:
        # The reference's words here.
        return WorkflowNotFound(f"Workflow '{name}' not found")

    def get(self, request: Request, name: str) -> HttpResponse:
        try:
            served = registry.get(name)
        except WorkflowNotFound:
            raise self.workflow_not_found(name) from None
        events = [*served.workflow.events, *served.additional_events]
        return _json({"events": [serializers.event_schema(event) for event in events]})


class WorkflowRepresentationView(WorkflowsView):
    actions = {"GET": "describe"}

    def get(self, request: Request, name: str) -> HttpResponse:
        graph = get_workflow_representation(registry.get(name).workflow).model_dump()
        for node in graph["nodes"]:
            # Where the code lies on the server is nobody's business.
            if node.get("source_file"):
                node["source_file"] = node["source_file"].replace("\\", "/").rsplit("/", 1)[-1]
            if node.get("config_file"):
                node["config_file"] = node["config_file"].replace("\\", "/").rsplit("/", 1)[-1]
        return _json({"graph": graph})


class _StartView(WorkflowsView):
    """What both ways to start a run share."""

    actions = {"POST": "start"}

    def prepare(self, request: Request, name: str) -> Start:
        served = registry.get(name)
        body = _body(request)
        kwargs = body.get("kwargs")
        if kwargs is None:
            kwargs = {}
        if not isinstance(kwargs, dict):
            raise InvalidRequest(f"kwargs must be an object, got {limits.json_type(kwargs)}")
        handler_id = body.get("handler_id")
        if handler_id == "":
            handler_id = None
        start = service.prepare_start(
            served,
            body.get("start_event", kwargs),
            handler_id=handler_id,
            context=body.get("context"),
            owner=self.owner(),
            key=_idempotency_key(request),
        )
        most = conf.get().MAX_RUNS_PER_USER
        if most is not None:
            start = replace(start, most=most)
            if start.key is None:
                # A repetition, which only the store can tell, takes no room.
                handlers.check_room([start])
        return self.continuing(start) if start.chosen else start

    def continuing(self, start: Start) -> Start:
        """Return a start under a chosen id, made fast to the handler that the user may continue.

        Raises:
            HandlerNotFound: the id is somebody else's.
        """
        try:
            found = handlers.find(start.handler_id)
        except HandlerNotFound:
            return replace(start, continues=NEW)
        self.check_object_permissions(self.request, found)
        handlers.check_continuation(found, start)
        return replace(start, continues=found.pk)


class RunView(_StartView):
    def post(self, request: Request, name: str) -> HttpResponse:
        start = self.prepare(request, name)

        async def run() -> Answer:
            handler = await service.wait(await service.abegin(start))
            status = 200 if handler.status == Handler.Status.COMPLETED else 500
            return status, serializers.handler(handler)

        return Handoff(Waiting(run, **_concerns(start)))


class RunNowaitView(_StartView):
    def post(self, request: Request, name: str) -> HttpResponse:
        start = self.prepare(request, name)

        async def begin() -> Answer:
            return 200, serializers.handler(await service.abegin(start))

        return Handoff(Waiting(begin, **_concerns(start)))


class HandlerListView(WorkflowsView):
    def get(self, request: Request) -> HttpResponse:
        visible, is_exact = self.visible_handlers()
        page, next_cursor = lists.page(visible, request.query_params, request.user)
        if not is_exact:
            page = [handler for handler in page if self.may_read(handler)]
        return _json(serializers.handler_list(page, next_cursor))


_STATUS_CODES = {Handler.Status.RUNNING: 202, Handler.Status.COMPLETED: 200}


def _status_code(handler: Handler) -> int:
    return _STATUS_CODES.get(Handler.Status(handler.status), 500)


class HandlerView(WorkflowsView):
    def get(self, request: Request, handler_id: str) -> HttpResponse:
        handler = self.handler(handler_id)
        return _json(serializers.handler(handler), _status_code(handler))


class ResultView(WorkflowsView):
    """The deprecated form of :class:`HandlerView`."""

    def get(self, request: Request, handler_id: str) -> HttpResponse:
        handler = self.handler(handler_id)
        return _json(serializers.legacy_result(handler), _status_code(handler))


class CancelView(WorkflowsView):
    def action_of(self, request: Request) -> str:
        if request.method != "POST":
            return "read"
        return "purge" if _flag(request, "purge", False) else "cancel"

    def post(self, request: Request, handler_id: str) -> HttpResponse:
        handler = self.handler(handler_id)
        if self.action == "purge":

            async def purge() -> Answer:
                await service.apurge_handler(handler)
                return 200, b'{"status":"deleted"}'

            return Handoff(Waiting(purge, **_concerns(handler)))
        if handler.has_ended:
            # As the reference: there is no running handler of that name.
            raise HandlerNotFound

        async def cancel() -> Answer:
            try:
                await service.acancel_run(handler)
            except HandlerFinished:
                raise HandlerNotFound from None
            return 200, b'{"status":"cancelled"}'

        return Handoff(Waiting(cancel, **_concerns(handler)))


class EventsView(WorkflowsView):
    actions = {"POST": "answer"}

    def get(self, request: Request, handler_id: str) -> HttpResponse:
        sse = _flag(request, "sse", True)
        after = _after_sequence(request)
        last_event_id = _sequence(request.headers.get("Last-Event-ID", "")) if sse else None
        handler = self.handler(handler_id)
        last = eventlog.last_sequence(handler.pk, handler.run)
        if last_event_id is not None and (last_event_id <= last or handler.has_ended):
            # Otherwise it is of an earlier run, from which a browser reconnects by itself.
            after = last_event_id
        elif after is None:
            after = last
        if after >= last and handler.has_ended:
            response = HttpResponse(status=204)
            del response["Content-Type"]
            return response
        reading = _reading(self, handler, after, last, sse=sse)
        if request.method == "HEAD":
            return HttpResponse(content_type=reading.content_type.decode())
        consumer = EventStreamConsumer()
        consumer.reading = reading
        return Handoff(consumer)

    def post(self, request: Request, handler_id: str) -> HttpResponse:
        body = _body(request)
        event = body.get("event")
        if not event:
            raise InvalidRequest("Event data is required")
        handler = self.handler(handler_id)
        letter = service.prepare_event(handler, event, step=body.get("step"), key=_idempotency_key(request))

        async def post() -> Answer:
            await service.apost(letter)
            return 200, b'{"status":"sent"}'

        return Handoff(Waiting(post, **_concerns(handler)))


class SocketView(WorkflowsView):
    """The handshake of ``WS /ws/events/{handler_id}``, which the gate sends through Django as a GET."""

    def get(self, request: Request, handler_id: str) -> HttpResponse:
        scope = getattr(request._request, "scope", None)
        if scope is None or SOCKET not in scope:
            response = _json({"detail": "This is a WebSocket: connect with ws:// or wss://"}, status=426)
            if scope is not None:
                # WSGI leaves this header to the server, which fails when the application sets it.
                response["Upgrade"] = "websocket"
            return response
        after = _after_sequence(request)
        handler = self.handler(handler_id)
        last = eventlog.last_sequence(handler.pk, handler.run)
        consumer = EventSocketConsumer()
        consumer.handler_id = handler_id
        consumer.reading = _reading(self, handler, last if after is None else after, last, sse=False)
        return Handoff(consumer)


def _reading(view: WorkflowsView, handler: Handler, after: int, last: int, *, sse: bool) -> Reading:
    """Return what a reader wants to see from a position on.

    Args:
        view: whose request it is.
        after: position of the last event that the reader has.
        last: position of the last event that there is.
        sse: see :class:`Reading`.
    """
    if after > last and not handler.has_ended:
        raise InvalidRequest(f"after_sequence {after} is past the end of the event log (last sequence {last})")
    return Reading(
        handler=handler.pk,
        run=handler.run,
        after=max(after, -1),
        sse=sse,
        internal=_flag(view.request, "include_internal", False),
        qualified_name=_flag(view.request, "include_qualified_name", True),
        reader=view.reader(),
    )


def _after_sequence(request: Request) -> int | None:
    """Read after which event a reader wants to begin; None for "now".

    It must be valid also when a ``Last-Event-ID`` wins, as in the reference.
    """
    value = request.query_params.get("after_sequence", "now")
    if value.lower() == "now":
        return None
    after = _sequence(value)
    if after is None:
        raise InvalidRequest(f"Invalid after_sequence: '{value}'")
    return after


def _sequence(value: str) -> int | None:
    try:
        # A position has at most ten digits; a longer text is not worth a conversion.
        return int(value) if len(value) <= 20 else None
    except ValueError:
        return None
