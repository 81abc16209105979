"""Back-pressure on Daphne, whose ``send`` buffers without limit what a slow client does not read (daphne#170).

Twisted itself tells a registered producer when the connection's buffer is full; sending then waits. Every other
server blocks in ``send`` by itself.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from django_workflows.api.handoff import Send


class _Producer:
    """A Twisted push producer that only remembers whether there is room."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()

    def pauseProducing(self) -> None:
        self.room.clear()

    def resumeProducing(self) -> None:
        self.room.set()

    def stopProducing(self) -> None:
        self.room.set()


def patient(send: Send) -> Send:
    """Return a ``send`` that waits while the client's connection is full."""
    request = _daphne_request(send)
    if request is None:
        return send
    producer = _Producer()
    registered = False

    async def wait_and_send(message: dict[str, Any]) -> None:
        nonlocal registered
        await producer.room.wait()
        ends = message["type"] == "http.response.body" and not message.get("more_body")
        if ends and registered:
            request.unregisterProducer()
            registered = False
        await send(message)
        if message["type"] == "http.response.start":
            request.registerProducer(producer, True)
            registered = True

    return wait_and_send


def _daphne_request(send: Any) -> Any:
    """Return Daphne's Twisted request behind its ``send``, None on another server."""
    if not isinstance(send, partial) or not send.args:
        return None
    request = send.args[0]
    return request if type(request).__module__ == "daphne.http_protocol" else None
