"""Hints between processes, over a real Redis. Another process's relay is here one more of our own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from django_workflows import notify, relay
from django_workflows.eventlog import EventEntry
from django_workflows.notify import Subscription
from django_workflows.relay import Hints, Relay
from tests.redis_server import CORE, PUBSUB, RedisServer
from tests.servers import ROOT, wait_for
from tests.storage import PATIENCE

AT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> Iterator[RedisServer]:
    yield server
    server.send_signal(signal.SIGCONT)
    if server._process is None:
        server.start()


@pytest.fixture(params=[PUBSUB, CORE], ids=["pubsub", "core"])
def layer(request: pytest.FixtureRequest, redis: RedisServer, settings: Any) -> str:
    settings.CHANNEL_LAYERS = redis.layers(request.param)
    backend: str = request.param
    return backend


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    relay.stop()
    notify._subscriptions.clear()
    notify._mail_listeners.clear()


@pytest.fixture
def other() -> Iterator[Relay]:
    """Another process, as far as the channel layer knows."""
    other = Relay("default")
    yield other
    other.stop(PATIENCE)


class Listener:
    """Hears of mail, as the worker of this process."""

    def __init__(self, worker: int | None = None) -> None:
        self.heard: list[int | None] = []
        self._worker = worker
        notify.on_mail(self._hear)

    def _hear(self, worker: int | None) -> bool:
        self.heard.append(worker)
        return worker is not None and worker == self._worker

    def until(self, *expected: int | None) -> None:
        wait_for(lambda: set(expected) <= set(self.heard), what=f"{expected}, heard {self.heard}")


def joined() -> None:
    """Wait until this process hears what others send."""
    ours = relay.current()
    assert ours is not None
    wait_for(lambda: ours._sent and ours._awaited is None, what="our own message")


def overheard(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what processes are told by others, from now on."""
    sent: list[dict[str, Any]] = []
    tell = Hints.tell
    monkeypatch.setattr(Hints, "tell", staticmethod(lambda message: (sent.append(message), tell(message))))
    return sent


def entries(*sequences: int) -> list[EventEntry]:
    return [EventEntry(sequence, False, "{}", "Step", AT) for sequence in sequences]


async def woken(subscription: Subscription) -> bool:
    return await subscription.wait(subscription.loop.time() + PATIENCE)


# --- what is passed on -----------------------------------------------------------------------------------


def test_mail_is_heard_of_elsewhere(layer: str, other: Relay) -> None:
    listener = Listener()
    joined()
    listener.heard.clear()

    other.mail(7)
    listener.until(7)
    other.mail(None)
    listener.until(None)


async def test_a_reader_is_sent_to_the_log(layer: str, other: Relay) -> None:
    reader, stranger = notify.subscribe(1, 1), notify.subscribe(2, 1)
    joined()
    # Everybody looks once when this process begins to hear.
    assert await woken(reader)
    assert await woken(stranger)
    reader.follow()
    stranger.follow()
    assert reader.take(3) == []

    other.progress(1, 1, 4)
    assert await woken(reader)
    assert reader.take(3) is None
    assert not reader.ended
    assert stranger.take(0) == []


async def test_what_a_reader_has_already_does_not_wake_it(layer: str, other: Relay) -> None:
    reader = notify.subscribe(1, 1)
    listener = Listener()
    joined()
    assert await woken(reader)
    reader.follow()
    assert reader.take(3) == []

    other.progress(1, 1, 3)
    other.mail(1)
    listener.until(1)
    assert not await reader.wait(reader.loop.time())

    # The end, a deletion, another run: whatever the position.
    for hint in ((1, 1, -1), (1, 2, 0)):
        other.progress(*hint)
        assert await woken(reader)
        assert reader.take(3) is None
        reader.follow()


def test_what_this_process_says_is_heard_elsewhere_and_not_here_again(
    layer: str, other: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = overheard(monkeypatch)
    other.listen()
    listener = Listener(worker=3)
    joined()
    wait_for(lambda: other._sent and other._awaited is None)
    sent.clear()
    listener.heard.clear()

    notify.committed(5, 2, entries(6, 7))
    notify.committed(6, 1, entries(0), ended=True)
    notify.mail()
    # For a worker of this process, which nobody else need hear of.
    notify.mail(3)

    wait_for(lambda: any(message["workers"] for message in sent))
    assert [run for message in sent for run in message["runs"]] == [[5, 2, 7], [6, 1, -1]]
    assert [worker for message in sent for worker in message["workers"]] == [None]
    # Here, both were heard once, at once.
    assert sorted(listener.heard, key=str) == [3, None, None]


def test_a_flood_goes_out_in_few_messages(layer: str, other: Relay) -> None:
    reader_of = list(range(100))
    listener = Listener()
    joined()
    before = other._sent

    for number in range(20_000):
        other.progress(reader_of[number % 100], 1, number)
    other.mail(9)
    listener.until(9)

    assert other._sent - before < 1000
    assert not other._gathered


def test_messages_are_bounded() -> None:
    hints = Hints()
    for number in range(relay.MAX_RUNS):
        hints.add_progress(number, 1, 0)
    hints.add_mail(1)
    assert (len(hints.message()["runs"]), hints.everything) == (relay.MAX_RUNS, False)

    hints.add_progress(-1, 1, 0)
    hints.add_mail(2)
    hints.add_progress(-2, 1, 0)
    assert hints.message() == {"runs": [], "workers": [], "everything": True}


def test_the_news_of_a_run_are_one_hint() -> None:
    hints = Hints()
    for sequence in (3, 4):
        hints.add_progress(1, 1, sequence)
    assert hints.message()["runs"] == [[1, 1, 4]]

    hints.add_progress(1, 1, -1)
    hints.add_progress(1, 1, 5)
    assert hints.message()["runs"] == [[1, 1, -1]]


# --- where it works --------------------------------------------------------------------------------------


def test_without_a_channel_layer_there_is_no_thread(settings: Any) -> None:
    for layers, chosen in (
        ({}, "default"),
        ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, "default"),
        ({"default": {"BACKEND": PUBSUB}}, None),
    ):
        settings.CHANNEL_LAYERS = layers
        settings.DJANGO_WORKFLOWS = {} if chosen else {"CHANNEL_LAYER": None}
        Listener()
        notify.mail()
        notify.committed(1, 1)
        assert relay.current() is None


def test_whoever_only_tells_does_not_listen(layer: str, redis: RedisServer) -> None:
    notify.mail()
    ours = relay.current()
    assert ours is not None
    wait_for(lambda: ours._sent)
    assert not ours._is_listening
    # No heartbeat: a web process that now and then starts a run is no burden.
    assert ours._sent == 1


@pytest.mark.parametrize("forked", [False, True])
def test_a_program_that_ends_at_once_has_told(layer: str, redis: RedisServer, forked: bool) -> None:
    listener = Listener()
    joined()
    listener.heard.clear()
    program = f"""
import os, sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "django_workflows"],
    CHANNEL_LAYERS={redis.layers(layer)!r},
)
django.setup()
from django_workflows import notify
if {forked}:
    notify.mail(1)
    child = os.fork()
    if child:
        sys.exit(os.waitpid(child, 0)[1])
notify.mail(41 + {forked})
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True, timeout=60)
    listener.until(41 + forked)


def test_what_is_said_while_a_message_goes_out_is_sent_before_the_end(
    layer: str, other: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a process that lets go of its runs and ends at once."""
    listener = Listener()
    joined()
    send = Relay._send

    async def send_and_end(self: Relay, *arguments: Any) -> None:
        await send(self, *arguments)
        if self is other and not other._stopping.is_set():
            other.mail(9)
            other.stop(0)

    monkeypatch.setattr(Relay, "_send", send_and_end)
    other.mail(8)
    listener.until(8, 9)


def test_hints_are_sent_and_heard_while_the_event_loop_is_blocked(layer: str, other: Relay) -> None:
    """As by a step that should not: here no event loop runs at all."""
    listener = Listener()
    joined()
    other.mail(8)
    listener.until(8)


# --- when it does not ------------------------------------------------------------------------------------


def test_a_restart_of_redis(
    layer: str, redis: RedisServer, other: Relay, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = overheard(monkeypatch)
    caplog.set_level(logging.WARNING, "django_workflows.relay")
    listener = Listener()
    joined()
    # The other one comes back when we have been here for a while.
    other._retry = 3.0
    redis.stop()
    began = time.monotonic()
    notify.mail()
    other.mail(5)
    # Nobody waits for it.
    assert time.monotonic() - began < 0.1
    wait_for(lambda: len(outages(caplog)) == 2, what="both to notice")
    other.mail(6)
    notify.committed(1, 1, entries(0))
    listener.heard.clear()

    redis.start()
    # What was said meanwhile is made up for: everybody looks, also those who did not lose the connection.
    listener.until(None)
    wait_for(lambda: "works again" in caplog.text)
    wait_for(lambda: any(message["everything"] for message in sent), what="what the other had to say")
    other.mail(7)
    listener.until(7)
    # Once for each relay, however often it tried.
    assert len(outages(caplog)) == 2


def test_a_redis_that_is_not_there_yet(
    layer: str, redis: RedisServer, other: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    redis.stop()
    listener = Listener()
    wait_for(lambda: outages(caplog), what="an outage")

    redis.start()
    joined()
    other.mail(7)
    listener.until(7)


def test_a_redis_that_hangs(
    layer: str, redis: RedisServer, other: Relay, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 0.5)
    monkeypatch.setattr(relay, "HEARTBEAT", 0.2)
    listener = Listener()
    joined()
    redis.send_signal(signal.SIGSTOP)
    wait_for(lambda: outages(caplog), what="an outage")
    began = time.monotonic()
    notify.mail()
    assert time.monotonic() - began < 0.1

    redis.send_signal(signal.SIGCONT)
    wait_for(lambda: "works again" in caplog.text)
    other.mail(7)
    listener.until(7)


def test_a_gap_makes_everybody_look(layer: str, other: Relay) -> None:
    listener = Listener()
    joined()
    other.mail(1)
    listener.until(1)
    listener.heard.clear()

    # As if the layer had dropped some: the core layer does when a process is slow.
    other._sent += 3
    other.mail(2)
    listener.until(None, 2)


def test_what_cannot_be_read_makes_everybody_look(layer: str) -> None:
    from channels.layers import channel_layers

    listener = Listener()
    joined()
    listener.heard.clear()
    layer_of_another = channel_layers.make_backend("default")

    import asyncio

    async def send() -> None:
        await layer_of_another.group_send(relay.GROUP, {"type": relay.TYPE, "of": "the future"})

    asyncio.run(send())
    listener.until(None)


def test_a_layer_that_cannot_be_imported(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}
    notify.mail()

    wait_for(lambda: outages(caplog))
    assert "no.such.Layer" in caplog.text


def test_stopping_does_not_wait_for_a_layer_that_is_out(
    layer: str, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis.stop()
    notify.mail()
    wait_for(lambda: outages(caplog))
    began = time.monotonic()
    relay.stop()

    assert time.monotonic() - began < 2.5
    wait_for(lambda: not any(t.name == "django-workflows-relay" for t in threading.enumerate()))


def outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "does not work" in record.getMessage()
    ]


assert os.name == "posix"
