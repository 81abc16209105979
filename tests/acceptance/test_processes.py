"""Several processes on one database: each run has one owner, and everybody can talk to it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.acceptance.scene import Scene, new_key
from tests.servers import Server

# Seconds; short enough to wait for, and long enough for no process to miss it on a busy machine.
LEASE = "6"


@pytest.fixture
def crew(scene: Scene) -> Iterator[tuple[Server, Server, Server]]:
    """Two processes that execute runs and one that only answers, with leases of a few seconds."""
    scene.server.kill()
    with ExitStack() as stack:
        first, second = (stack.enter_context(scene.another(SITE_LEASE_TIMEOUT=LEASE)) for _ in range(2))
        front = stack.enter_context(scene.another(SITE_LEASE_TIMEOUT=LEASE, SITE_EXECUTE="0"))
        yield first, second, front


Crew = tuple[Server, Server, Server]


def test_a_run_is_executed_by_one(scene: Scene, crew: Crew) -> None:
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(scene.start, "pipeline" if number % 4 else "fan", at=server, total=6)
            for number in range(10)
            for server in crew
        ]
        keys = [start.result() for start in started]

    for key in keys:
        scene.ended(key, at=crew[1])
        steps = [int(line) for line in scene.traces(key)]
        assert sorted(steps) == list(range(6 if key.startswith("fan") else 8))


def test_everybody_can_talk_to_a_run(scene: Scene, crew: Crew) -> None:
    first, second, front = crew
    asking = scene.start("ask", at=first)
    held = scene.start("held", at=first)
    run = {"handler_id": new_key("ask"), "start_event": {"key": "", "timeout": None}}
    with ThreadPoolExecutor() as pool:
        # It waits at a process that does not execute it.
        result = pool.submit(scene.post, "/workflows/ask/run", run, at=front)
        reader = scene.reader(asking, at=front)
        reading = pool.submit(reader.read)
        scene.saw(asking, "Question", at=second)
        scene.send(asking, "Answer", at=second, text="yes")
        scene.cancel(held, at=front)
        scene.until(lambda: scene.checker.runs(run["handler_id"]), "the run")
        scene.send(run["handler_id"], "Answer", at=first, text="no")

        assert result.result().status_code == 200
        assert result.result().json()["result"]["value"] == {"result": "no"}
        assert reading.result()["value"] == {"result": "yes"}
    assert scene.result(asking, at=first) == "yes"
    assert scene.ended(held, at=first)["status"] == "cancelled"


def test_another_process_takes_over(scene: Scene, crew: Crew) -> None:
    first, second, front = crew
    lost = [scene.start("held", at=first) for _ in range(3)]
    kept = [scene.start("held", at=second) for _ in range(3)]
    asking = scene.start("ask", at=first)
    scene.saw(asking, "Question", at=first)
    for key in [*lost, *kept]:
        scene.trace(key, "begin")
    reader = scene.reader(lost[0], at=second)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(reader.read)
        scene.until(lambda: reader.events, "events")

        first.kill()
        for key in lost:
            scene.until(lambda: scene.traces(key).count("begin") == 2, f"a second begin of {key}")  # noqa: B023
        for key in [*lost, *kept]:
            scene.open(key)
        scene.send(asking, "Answer", at=front, text="yes")

        assert reading.result()["value"] == {"result": lost[0]}
    assert reader.sequences == list(range(len(reader.sequences)))
    for key in [*lost, *kept]:
        assert scene.result(key, at=front) == key
    for key in kept:
        assert scene.traces(key) == ["begin", "end"]
    assert scene.result(asking, at=second) == "yes"


def test_who_was_taken_for_dead_writes_nothing(scene: Scene, crew: Crew) -> None:
    first, second, _ = crew
    held = scene.start("held", at=first)
    items = scene.start("items", at=first, count=3)
    scene.open(items, 0)
    scene.trace(items, "saved 0")
    scene.trace(held, "begin")

    first.send_signal(signal.SIGSTOP)
    for key in (held, items):
        scene.until(lambda: scene.traces(key).count("begin") == 2, f"a second begin of {key}")  # noqa: B023
    # Both processes have the run's step in memory now, and both go on with it.
    scene.open(held)
    scene.open(items, 1)
    scene.open(items, 2)
    first.send_signal(signal.SIGCONT)

    assert scene.result(items, at=second) == [0, 1, 2]
    assert scene.result(held, at=second) == held
    # It has seen that its runs are not its own any more, and serves on as another worker.
    scene.until(lambda: sorted(scene.checker.workers()) == sorted([first.pid, second.pid]), "two workers")
    assert scene.result(scene.start("greet", at=first), at=first)
    assert [line for line in scene.traces(items) if line.startswith("saved")] == [
        "saved 0",
        "saved 1",
        "saved 2",
    ]
