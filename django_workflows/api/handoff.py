"""What a view hands over when Django has finished: waiting and streaming without Django's thread.

A view that would have to wait returns a :class:`Handoff` instead of an answer. The gate sends the request
through middleware and view as usual, and then gives the connection to the handoff's ASGI application, which
keeps the headers that middleware has set. Middleware that replaces the response replaces the handoff.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpResponse

from django_workflows.api import errors
from django_workflows.runtime import supervisor

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, bytes]

# What a scope has from the gate: the headers that middleware has set.
HEADERS = "django_workflows.headers"
# Those that an answer has of its own.
_OWN = (b"content-length", b"content-type")

# Seconds for which nobody looks whether who waits for an answer has gone away.
UNWATCHED = 0.1

_CLOSING: Answer = (503, errors.body("The server is shutting down; what was started goes on"))


class Handoff(HttpResponse):
    """A response whose body comes from an ASGI application, after Django.

    Args:
        application: gets the request's scope and the connection, with the request's body read.
    """

    def __init__(self, application: Application) -> None:
        super().__init__(content_type="application/json")
        self.application = application


class Waiting:
    """An ASGI application that answers with what a coroutine returns.

    Args:
        job: makes the coroutine; it returns status and JSON, or raises what ``errors`` answers. It is
            cancelled when the client goes away; what it has started durably goes on.
        concerns: what a log record of an unexpected error says: ``handler_id``, ``run_id``, ``workflow``.
    """

    def __init__(self, job: Callable[[], Awaitable[Answer]], **concerns: str) -> None:
        self._job = job
        self._concerns = concerns

    async def answer(self) -> Answer:
        try:
            return await self._job()
        except Exception as error:
            status, detail = errors.status_and_detail(error, self._concerns)
            return status, errors.body(detail)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        job = loop.create_task(self.answer())
        job.add_done_callback(lambda task: _note(task, over))
        gone: asyncio.Task[None] | None = None

        def watch() -> None:
            nonlocal gone
            gone = loop.create_task(disconnected(receive))
            gone.add_done_callback(lambda task: _note(task, over))

        # Most have their answer before that, and need nobody who watches the connection.
        watching = loop.call_later(UNWATCHED, watch)
        current = supervisor.current()
        try:
            with current.closing(over) if current is not None and current.is_here else nullcontext():
                await over
            if gone is None or not gone.done():
                status, body = job.result() if job.done() else _CLOSING
                own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": status, "headers": with_headers(own, scope)})
                await send({"type": "http.response.body", "body": body})
        finally:
            watching.cancel()
            if gone is not None:
                gone.cancel()
            if not job.done():
                job.cancel()
                await asyncio.wait([job])


def _note(task: asyncio.Future[Any], over: asyncio.Future[None]) -> None:
    if not task.cancelled():
        # Looked at, so that asyncio does not report it: a connection that cannot be read from is gone.
        task.exception()
    if not over.done():
        over.set_result(None)


def with_headers(own: Headers, scope: Scope) -> Headers:
    """Return an answer's own headers, and those that middleware has set beside them."""
    names = {*_OWN, *(name for name, _ in own)}
    return own + [header for header in scope.get(HEADERS, ()) if header[0] not in names]


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def without_gate(response: Handoff) -> HttpResponse:
    """Answer a handoff where no gate is there to take it (WSGI, Django's test client): the thread waits."""
    if isinstance(response.application, Waiting):
        status, body = async_to_sync(response.application.answer)()
        return HttpResponse(body, status=status, content_type="application/json")
    return HttpResponse(
        errors.body(
            "Streams need the ASGI application of django_workflows: "
            "application = django_workflows.asgi.get_asgi_application()"
        ),
        status=503,
        content_type="application/json",
    )
