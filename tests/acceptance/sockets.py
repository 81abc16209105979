"""A client of the WebSocket, as far as it can be told to behave badly."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from tests.acceptance.scene import DEADLINE, Scene
from tests.servers import Server

Message = dict[str, Any]


@contextmanager
def opened(scene: Scene, key: str, at: Server | None = None, **query: Any) -> Iterator[ClientConnection]:
    """Open a run's socket; with the run's events from the first one, internal ones too."""
    query = {"after_sequence": -1, "include_internal": "true", **query}
    url = f"{(at or scene.server).url.replace('http', 'ws', 1)}/ws/events/{key}?{urlencode(query)}"
    with connect(url, max_size=None, open_timeout=DEADLINE, close_timeout=1, compression=None) as socket:
        yield socket


def received(socket: ClientConnection) -> Message:
    """Return the next message that is no heartbeat."""
    # Heartbeats go on and on.
    deadline = time.monotonic() + DEADLINE
    while True:
        message: Message = json.loads(socket.recv(timeout=max(deadline - time.monotonic(), 0)))
        if message["type"] != "heartbeat":
            return message


def until(socket: ClientConnection, type: str, event: str | None = None) -> Message:
    """Read on to a message of this type, and this event."""
    while True:
        message = received(socket)
        if message["type"] == type and event in (None, message.get("event", {}).get("type")):
            return message


def ask(socket: ClientConnection, **command: Any) -> Message:
    """Send a command and return its answer; events that come before are dropped."""
    socket.send(json.dumps({"id": "x", **command}))
    while (message := received(socket))["type"] not in ("ack", "error"):
        pass
    return message


def rest(socket: ClientConnection) -> tuple[list[Message], int | None]:
    """Read to the end and return what came, and the close code; None when there was no close frame."""
    messages = []
    while True:
        try:
            messages.append(received(socket))
        except ConnectionClosed as closed:
            return messages, closed.rcvd.code if closed.rcvd else None


@dataclass
class SocketReader:
    """Reads a run's events to their end, and comes back with its cursor whenever it is cut off."""

    scene: Scene
    key: str
    at: Server | None = None
    sequences: list[int] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)
    ended: Message | None = None

    def read(self) -> None:
        """Read to the end of the connection."""
        cursor = self.sequences[-1] if self.sequences else -1
        with opened(self.scene, self.key, self.at, after_sequence=cursor) as socket, suppress(ConnectionClosed):
            while True:
                message = received(socket)
                if message["type"] == "end":
                    self.ended = message["handler"]
                else:
                    self.sequences.append(message["sequence"])
                    self.events.append(message["event"])

    def read_through_crashes(self) -> None:
        while self.ended is None:
            with suppress(OSError, InvalidHandshake):
                self.read()
            time.sleep(0.02)
