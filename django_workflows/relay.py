"""Hints between processes, over a channel layer: "run R has reached sequence N", "there is mail for worker W".

A thread with an event loop of its own sends what :mod:`notify` hears in this process, and tells it what others
have sent. So it works in every process, also in one without an event loop, and neither a step that blocks nor a
Redis that does not answer holds up anything else. What has gathered since the last message goes out as one; it
holds ids and sequence numbers, never content.

Hints may be lost: whoever waits looks into the database every POLL_INTERVAL in any case. Where the loss can be
noticed, it need not take that long. The messages of a process are numbered, so a gap tells that some did not come;
its own come back to it, so silence tells that the layer is broken. After either, everybody looks once.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from channels.layers import channel_layers
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_workflows import conf, notify

logger = logging.getLogger("django_workflows.relay")

T = TypeVar("T")

# The group that every listening process joins, and the type of its messages.
GROUP = "django_workflows"
TYPE = "django_workflows.hints"
# Runs that one message speaks of; when more have news, it says that everybody shall look.
MAX_RUNS = 1000
# Seconds between two messages: what comes meanwhile goes out together.
PAUSE = 0.01
# Seconds after which a listening process says something in any case.
HEARTBEAT = 2.0
# Seconds that the layer may take for one operation, and until our own message has come back.
PATIENCE = 5.0
# Seconds until a broken layer is tried again: at first, and at most.
RETRY, MAX_RETRY = 0.25, 10.0
# Seconds until our place in the group is renewed: channels_redis' core layer forgets it after a day.
REJOIN = 3600.0


@dataclass
class Hints:
    """What gathers until the next message.

    Attributes:
        runs: (handler, run) -> position of the last event, -1 when more than that has changed.
        workers: those that have mail; None stands for whoever can claim a run.
        everything: whether everybody shall look whatever they wait for.
    """

    runs: dict[tuple[int, int], int] = field(default_factory=dict)
    workers: set[int | None] = field(default_factory=set)
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.runs or self.workers or self.everything)

    def add_progress(self, handler: int, run: int, sequence: int) -> None:
        if self.everything:
            return
        known = self.runs.get((handler, run))
        self.runs[handler, run] = -1 if -1 in (known, sequence) else sequence
        if len(self.runs) > MAX_RUNS:
            self.add_everything()

    def add_mail(self, worker: int | None) -> None:
        if not self.everything:
            self.workers.add(worker)

    def add_everything(self) -> None:
        self.runs.clear()
        self.workers.clear()
        self.everything = True

    def message(self) -> dict[str, Any]:
        return {
            "runs": [[handler, run, sequence] for (handler, run), sequence in self.runs.items()],
            "workers": list(self.workers),
            "everything": self.everything,
        }

    @staticmethod
    def tell(message: dict[str, Any]) -> None:
        """Tell this process what another has sent."""
        if message["everything"]:
            notify.look_again()
            return
        for handler, run, sequence in message["runs"]:
            notify.hear_progress(handler, run, sequence)
        for worker in message["workers"]:
            notify.hear_mail(worker)


class Relay:
    """One process's connection to the others, from the first hint on.

    Args:
        alias: name of the channel layer.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._lock = threading.Lock()
        self._gathered = Hints()
        self._is_listening = False
        self._is_out = False
        self._retry = RETRY
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        # Set when everything is told. (The core layer takes seconds more to stop receiving.)
        self._finished = threading.Event()
        # Of the present connection; None while there is none.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        # Tells our messages from others', and those before a fork or a break from those after it.
        self._origin = ""
        self._sent = 0
        # The number of our message that shall come back next, and since when it is on its way.
        self._awaited: tuple[int, float] | None = None
        # Origin -> the number of its last message, and when it came.
        self._heard: dict[str, tuple[int, float]] = {}

    # --- from any thread ------------------------------------------------------------------------------

    def progress(self, handler: int, run: int, sequence: int) -> None:
        """Pass on that a run's events up to a position are committed; -1 when more than that has changed."""
        with self._lock:
            was_empty = not self._gathered
            self._gathered.add_progress(handler, run, sequence)
        if was_empty:
            self._wake()

    def mail(self, worker: int | None) -> None:
        """Pass on that there is mail for a worker, or a run for anybody to claim."""
        with self._lock:
            was_empty = not self._gathered
            self._gathered.add_mail(worker)
        if was_empty:
            self._wake()

    def listen(self) -> None:
        """Hear what others send, from now on."""
        if not self._is_listening:
            self._is_listening = True
            self._wake()

    def stop(self, timeout: float) -> None:
        """Send what has gathered and end, within so many seconds."""
        self._stopping.set()
        if self._thread is not None:
            self._wake()
            self._finished.wait(timeout)

    def _wake(self) -> None:
        """Let the thread look at what has gathered; it is started by the first who calls."""
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                thread = threading.Thread(target=self._run, name="django-workflows-relay", daemon=True)
                # When the interpreter is about to end, no thread can be started, and nobody needs the hint.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
            elif self._loop is not None:
                self._loop.call_soon_threadsafe(self._woken.set)

    # --- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._finished.is_set():
            try:
                # A loop for each connection: the Redis layers close what they have opened when it is closed.
                asyncio.run(self._connect())
            except Exception as error:
                self._lost(error)
                self._stopping.wait(self._retry)
                self._retry = min(self._retry * 2, MAX_RETRY)
            if self._stopping.is_set():
                self._finished.set()

    def _lost(self, error: Exception) -> None:
        with self._lock:
            # What was under way, and what will come until the layer works again.
            self._gathered.add_everything()
        level = logging.DEBUG if self._is_out else logging.WARNING
        self._is_out = True
        logger.log(
            level,
            "the channel layer %r does not work (%s: %s); until it does, processes see each other's work every "
            "POLL_INTERVAL",
            self._alias,
            type(error).__name__,
            error,
        )

    def _works(self) -> None:
        self._retry = RETRY
        if self._is_out:
            self._is_out = False
            logger.warning("the channel layer %r works again", self._alias)

    async def _connect(self) -> None:
        """Send, and hear, until the layer breaks, or until this shall change."""
        layer = channel_layers.make_backend(self._alias)
        listening, self._woken = self._is_listening, asyncio.Event()
        self._origin, self._sent, self._awaited = secrets.token_hex(8), 0, None
        self._heard.clear()
        with self._lock:
            self._loop = asyncio.get_running_loop()
        try:
            if listening:
                await self._listen(layer)
            else:
                await self._send_until(layer, lambda: self._is_listening)
        finally:
            with self._lock:
                self._loop = None

    async def _listen(self, layer: Any) -> None:
        channel = await _in_time(layer.new_channel())
        await _in_time(layer.group_add(GROUP, channel))
        # What was sent before we could hear it.
        notify.look_again()
        receiving = asyncio.create_task(self._receive(layer, channel))
        try:
            await self._send_until(layer, receiving.done, channel)
            if receiving.done():
                receiving.result()
            await _in_time(layer.group_discard(GROUP, channel))
            if self._stopping.is_set():
                self._finished.set()
        finally:
            receiving.cancel()
            # Whatever it dies of, sending has failed as well or will.
            receiving.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.wait([receiving], timeout=PATIENCE)

    async def _send_until(self, layer: Any, is_over: Any, channel: str | None = None) -> None:
        """Send what gathers, and a heartbeat for those who listen, until something else has to be done."""
        joined = time.monotonic()
        while True:
            # Both before it looks: what comes from now on is seen the next time; what came before the end is sent.
            is_last = self._stopping.is_set()
            self._woken.clear()
            with self._lock:
                gathered, self._gathered = self._gathered, Hints()
            if gathered or channel is not None:
                await self._send(layer, gathered)
            if is_last or is_over():
                return
            await asyncio.sleep(PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if channel is None else HEARTBEAT):
                    await self._woken.wait()
            if channel is not None and time.monotonic() - joined > REJOIN:
                joined = time.monotonic()
                await _in_time(layer.group_add(GROUP, channel))

    async def _send(self, layer: Any, hints: Hints) -> None:
        self._sent += 1
        message = {"type": TYPE, "origin": self._origin, "number": self._sent, **hints.message()}
        await _in_time(layer.group_send(GROUP, message))
        if not self._is_listening:
            self._works()
        elif self._awaited is None:
            self._awaited = self._sent, time.monotonic()
        elif time.monotonic() - self._awaited[1] > PATIENCE:
            raise ConnectionError("what this process sends does not come back to it")

    async def _receive(self, layer: Any, channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            try:
                self._hear(message)
            except (KeyError, TypeError, ValueError):
                # Of another version of this app, perhaps.
                notify.look_again()

    def _hear(self, message: dict[str, Any]) -> None:
        origin, number = message["origin"], message["number"]
        if origin == self._origin:
            self._works()
            if self._awaited is not None and number >= self._awaited[0]:
                self._awaited = None
            return
        now = time.monotonic()
        before, _ = self._heard.get(origin, (number - 1, now))
        self._heard[origin] = number, now
        if number != before + 1:
            # Some were lost on the way.
            notify.look_again()
        Hints.tell(message)
        if len(self._heard) > MAX_RUNS:
            self._heard = {key: last for key, last in self._heard.items() if now - last[1] < 2 * HEARTBEAT}


async def _in_time(operation: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await operation


# --- this process's relay ----------------------------------------------------------------------------

_current: Relay | None = None
_is_chosen = False
_choosing = threading.Lock()


def current() -> Relay | None:
    """Return this process's relay, None when no channel layer reaches other processes."""
    global _current, _is_chosen
    if not _is_chosen:
        with _choosing:
            if not _is_chosen:
                alias = conf.channel_layer()
                _current = None if alias is None or conf.is_in_memory(alias) else Relay(alias)
                if alias is not None:
                    # Not in the relay's thread: a child forked while it imports would have half a module for good.
                    with contextlib.suppress(ImportError):
                        import_string(channel_layers.configs[alias]["BACKEND"])
                _is_chosen = True
    return _current


def progress(handler: int, run: int, sequence: int) -> None:
    """See :meth:`Relay.progress`; costs nothing without a channel layer."""
    if (relay := current()) is not None:
        relay.progress(handler, run, sequence)


def mail(worker: int | None) -> None:
    """See :meth:`Relay.mail`."""
    if (relay := current()) is not None:
        relay.mail(worker)


def listen() -> None:
    """See :meth:`Relay.listen`."""
    if (relay := current()) is not None:
        relay.listen()


def stop(timeout: float = 2.0) -> None:
    """Send what has gathered and let go of the channel layer; the next hint begins anew."""
    global _current, _is_chosen
    relay, _current, _is_chosen = _current, None, False
    if relay is not None:
        relay.stop(timeout)


def _on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("DJANGO_WORKFLOWS", "CHANNEL_LAYERS"):
        stop()


def _after_fork() -> None:
    """Begin anew in a child process, which has the memory of the thread but not the thread."""
    global _current, _is_chosen, _choosing
    _current, _is_chosen, _choosing = None, False, threading.Lock()


setting_changed.connect(_on_setting_changed, dispatch_uid="django_workflows.relay")
# A short command ends before a thread that nobody waits for has sent what it was told.
atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
