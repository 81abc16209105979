"""A run's events and commands over one WebSocket.

The server sends ``event`` messages, and ``end`` after the last one; the client sends ``send_event`` and
``cancel``, one after another, each answered by ``ack`` or ``error``. A command is the POST request that it stands
for, sent through middleware, authentication and permission classes as any other: who has logged out since the
handshake, or has lost a permission, is refused.

======  ==========================================================================================
1000    the run has ended, and everything was sent
1011    something unexpected went wrong
1012    the server stops: come back with the cursor
4408    the client did not read what it was sent: come back with the cursor
4409    the handler was continued with another run
4xxx    the handshake was refused: 4000 and the status that a GET is answered with (4400, 4401, 4403,
        4404, 4429, 4503)
======  ==========================================================================================
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from django_workflows import conf, database, idempotency, limits
from django_workflows.api import framing, handshake, readers, serializers
from django_workflows.api.backpressure import cut
from django_workflows.api.consumers import Reading, follow
from django_workflows.api.handoff import Answer, Receive, Scope, Send
from django_workflows.exceptions import HandlerNotFound, InvalidRequest, TooLarge, TooMany, WorkflowsError
from django_workflows.models import Handler
from django_workflows.runtime import supervisor

logger = logging.getLogger("django_workflows.api")

# A command as a POST request: its path below the prefix, its body and its headers.
Command = tuple[str, bytes, handshake.Headers]
# Set in the scope by the gate: sends a command through Django.
ASK = "django_workflows.ask"
Ask = Callable[[Command], Awaitable[Answer]]
# A close code and its reason.
Farewell = tuple[int, str]

# Seconds that a client may leave what it is sent unread.
PATIENCE = 30.0
# Seconds that a command under way is given when its socket ends: longer than a cancellation waits.
LAST_COMMAND = 8.0
# Characters of a command's id, which its answer repeats.
ID_LENGTH = 200
# Bytes of a close frame's reason.
REASON_LENGTH = 123


class _NotReading(Exception):
    """The client leaves unread what it is sent."""


class EventSocketConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """Sends a run's events and takes commands for it, until its end, the client's departure or the server's end.

    Channels would handle a socket's messages one after another and nothing besides; here events go out while
    commands come in. Commands are not read faster than they are carried out, so a client that floods is held up
    by its own connection. It takes no channel: nothing is sent to a single reader.

    Attributes:
        handler_id: the public id, for commands.
        reading: what the client may and wants to see.
    """

    handler_id: str
    reading: Reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.base_send = scope, send
        self._ask: Ask = scope[ASK]
        self._sending = asyncio.Lock()
        self._answering = asyncio.Lock()
        try:
            with readers.admitted(self.reading.reader):
                await self._converse(receive)
        except TooMany as error:
            await refuse(scope, send, error.status, str(error))

    async def _converse(self, receive: Receive) -> None:
        await self.accept(handshake.subprotocol(self.scope))
        streaming = asyncio.ensure_future(self._stream())
        listening = asyncio.ensure_future(self._listen(receive))
        farewell: Farewell | None = None
        try:
            await asyncio.wait([streaming, listening], return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
            else:
                streaming.result()
                farewell = await self._end()
        except _NotReading:
            farewell = 4408, "the client does not read"
        except OSError:
            # What a server raises when the client has gone away.
            pass
        except Exception as error:
            logger.error("a socket failed unexpectedly", exc_info=error, extra={"handler_id": self.handler_id})
            farewell = 1011, "internal error"
        finally:
            # Before the farewell: granian closes nothing while a message is waited for.
            streaming.cancel()
            listening.cancel()
            await asyncio.gather(streaming, listening, return_exceptions=True)
        if farewell is not None:
            await self._close(*farewell)

    # --- out -------------------------------------------------------------------------------------------

    async def _stream(self) -> None:
        async with aclosing(follow(self.reading, conf.get().SSE_HEARTBEAT_INTERVAL)) as batches:
            async for batch in batches:
                if batch is None:
                    await self._say(framing.SOCKET_HEARTBEAT)
                for event in batch or ():
                    await self._say(framing.message(event, qualified_name=self.reading.qualified_name))

    async def _end(self) -> Farewell:
        """Say why there are no more events, once the command under way has its answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_COMMAND):
                await self._answering.acquire()
        current = supervisor.current()
        if current is not None and current.draining.is_set():
            return 1012, "the server stops"
        try:
            handler = await database.read(_find, self.reading)
        except WorkflowsError as error:
            await self._say(framing.refusal(None, error.status, str(error)))
            return 4000 + error.status, str(error)
        await self._say(framing.end(serializers.handler(handler)))
        return 1000, "the run has ended"

    async def _say(self, text: str) -> None:
        async with self._sending:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.send(text_data=text)
            except TimeoutError:
                raise _NotReading from None

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(1):
                await self.close(code, reason)
        except TimeoutError:
            cut(self.base_send)
        except OSError:
            pass

    # --- in --------------------------------------------------------------------------------------------

    async def _listen(self, receive: Receive) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            async with self._answering:
                await self._say(await self._answer(message))

    async def _answer(self, message: dict[str, Any]) -> str:
        """Carry a command out and return its answer."""
        id = None
        try:
            fields = _parse(message)
            id = _id(fields)
            command = self._command(fields)
        except WorkflowsError as error:
            return framing.refusal(id, error.status, str(error))
        status, answer = await self._ask(command)
        return framing.ack(id) if status < 300 else framing.refusal(id, *reason(status, answer))

    def _command(self, fields: dict[str, Any]) -> Command:
        kind = fields.get("type")
        if kind == "send_event":
            body = _dump({name: fields.get(name) for name in ("event", "step")})
            return f"events/{self.handler_id}", body, _key(fields.get("key"))
        if kind == "cancel":
            return f"handlers/{self.handler_id}/cancel", b"", ()
        raise InvalidRequest('type must be "send_event" or "cancel"')


def _key(key: Any) -> handshake.Headers:
    """Return the header for a key that makes an event safe to repeat."""
    if key is None:
        return ()
    quoted = re.sub(r'(["\\])', r"\\\1", idempotency.check(key))
    # What is not ASCII is refused there.
    return [(idempotency.HEADER.lower().encode(), f'"{quoted}"'.encode("utf-8", "surrogatepass"))]


def _parse(message: dict[str, Any]) -> dict[str, Any]:
    text, limit = message.get("text"), conf.get().MAX_BODY_SIZE
    if text is None:
        raise InvalidRequest("A message must be text, this one is binary")
    if len(text) > limit:
        raise TooLarge(f"The message is larger than {limit} bytes")
    parsed = limits.load_json(text, "message")
    if not isinstance(parsed, dict):
        raise InvalidRequest("A message must be a JSON object")
    return parsed


def _id(fields: dict[str, Any]) -> str | None:
    id = fields.get("id")
    if id is not None and not (isinstance(id, str) and len(id) <= ID_LENGTH):
        raise InvalidRequest(f"id must be a string of up to {ID_LENGTH} characters")
    # Half surrogate pairs cannot be sent.
    return id if id is None else id.encode("utf-8", "replace").decode()


def _dump(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _find(reading: Reading) -> Handler:
    found = Handler.objects.using(database.alias()).filter(pk=reading.handler).first()
    if found is None:
        raise HandlerNotFound
    if found.run != reading.run:
        raise _Continued
    return found


class _Continued(WorkflowsError):
    status = 409

    def __init__(self) -> None:
        super().__init__("The handler was continued with another run")


# --- refused -----------------------------------------------------------------------------------------------


def reason(status: int, body: bytes) -> tuple[int, Any]:
    """Return the status and detail of a request that was not carried out, for a client of a WebSocket."""
    if status < 400:
        # The site's middleware sends people elsewhere, to log in.
        status = 401
    try:
        return status, json.loads(body)["detail"]
    except (ValueError, TypeError, KeyError):
        # An answer of the site's middleware.
        return status, HTTPStatus(status).phrase


async def refuse(scope: Scope, send: Send, status: int, detail: Any) -> None:
    """Refuse a handshake so that a script in a browser learns why: the connection is accepted and closed."""
    await send({"type": "websocket.accept", "subprotocol": handshake.subprotocol(scope)})
    await send({"type": "websocket.send", "text": framing.refusal(None, status, detail)})
    text = str(detail).encode()[:REASON_LENGTH].decode(errors="ignore")
    await send({"type": "websocket.close", "code": 4000 + status, "reason": text})


async def deny(send: Send) -> None:
    """Refuse a handshake outright: it is answered 403, and a script in a browser learns no more than that."""
    await send({"type": "websocket.close"})
