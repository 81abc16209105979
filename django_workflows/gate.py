"""One hop through Django, then waiting and streaming without it.

Under ASGI, Django gives every request a thread of its own for as long as it lives, also to one with an async
view: 3,000 waiting requests are 3,000 threads, and a database connection each where authentication has queried.
For our own URLs the gate therefore runs the site's whole synchronous middleware chain and the view in one hop on
a bounded thread pool, as ``WSGIHandler`` does it; what the view hands over (``api/handoff.py``) then waits on the
event loop.
"""

from __future__ import annotations

import contextvars
import io
from functools import lru_cache, partial
from typing import Any

from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse, HttpResponseBase
from django.urls import Resolver404, get_urlconf, resolve, set_script_prefix

from django_workflows import conf
from django_workflows.api import errors, handshake, sockets
from django_workflows.api.backpressure import patient, patient_socket
from django_workflows.api.handoff import HEADERS, Answer, Application, Handoff, Receive, Scope, Send, Waiting
from django_workflows.api.views import GATE, SOCKET, SocketView, WorkflowsView
from django_workflows.exceptions import InvalidRequest
from django_workflows.threads import ThreadPool


class _Disconnected(Exception):
    """The client went away before its request was complete."""


class _BodyTooLarge(Exception):
    """The request's body is over MAX_BODY_SIZE."""


class Gate(BaseHandler):
    """An ASGI application in front of Django's.

    Args:
        django: Django's ASGI application; gets every request that is not for one of our views.
    """

    def __init__(self, django: Application) -> None:
        super().__init__()
        self.load_middleware()
        self._django = django
        self._pool = ThreadPool(conf.get().THREADS, "django-workflows-http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._view(scope) is None:
            await self._django(scope, receive, send)
            return
        try:
            body = await _read(scope, receive)
        except _Disconnected:
            return
        except _BodyTooLarge:
            detail = f"The body is larger than {conf.get().MAX_BODY_SIZE} bytes"
            await _send(send, 413, [(b"content-type", b"application/json")], errors.body(detail))
            return
        scope = {**scope, GATE: True}
        response = await self._through_django(scope, body)
        headers = _headers(response)
        if isinstance(response, Handoff):
            await response.application({**scope, HEADERS: headers}, receive, patient(send))
        else:
            await _send(send, response.status_code, headers, _content(response))

    def has_socket(self, scope: Scope) -> bool:
        """Tell whether a WebSocket is ours."""
        view = self._view(scope)
        return view is not None and issubclass(view, SocketView)

    async def socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket of ours."""
        await receive()
        receive, send = patient_socket(receive, send)
        if not handshake.comes_from_here(scope):
            await sockets.deny(send)
            return
        try:
            request = {**handshake.as_get(scope), GATE: True, SOCKET: True}
        except InvalidRequest as error:
            await sockets.refuse(scope, send, error.status, str(error))
            return
        response = await self._through_django(request, b"")
        if isinstance(response, Handoff):
            scope = {**scope, sockets.ASK: partial(self._ask, request)}
            await response.application(scope, receive, send)
        else:
            await sockets.refuse(scope, send, *sockets.reason(response.status_code, _content(response)))

    async def _ask(self, request: Scope, command: sockets.Command) -> Answer:
        """Carry out a command over a WebSocket whose handshake was ``request``."""
        path, body, headers = command
        response = await self._through_django(handshake.as_post(request, path, body, headers), body)
        if isinstance(response, Handoff):
            assert isinstance(response.application, Waiting)
            return await response.application.answer()
        return response.status_code, _content(response)

    async def _through_django(self, scope: Scope, body: bytes) -> HttpResponseBase:
        return await self._pool.run(contextvars.copy_context().run, self._respond, scope, body)

    def _view(self, scope: Scope) -> type[WorkflowsView] | None:
        """Return the view of ours that a path leads to."""
        path: str = scope["path"]
        prefix = get_script_prefix(scope).rstrip("/")
        if prefix and (path == prefix or path.startswith(prefix + "/")):
            path = path[len(prefix) :]
        return _view_of(path, get_urlconf() or settings.ROOT_URLCONF)

    def _respond(self, scope: Scope, body: bytes) -> HttpResponseBase:
        """Send a request through middleware and view, in a thread of the pool."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request = ASGIRequest(scope, io.BytesIO(body))
        if SOCKET in scope:
            # Whether the page may act with its user's cookies was decided by its Origin.
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        response = self.get_response(request)
        if isinstance(response, Handoff) and response.status_code != 200:
            # Middleware has decided otherwise without making a response of its own.
            response = HttpResponse(status=response.status_code, headers=dict(response.items()))
        # Closes the request's database connections as the site has configured it (request_finished).
        response.close()
        return response


@lru_cache(maxsize=1024)
def _view_of(path: str, urlconf: Any) -> type[WorkflowsView] | None:
    """Return the view of ours that a path leads to; remembered, since Django itself looks for it once more."""
    try:
        view = resolve(path, urlconf).func
    except Resolver404:
        return None
    cls = getattr(view, "cls", None)
    return cls if isinstance(cls, type) and issubclass(cls, WorkflowsView) else None


async def _read(scope: Scope, receive: Receive) -> bytes:
    limit = conf.get().MAX_BODY_SIZE
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _BodyTooLarge
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        body.extend(message.get("body", b""))
        if len(body) > limit:
            raise _BodyTooLarge
        if not message.get("more_body"):
            return bytes(body)


def _headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    headers = [(name.lower().encode("latin1"), value.encode("latin1")) for name, value in response.items()]
    cookies = [(b"set-cookie", cookie.OutputString().encode()) for cookie in response.cookies.values()]
    return headers + cookies


def _content(response: HttpResponseBase) -> bytes:
    if isinstance(response, HttpResponse):
        return response.content
    return b"".join(response)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    if not any(name == b"content-length" for name, _ in headers) and status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
