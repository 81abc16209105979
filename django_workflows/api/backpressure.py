"""Back-pressure on Daphne, whose ``send`` buffers without limit what a slow client does not read (daphne#170).

Twisted itself tells a registered producer when the connection's buffer is full; sending then waits. And over a
WebSocket, Daphne reads without limit what the application does not take; here its reading waits too. Every other
server does both by itself.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from django_workflows.api.handoff import Receive, Send

# Seconds that a client has to answer a close frame.
FAREWELL = 5.0


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
    request = _behind(send, "daphne.http_protocol")
    if request is None:
        return send
    producer = _Producer()
    registered = False

    async def wait_and_send(message: dict[str, Any]) -> None:
        nonlocal registered
        await producer.room.wait()
        ends = message["type"] == "http.response.body" and not message.get("more_body")
        # A request whose client has just gone has no channel any more, and Twisted looks for none.
        if ends and registered and request.channel is not None:
            request.unregisterProducer()
            registered = False
        await send(message)
        if message["type"] == "http.response.start" and request.channel is not None:
            request.registerProducer(producer, True)
            registered = True

    return wait_and_send


def patient_socket(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Return ``receive`` and ``send`` of a WebSocket that wait for its client, and let its client wait."""
    protocol = _behind(send, "daphne.ws_protocol")
    if protocol is None:
        return receive, send
    transport = protocol.transport
    producer = _Producer()
    accepted = False

    def drop() -> None:
        if protocol.state != protocol.STATE_CLOSED:
            transport.abortConnection()

    async def receive_one() -> dict[str, Any]:
        if protocol.application_queue.empty():
            transport.resumeProducing()
        message = await receive()
        transport.pauseProducing()
        return message

    async def wait_and_send(message: dict[str, Any]) -> None:
        nonlocal accepted
        if message["type"] == "websocket.accept":
            accepted = True
            # The HTTP channel that the connection began as has left itself there.
            transport.unregisterProducer()
            transport.registerProducer(producer, True)
        elif accepted and message["type"] == "websocket.close":
            transport.unregisterProducer()
            # For the client's own close frame.
            transport.resumeProducing()
            # Autobahn's own timer ends with a full second, perhaps the next millisecond; what the client has not
            # read by then is lost to it.
            protocol.closeHandshakeTimeout = 0
            # Daphne's way to close knows no reason, and not the code of a server that stops.
            protocol.sendCloseFrame(message.get("code", 1000), message.get("reason", "").encode())
            if producer.room.is_set():
                asyncio.get_running_loop().call_later(FAREWELL, drop)
            else:
                # A connection that takes nothing would be waited for.
                transport.abortConnection()
            return
        else:
            await producer.room.wait()
            if accepted and protocol.state != protocol.STATE_OPEN:
                # As ASGI has it; what the connection itself raises depends on how it ended.
                raise OSError("the client has gone away")
        await send(message)

    return receive_one, wait_and_send


def cut(send: Send) -> None:
    """End a WebSocket that takes nothing any more, not even its close frame.

    uvicorn would wait for ever to write what is left; the others drop the connection by themselves.
    """
    owner: Any = getattr(send, "__self__", None)
    if type(owner).__module__.startswith("uvicorn.protocols.websockets"):
        owner.transport.abort()


def _behind(send: Any, module: str) -> Any:
    """Return Daphne's Twisted protocol behind its ``send``, None when it is not of that module."""
    if not isinstance(send, partial) or not send.args:
        return None
    protocol = send.args[0]
    return protocol if type(protocol).__module__ == module else None
