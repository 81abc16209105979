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

Crew = tuple[Server, Server, Server]


@pytest.fixture(scope="module")
def enlisted(site: Scene) -> Iterator[Crew]:
    site.server.kill()
    with ExitStack() as stack:
        first, second = (stack.enter_context(site.another(SITE_LEASE_TIMEOUT=LEASE)) for _ in range(2))
        front = stack.enter_context(site.another(SITE_LEASE_TIMEOUT=LEASE, SITE_EXECUTE="0"))
        yield first, second, front


@pytest.fixture
def crew(site: Scene, enlisted: Crew) -> Iterator[Crew]:
    """Two processes that execute runs and one that only answers; afterwards every run of them is checked."""
    for server in enlisted:
        if not server.is_running:
            server.start()
    yield enlisted
    site.check()


def test_a_run_is_executed_by_one(site: Scene, crew: Crew) -> None:
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(site.start, "pipeline" if number % 4 else "fan", at=server, total=6)
            for number in range(10)
            for server in crew
        ]
        keys = [start.result() for start in started]

    for key in keys:
        site.ended(key, at=crew[1])
        steps = [int(line) for line in site.traces(key)]
        assert sorted(steps) == list(range(6 if key.startswith("fan") else 8))


def test_everybody_can_talk_to_a_run(site: Scene, crew: Crew) -> None:
    first, second, front = crew
    asking = site.start("ask", at=first)
    held = site.start("held", at=first)
    run = {"handler_id": new_key("ask"), "start_event": {"key": "", "timeout": None}}
    with ThreadPoolExecutor() as pool:
        # It waits at a process that does not execute it.
        result = pool.submit(site.post, "/workflows/ask/run", run, at=front)
        reader = site.reader(asking, at=front)
        reading = pool.submit(reader.read)
        site.saw(asking, "Question", at=second)
        site.send(asking, "Answer", at=second, text="yes")
        site.cancel(held, at=front)
        site.until(lambda: site.checker.runs(run["handler_id"]), "the run")
        site.send(run["handler_id"], "Answer", at=first, text="no")

        assert result.result().status_code == 200
        assert result.result().json()["result"]["value"] == {"result": "no"}
        assert reading.result()["value"] == {"result": "yes"}
    assert site.result(asking, at=first) == "yes"
    assert site.ended(held, at=first)["status"] == "cancelled"


def test_another_process_takes_over(site: Scene, crew: Crew) -> None:
    first, second, front = crew
    lost = [site.start("held", at=first) for _ in range(3)]
    kept = [site.start("held", at=second) for _ in range(3)]
    asking = site.start("ask", at=first)
    site.saw(asking, "Question", at=first)
    for key in [*lost, *kept]:
        site.trace(key, "begin")
    reader = site.reader(lost[0], at=second)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(reader.read)
        site.until(lambda: reader.events, "events")

        first.kill()
        for key in lost:
            site.until(lambda: site.traces(key).count("begin") == 2, f"a second begin of {key}")  # noqa: B023
        for key in [*lost, *kept]:
            site.open(key)
        site.send(asking, "Answer", at=front, text="yes")

        assert reading.result()["value"] == {"result": lost[0]}
    assert reader.sequences == list(range(len(reader.sequences)))
    for key in [*lost, *kept]:
        assert site.result(key, at=front) == key
    for key in kept:
        assert site.traces(key) == ["begin", "end"]
    assert site.result(asking, at=second) == "yes"


def test_who_was_taken_for_dead_writes_nothing(site: Scene, crew: Crew) -> None:
    first, second, _ = crew
    held = site.start("held", at=first)
    items = site.start("items", at=first, count=3)
    site.open(items, 0)
    site.trace(items, "saved 0")
    site.trace(held, "begin")

    first.send_signal(signal.SIGSTOP)
    for key in (held, items):
        site.until(lambda: site.traces(key).count("begin") == 2, f"a second begin of {key}")  # noqa: B023
    # Both processes have the run's step in memory now, and both go on with it.
    site.open(held)
    site.open(items, 1)
    site.open(items, 2)
    first.send_signal(signal.SIGCONT)

    assert site.result(items, at=second) == [0, 1, 2]
    assert site.result(held, at=second) == held
    # It has seen that its runs are not its own any more, says so, and serves on as another worker.
    site.until(
        lambda: "others may have its runs" in first.output or "taken the run over" in first.output, "a word of it"
    )
    site.until(lambda: sorted(site.checker.workers()) == sorted([first.pid, second.pid]), "two workers")
    assert site.result(site.start("greet", at=first), at=first)
    assert [line for line in site.traces(items) if line.startswith("saved")] == [
        "saved 0",
        "saved 1",
        "saved 2",
    ]


def test_who_stands_still_in_a_transaction_is_taken_over_from(site: Scene, crew: Crew) -> None:
    """As when a host is gone without a word: its connections are still there, and the locks that they hold."""
    if site.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time: who stands still there stops everybody")
    first, second, front = crew
    held = site.start("held", at=first)
    items = site.start("items", at=first, count=2)
    site.open(items, 0)
    site.trace(items, "saved 0")
    site.trace(held, "begin")

    site.order_death("stop", 1)
    site.open(items, 1)
    for key in (held, items):
        site.until(lambda: site.traces(key).count("begin") == 2, f"a second begin of {key}")  # noqa: B023
    site.open(held)

    assert site.result(items, at=second) == [0, 1]
    assert site.result(held, at=front) == held
    first.send_signal(signal.SIGCONT)
    site.until(lambda: sorted(site.checker.workers()) == sorted([first.pid, second.pid]), "two workers")
    assert site.result(site.start("greet", at=first), at=first)
