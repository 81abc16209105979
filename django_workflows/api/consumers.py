"""The consumers that stream: authorised by a view, fed by ``stream``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from channels.generic.http import AsyncHttpConsumer

from django_workflows import conf, stream
from django_workflows.api import framing
from django_workflows.api.handoff import Receive, Scope, Send, disconnected
from django_workflows.eventlog import EventEntry
from django_workflows.runtime import supervisor


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
    """

    handler: int
    run: int
    after: int
    sse: bool
    internal: bool
    qualified_name: bool

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
        await self.send_headers(
            headers=[
                (b"content-type", self.reading.content_type),
                # A proxy must neither keep nor gather what it passes on.
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
            ]
        )
        async for chunk in self._chunks():
            await self.send_body(chunk, more_body=True)
        await self.send_body(b"")

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Yield the stream's bytes, with heartbeats while nothing happens."""
        reading = self.reading
        batches = stream.subscribe(reading.handler, reading.run, reading.after)
        heartbeat = conf.get().SSE_HEARTBEAT_INTERVAL if reading.sse else None
        current = supervisor.current()
        draining = asyncio.ensure_future(current.draining.wait()) if current is not None else None
        following: asyncio.Future[list[EventEntry]] | None = None
        try:
            if reading.sse:
                # Lets the reader know at once that it is connected.
                yield b""
            while True:
                if following is None:
                    following = asyncio.ensure_future(anext(batches))
                watched: set[asyncio.Future[Any]] = {following}
                if draining is not None:
                    watched.add(draining)
                done, _ = await asyncio.wait(watched, timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
                if following in done:
                    try:
                        batch = following.result()
                    except StopAsyncIteration:
                        return
                    following = None
                    chunk = self._frames(batch)
                    if chunk:
                        yield chunk
                elif done:
                    return
                else:
                    yield framing.SSE_HEARTBEAT
        finally:
            for waiting in (following, draining):
                if waiting is not None:
                    waiting.cancel()
            if following is not None:
                await asyncio.gather(following, return_exceptions=True)
            await batches.aclose()  # type: ignore[attr-defined]

    def _frames(self, batch: list[EventEntry]) -> bytes:
        reading = self.reading
        frame = framing.sse if reading.sse else framing.ndjson
        return b"".join(
            frame(event, qualified_name=reading.qualified_name)
            for event in batch
            if reading.internal or not event.internal
        )
