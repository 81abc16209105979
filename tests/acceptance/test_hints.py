"""Several processes and a Redis: what one stores, another takes up because it was told.

The processes look by themselves only every ten minutes, so whatever happens between two of them within seconds
happens because of a hint.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from tests.acceptance.scene import Scene, new_key
from tests.redis_server import CORE, PUBSUB, RedisServer
from tests.servers import ROOT, Server

NEVER = "600"
# Seconds that something may take when it is told of, on a busy machine.
SOON = 3.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    if server._process is None:
        server.start()
    return server


@pytest.fixture(params=[PUBSUB, CORE], ids=["pubsub", "core"])
def environment(request: pytest.FixtureRequest, redis: RedisServer) -> dict[str, str]:
    return {"SITE_CHANNEL_LAYER": request.param, "SITE_REDIS": redis.url, "SITE_POLL_INTERVAL": NEVER}


@contextmanager
def crew(scene: Scene, environment: dict[str, str], *executes: bool) -> Iterator[list[Server]]:
    """Processes that execute runs, or only answer."""
    scene.server.kill()
    with ExitStack() as stack:
        yield [
            stack.enter_context(scene.another(SITE_EXECUTE="1" if one else "0", **environment)) for one in executes
        ]


@contextmanager
def soon(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    logging.getLogger(__name__).info("%s took %.3f s", what, took)
    assert took < SOON, f"{what} took {took:.1f} s"


def test_what_is_started_elsewhere_begins_at_once(scene: Scene, environment: dict[str, str]) -> None:
    with crew(scene, environment, True, False) as (worker, front):
        for number in range(5):
            key = new_key("greet")
            run = {"handler_id": key, "start_event": {"key": key}}
            with soon(f"start {number}"):
                answer = scene.post("/workflows/greet/run", run, at=front)
            assert (answer.status_code, answer.json()["status"]) == (200, "completed")
            assert scene.result(key, at=worker)


def test_events_and_cancellations_arrive_at_once(scene: Scene, environment: dict[str, str]) -> None:
    with crew(scene, environment, True, True, False) as (first, second, front):
        for sender in (second, front):
            asking = scene.start("ask", at=first)
            scene.saw(asking, "Question", at=first)
            with soon("an answer"):
                scene.send(asking, "Answer", at=sender, text="yes")
                assert scene.result(asking, at=first) == "yes"
            held = scene.start("held", at=first)
            scene.trace(held, "begin")
            with soon("a cancellation"):
                scene.cancel(held, at=sender)
                assert scene.handler(held, at=sender)["status"] == "cancelled"


def test_a_stream_elsewhere_is_live(scene: Scene, environment: dict[str, str]) -> None:
    with crew(scene, environment, True, True, False) as (first, second, front), ThreadPoolExecutor() as pool:
        key = scene.start("collect", at=first)
        readers = [scene.reader(key, at=at) for at in (second, front)]
        reading = [pool.submit(reader.read) for reader in readers]
        for reader in readers:
            scene.until(lambda: any(e["type"] == "Question" for e in reader.events), "the question")  # noqa: B023
        for number in range(4):
            before = [len(reader.events) for reader in readers]
            with soon(f"note {number}"):
                scene.send(key, "Note", at=first, number=number, total=4)
                for reader, count in zip(readers, before, strict=True):
                    scene.until(lambda: len(reader.events) > count, f"note {number}")  # noqa: B023
        with soon("the end"):
            for future in reading:
                assert future.result()["value"] == {"result": [0, 1, 2, 3]}
        assert readers[0].sequences == readers[1].sequences == list(range(len(readers[0].sequences)))


def test_a_process_that_stops_hands_its_runs_over(scene: Scene, environment: dict[str, str]) -> None:
    with crew(scene, environment, True, True) as (first, second):
        held = [scene.start("held", at=first) for _ in range(5)]
        for key in held:
            scene.trace(key, "begin")
        assert first.terminate() == 0
        with soon("taking over"):
            for key in held:
                scene.until(lambda: scene.traces(key).count("begin") == 2, f"a second begin of {key}")  # noqa: B023
        for key in held:
            scene.open(key)
            assert scene.result(key, at=second) == key


def test_a_program_without_a_server_is_heard(scene: Scene, environment: dict[str, str]) -> None:
    """As a management command, or a Celery task, inside of a transaction."""
    with crew(scene, environment, True) as (worker,):
        key = new_key("greet")
        program = f"""
import django
django.setup()
from django.db import transaction
from django_workflows import start
class Refused(Exception): pass
try:
    with transaction.atomic():
        start("greet", {{"key": "{key}"}}, handler_id="{key}-refused")
        raise Refused
except Refused:
    pass
with transaction.atomic():
    start("greet", {{"key": "{key}"}}, handler_id="{key}")
"""
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=ROOT,
            env=worker._environment,
            check=True,
            timeout=60,
        )
        with soon("the run"):
            scene.ended(key, at=worker)
        assert scene.client(worker).get(f"/handlers/{key}-refused").status_code == 404


def test_work_goes_on_without_redis(scene: Scene, environment: dict[str, str], redis: RedisServer) -> None:
    """Slower, as often as the processes look by themselves; and fast again when it is back."""
    with crew(scene, {**environment, "SITE_POLL_INTERVAL": "0.5"}, True, False) as (worker, front):
        asking = scene.start("ask", at=front)
        reader = scene.reader(asking, at=front)
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(reader.read)
            scene.until(lambda: reader.events, "the question")
            redis.stop()
            scene.send(asking, "Answer", at=front, text="yes")
            assert reading.result()["value"] == {"result": "yes"}
            for _ in range(3):
                scene.result(scene.start("greet", at=front), at=front)
            for server in (worker, front):
                scene.until(lambda: "does not work" in server.output, "a word about it")  # noqa: B023
                assert "ERROR django_workflows" not in server.output

    redis.start()
    with crew(scene, environment, True, False) as (worker, front):
        redis.stop()
        # Nobody is told of it, and nobody looks.
        key = scene.start("greet", at=front)
        for server in (worker, front):
            scene.until(lambda: "does not work" in server.output, "a word about it")  # noqa: B023
        assert scene.handler(key, at=front)["status"] == "running"

        redis.start()
        # What was said meanwhile is made up for.
        assert scene.result(key, at=front)
        for server in (worker, front):
            scene.until(lambda: "works again" in server.output, "a word about it")  # noqa: B023
            assert server.output.count("does not work") == 1
        with soon("a start"):
            assert scene.result(scene.start("greet", at=front), at=front)


def test_of_starts_that_race_at_two_processes_one_happens(scene: Scene, environment: dict[str, str]) -> None:
    with crew(scene, environment, True, True, False) as servers, ThreadPoolExecutor(12) as pool:
        for _ in range(3):
            key = new_key("greet")
            body, headers = {"start_event": {"key": key}}, {"Idempotency-Key": f'"{key}"'}
            racing = [
                pool.submit(scene.client(at).post, f"/workflows/greet/{verb}", json=body, headers=headers)
                for at in servers
                for verb in ("run", "run-nowait")
                for _ in range(2)
            ]
            answers = [future.result() for future in racing]
            assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
            assert len({answer.json()["run_id"] for answer in answers}) == 1


def test_an_event_with_a_key_is_delivered_once(scene: Scene, environment: dict[str, str]) -> None:
    with crew(scene, environment, True, True) as (first, second):
        key = scene.start("collect", at=first)

        def send(number: int, at: Server) -> int:
            body = {"event": {"type": "Note", "value": {"number": number, "total": 2}}}
            headers = {"Idempotency-Key": "note-1"}
            return scene.client(at).post(f"/events/{key}", json=body, headers=headers).status_code

        assert send(1, first) == 200
        scene.until(lambda: scene.checker.consumed(key), "consumption")
        assert [send(1, second), send(1, first), send(2, second)] == [200, 200, 422]
        scene.send(key, "Note", at=second, number=2, total=2)
        assert scene.result(key, at=first) == [1, 2]
