"""Streaming over HTTP: authorised by a view, fed by ``stream``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from channels.generic.http import AsyncHttpConsumer

from django_workflows import conf, stream
from django_workflows.api import errors, framing, readers
from django_workflows.api.handoff import Receive, Scope, Send, disconnected, with_headers
from django_workflows.eventlog import EventEntry
from django_workflows.exceptions import TooMany


@dataclass(frozen=True)
class Reading:
    """What a reader may and wants to see; made by the view that has authorised it.

    Attributes:
        handler: primary key of the handler.
        run: number of the run.
        after: position of the last event that the reader has, -1 for none.
        sse: Server-Sent Events, or else lines of JSON.
        internal: with internal events.
        qualified_name: with the event classes' qualified names.
        reader: whom the stream counts for: a user or an address.
    """

    handler: int
    run: int
    after: int
    sse: bool
    internal: bool
    qualified_name: bool
    reader: str

    @property
    def content_type(self) -> bytes:
        return b"text/event-stream; charset=utf-8" if self.sse else b"application/x-ndjson"


class EventStreamConsumer(AsyncHttpConsumer):  # type: ignore[misc]  # Channels has no types
    """Streams a run's events until its last one, the reader's departure or the server's end.

    Channels reads a request's messages one after another, so it would not see a disconnect while the stream
    goes on (channels#1249); here both are watched. It takes no channel: nothing is sent to a single reader.
    """

    reading: Reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.base_send = scope, send
        try:
            with readers.admitted(self.reading.reader):
                await self._stream(receive)
        except TooMany as error:
            status, detail = errors.status_and_detail(error, {})
            headers = with_headers([(b"content-type", b"application/json")], self.scope)
            await self.send_response(status, errors.body(detail), headers=headers)

    async def _stream(self, receive: Receive) -> None:
        streaming = asyncio.ensure_future(self.handle(b""))
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait([streaming, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            streaming.cancel()
            gone.cancel()
            results = await asyncio.gather(streaming, gone, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def handle(self, body: bytes) -> None:
        own = [
            (b"content-type", self.reading.content_type),
            # A proxy must neither keep nor gather what it passes on.
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self.send_headers(headers=with_headers(own, self.scope))
        if self.reading.sse:
            # Lets the reader know at once that it is connected.
            await self.send_body(b"", more_body=True)
        heartbeat = conf.get().SSE_HEARTBEAT_INTERVAL if self.reading.sse else None
        send = self.base_send
        async with aclosing(follow(self.reading, heartbeat)) as batches:
            async for batch in batches:
                chunk = framing.SSE_HEARTBEAT if batch is None else self._frames(batch)
                # As send_body() has it, without its two calls for every event and reader.
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self.send_body(b"")

    def _frames(self, batch: list[EventEntry]) -> bytes:
        frame = framing.sse if self.reading.sse else framing.ndjson
        return frame(batch, qualified_name=self.reading.qualified_name)


def follow(reading: Reading, heartbeat: float | None) -> AsyncGenerator[list[EventEntry] | None, None]:
    """Yield the events that a reader wants, until the run's last one or the server's end.

    Args:
        reading: who reads what.
        heartbeat: seconds of silence after which None is yielded; None for never.
    """
    return stream.subscribe(
        reading.handler, reading.run, reading.after, heartbeat=heartbeat, internal=reading.internal
    )
