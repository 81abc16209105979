"""The application that a server runs: the gate, and the runtime's beginning and end.

Servers tell an application differently, or not at all, that it begins and ends. The lifespan protocol is used
where there is one; Daphne has none, so its reactor is asked; and everywhere else the first request begins it.
All lead to the same idempotent start. Nothing relies on an orderly end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import importlib
import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from django_workflows import relay
from django_workflows.api import sockets
from django_workflows.api.handoff import Receive, Scope, Send
from django_workflows.gate import Gate
from django_workflows.runtime import supervisor

logger = logging.getLogger("django_workflows.lifecycle")

# How many more objects than before there must be for Python to look for cycles among the new ones.
COLLECT_AFTER = 20_000
# Seconds, at most, that a thread computes while another one waits to; 5 ms by Python's default.
SWITCH_AFTER = 0.0005


class Application:
    """The ASGI application of a site that serves workflows.

    Args:
        django: the application behind the gate.
        websocket: the site's own application for WebSockets, which gets those that are not ours.
    """

    def __init__(self, django: Any, websocket: Any = None) -> None:
        self._gate = Gate(django)
        self._websocket = websocket
        self._starting: asyncio.Task[Any] | None = None
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._signals_chained = False
        if "daphne.server" in sys.modules:
            self._join_daphne()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        await self._try_to_start()
        if scope["type"] == "websocket" and not self._gate.has_socket(scope):
            # It does not know when the server stops, so nothing waits for its end.
            await (self._websocket or _refuse)(scope, receive, send)
            return
        serve = self._gate.socket if scope["type"] == "websocket" else self._gate
        self._in_flight += 1
        self._quiet.clear()
        try:
            await serve(scope, receive, send)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()

    async def start(self) -> None:
        """Start the runtime on this event loop, once."""
        current = supervisor.current()
        if current is not None and current.is_running:
            return
        loop = asyncio.get_running_loop()
        if self._starting is None or self._starting.get_loop() is not loop or self._starting.done():
            # Not in the context of the request that happens to be the first.
            self._starting = loop.create_task(supervisor.start(), context=contextvars.Context())
            self._starting.add_done_callback(_log_failure)
        await asyncio.shield(self._starting)
        _settle_memory()
        _settle_threads()
        self._chain_signals()

    async def _try_to_start(self) -> None:
        """Start the runtime if that is possible now; what the site serves without runs is served all the same."""
        with contextlib.suppress(Exception):
            # The next request tries again.
            await self.start()

    async def stop(self) -> None:
        """Let go of the runs and write what is under way."""
        await supervisor.stop()
        # Others shall hear that there are runs to claim before this process is gone.
        await asyncio.to_thread(relay.stop)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except Exception as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _join_daphne(self) -> None:
        """Begin and end with Daphne's Twisted reactor."""
        from twisted.internet import defer

        reactor: Any = importlib.import_module("twisted.internet.reactor")

        def begin() -> None:
            defer.Deferred.fromFuture(asyncio.ensure_future(self._try_to_start()))

        def end() -> Any:
            return defer.Deferred.fromFuture(asyncio.ensure_future(self.stop()))

        reactor.callWhenRunning(begin)
        reactor.addSystemEventTrigger("before", "shutdown", end)

    def _chain_signals(self) -> None:
        """Tell streams to end before the server waits for them, or cuts them off."""
        if self._signals_chained or threading.current_thread() is not threading.main_thread():
            return
        self._signals_chained = True
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.getsignal(number)
            if callable(previous):
                signal.signal(number, self._on_signal(previous))

    def _on_signal(self, previous: Callable[..., Any]) -> Callable[[int, Any], None]:
        loop = asyncio.get_running_loop()
        # Twisted's handler stops the reactor, which cancels every request at once.
        is_twisted = "twisted" in (getattr(previous, "__module__", "") or "")

        def handle(number: int, frame: Any) -> None:
            current = supervisor.current()
            if current is None or current.draining.is_set():
                previous(number, frame)
                return
            loop.call_soon_threadsafe(current.drain)
            if is_twisted:
                loop.call_soon_threadsafe(finish, number)
            else:
                previous(number, frame)

        def finish(number: int) -> None:
            task = loop.create_task(self._requests_ended(), context=contextvars.Context())
            task.add_done_callback(lambda _: previous(number, None))

        return handle

    async def _requests_ended(self) -> None:
        """Return when no request is under way, at the latest when the time that they are given is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(supervisor.GRACE + 1):
                if self._in_flight:
                    await self._quiet.wait()


def _settle_memory() -> None:
    """Keep what is there when serving begins out of every later garbage collection, and let these be rarer.

    Django, the engine and the site's own modules are some 400,000 objects that stay for good. To look at all of
    them again and again cost 8 % of the time and stopped everything for 100 ms. What comes and goes is freed by
    its reference counts: only cycles wait for a collection, and to look for them after every 700 objects, which is
    a third of a run, took 6 % more.
    """
    # Without a collection before it: imports leave next to no garbage, and to look for it takes 100 ms.
    gc.freeze()
    young, *older = gc.get_threshold()
    if young:
        # Otherwise the site has switched it off.
        gc.set_threshold(max(young, COLLECT_AFTER), *older)


def _settle_threads() -> None:
    """Give the event loop, and whoever writes, their turn soon.

    All runs and all who have something to write wait while one thread computes something for one request.
    """
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_AFTER))


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("the runtime could not start", exc_info=task.exception())


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket that nobody serves."""
    await receive()
    await sockets.deny(send)
