"""The HTTP interface: what is asked, checked and authorised; the deciding is done by ``service``.

The views are ordinary synchronous DRF views. What has to wait is handed over (``handoff``).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from pydantic_core import to_json
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView
from workflows.representation import get_workflow_representation

from django_workflows import conf, database, eventlog, handlers, registry, service
from django_workflows.api import errors, serializers
from django_workflows.api.consumers import EventStreamConsumer, Reading
from django_workflows.api.handoff import Answer, Handoff, Waiting, without_gate
from django_workflows.exceptions import (
    HandlerFinished,
    HandlerNotFound,
    InvalidRequest,
    TooLarge,
    WorkflowNotFound,
)
from django_workflows.handlers import Start
from django_workflows.models import Handler

# Handlers on a page, at most and by default.
PAGE_SIZE = 1000
# Set in the scope by the gate, which takes handoffs.
GATE = "django_workflows.gate"


class WorkflowsView(APIView):
    """Base of the views: the app's authentication and permissions, JSON whatever the headers say."""

    # They have a document of their own (``openapi``), and keep out of the site's.
    schema = None

    def get_authenticators(self) -> list[BaseAuthentication]:
        paths = conf.get().AUTHENTICATION_CLASSES
        if paths is None:
            return super().get_authenticators()
        return [import_string(path)() for path in paths]

    def get_permissions(self) -> list[Any]:
        paths = conf.get().PERMISSION_CLASSES
        if paths is None:
            return list(super().get_permissions())
        return [import_string(path)() for path in paths]

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

    def handler(self, handler_id: str) -> Handler:
        """Return a handler that the user may see.

        Raises:
            HandlerNotFound: there is none with that id.
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
    try:
        parsed = json.loads(data)
    except RecursionError:
        raise InvalidRequest("Invalid JSON body: it is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(f"Invalid JSON body: {error}") from None
    if not isinstance(parsed, dict):
        raise InvalidRequest(f"The body must be a JSON object, got {_json_type(parsed)}")
    return parsed


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _flag(request: Request, name: str, default: bool) -> bool:
    """Read a boolean parameter: only "true", in any case, is true."""
    value = request.query_params.get(name)
    return default if value is None else value.lower() == "true"


def _concerns(what: Handler | Start) -> dict[str, str]:
    """Return what log records about a request to a run say."""
    return {"handler_id": what.handler_id, "run_id": what.run_id, "workflow": what.workflow_name}


class HealthView(WorkflowsView):
    """Whether this process serves; open to everybody, since load balancers have no account."""

    def get_authenticators(self) -> list[BaseAuthentication]:
        return []

    def get_permissions(self) -> list[BasePermission]:
        return [AllowAny()]

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
    def get(self, request: Request) -> HttpResponse:
        return _json({"workflows": registry.names()})


class WorkflowSchemaView(WorkflowsView):
    def get(self, request: Request, name: str) -> HttpResponse:
        workflow = registry.get(name).workflow
        return _json(
            {
                "start": serializers.event_schema(workflow.start_event_class),
                "stop": serializers.event_schema(workflow.stop_event_class),
            }
        )


class WorkflowEventsView(WorkflowsView):
    def get(self, request: Request, name: str) -> HttpResponse:
        try:
            served = registry.get(name)
        except WorkflowNotFound:
            # The reference's words here.
            raise WorkflowNotFound(f"Workflow '{name}' not found") from None
        events = [*served.workflow.events, *served.additional_events]
        return _json({"events": [serializers.event_schema(event) for event in events]})


class WorkflowRepresentationView(WorkflowsView):
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

    def prepare(self, request: Request, name: str) -> Start:
        served = registry.get(name)
        body = _body(request)
        kwargs = body.get("kwargs")
        if kwargs is None:
            kwargs = {}
        if not isinstance(kwargs, dict):
            raise InvalidRequest(f"kwargs must be an object, got {_json_type(kwargs)}")
        handler_id = body.get("handler_id")
        if handler_id == "":
            handler_id = None
        start = service.prepare_start(
            served,
            body.get("start_event", kwargs),
            handler_id=handler_id,
            context=body.get("context"),
            owner=self.owner(),
        )
        if start.chosen:
            with contextlib.suppress(HandlerNotFound):
                handlers.check_continuation(self.handler(start.handler_id), name)
        return start


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
        found = Handler.objects.using(database.alias()).newest_first()
        statuses = _values(request, "status")
        if statuses is not None:
            found = found.with_status(set(statuses) & set(Handler.Status.values))
        names = _values(request, "workflow_name")
        if names is not None:
            found = found.of_workflows(name for name in names if registry.NAME.fullmatch(name))
        limit = self._limit(request)
        cursor = request.query_params.get("cursor")
        if cursor:
            found = found.after_cursor(*_read_cursor(cursor))
        page = list(found[: limit + 1])
        more = len(page) > limit
        page = page[:limit]
        return _json(serializers.handler_list(page, _write_cursor(page[-1]) if more else None))

    @staticmethod
    def _limit(request: Request) -> int:
        value = request.query_params.get("limit") or str(PAGE_SIZE)
        if not (value.isascii() and value.isdigit() and len(value) <= 6 and 1 <= int(value) <= PAGE_SIZE):
            raise InvalidRequest(f"limit must be a number from 1 to {PAGE_SIZE}, got {value!r}")
        return int(value)


def _values(request: Request, name: str) -> list[str] | None:
    """Read a parameter that may be repeated; None when it is not there or empty."""
    values = [value.strip() for value in request.query_params.getlist(name) if value.strip()]
    return values or None


def _write_cursor(handler: Handler) -> str:
    text = f"{handler.started_at.isoformat()}|{handler.pk}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, _, key = text.partition("|")
        number = int(key)
        if not 0 < number < 2**63:
            raise ValueError
        return datetime.fromisoformat(moment), number
    except (ValueError, binascii.Error):
        raise InvalidRequest("cursor must be the next_cursor of an earlier page") from None


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
    def post(self, request: Request, handler_id: str) -> HttpResponse:
        handler = self.handler(handler_id)
        if _flag(request, "purge", False):

            async def purge() -> Answer:
                await service.apurge(handler)
                return 200, b'{"status":"deleted"}'

            return Handoff(Waiting(purge, **_concerns(handler)))
        if handler.has_ended:
            # As the reference: there is no running handler of that name.
            raise HandlerNotFound

        async def cancel() -> Answer:
            try:
                await service.acancel(handler)
            except HandlerFinished:
                raise HandlerNotFound from None
            return 200, b'{"status":"cancelled"}'

        return Handoff(Waiting(cancel, **_concerns(handler)))


class EventsView(WorkflowsView):
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
        if after > last:
            raise InvalidRequest(f"after_sequence {after} is past the end of the event log (last sequence {last})")
        reading = Reading(
            handler=handler.pk,
            run=handler.run,
            after=max(after, -1),
            sse=sse,
            internal=_flag(request, "include_internal", False),
            qualified_name=_flag(request, "include_qualified_name", True),
        )
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
        letter = service.prepare_event(handler, event, step=body.get("step"))

        async def post() -> Answer:
            await service.apost(letter)
            return 200, b'{"status":"sent"}'

        return Handoff(Waiting(post, **_concerns(handler)))


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
