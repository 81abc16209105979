"""Runs that wait for a person: what they cost meanwhile, and how fast they go on."""

from __future__ import annotations

import json
import statistics
import time

from benchmarks import machine
from benchmarks.contenders import CONTENDERS, OURS, Running, field
from benchmarks.figures import Measured
from benchmarks.measures.streams import begin
from benchmarks.rounds import Effort, Sample, interleave
from tests.servers import wait_for

MEMORY = "kB/run"
WAKE = "wake ms"

# Seconds without anything to do after which a run leaves memory.
IDLE_TIMEOUT = 1.0
ENVIRONMENT = {"BENCHMARK_IDLE_TIMEOUT": str(IDLE_TIMEOUT)}

ANSWER = {"event": {"type": "HumanResponseEvent", "value": {"response": "yes"}}}


def memory(effort: Effort) -> Measured:
    """2,000 runs that wait and have left memory: by how much the server has grown.

    Twice as many were there before, so that what a server keeps for its next work counts for nobody.
    """
    measured = Measured("memory")
    count = effort.pick(2000, 100)
    everybody = ("memory", "reference-sqlite", "reference-postgresql", *OURS)
    with field(effort.pick(everybody, ("memory", "sqlite")), ENVIRONMENT) as running:
        # Memory that was taken is not always given back: a round can be played once.
        for contender, each in running.items():
            _wait_released(each, contender, "before", 2 * count)
            before = machine.memory(each.pid)
            _wait_released(each, contender, "then", count)
            grown = (machine.memory(each.pid) - before) / count / 1000
            measured.add(contender, MEMORY, [grown], count)
            measured.rounds += 1
    return measured


def _wait_released(running: Running, contender: str, prefix: str, count: int) -> None:
    """Start runs and return when they wait and have left memory."""
    begin(running, "wait", {f"{prefix}-{number}": {} for number in range(count)})
    if CONTENDERS[contender].is_ours:
        wait_until_released(running)
    else:
        # It does not say.
        time.sleep(2 * IDLE_TIMEOUT)
    machine.settle(running.pid)


_EXECUTED = "SELECT count(*) FROM django_workflows_handler WHERE status = 'running' AND worker_id IS NOT NULL"


def wait_until_released(running: Running, timeout: float = 120.0) -> None:
    """Return when all runs of ours have ended or left memory."""
    wait_for(lambda: running.query(_EXECUTED) == 0, timeout=timeout, what="runs to leave memory")


def wake(effort: Effort) -> Measured:
    """A run that waits, out of memory, for an answer: how long from the request to its next step.

    By the number of steps that it has behind it; each is an entry of its journal.
    """
    measured = Measured("wake")
    lengths = (20, 2000) if effort.quick else (20, 200, 2000, 20_000, 100_000)
    with field(effort.pick(OURS, OURS[:1]), ENVIRONMENT) as running:
        for each in running.values():
            begin(each, "wait", {f"wake-{ticks}": {"steps": ticks} for ticks in lengths})
        for each in running.values():
            wait_until_released(each, timeout=1800)
            machine.settle(each.pid)
        for ticks in lengths:

            def play(contender: str, ticks: int = ticks) -> Sample:
                return _wake(running[contender], f"wake-{ticks}", effort.pick(5, 2))

            rounds = min(effort.rounds, 3)
            interleave(list(running), play, measured, rounds=rounds, attempts=effort.attempts, at=ticks)
    return measured


def _wake(running: Running, handler: str, times: int) -> dict[str, float]:
    """Answer a run some times, each time when it has left memory again."""
    took = []
    for _ in range(times):
        wait_until_released(running)
        asked = time.time()
        running.http.post(f"/events/{handler}", json=ANSWER).raise_for_status()
        took.append(_woken(running, handler, asked) - asked)
    return {WAKE: statistics.median(took) * 1000}


def _woken(running: Running, handler: str, after: float) -> float:
    """Return when a run went on, by what it wrote for its readers."""

    def stamp() -> float | None:
        written = running.query(
            "SELECT data FROM django_workflows_event WHERE type = 'Stamped' AND handler_id = "
            f"(SELECT id FROM django_workflows_handler WHERE handler_id = '{handler}') "
            "ORDER BY sequence DESC LIMIT 1"
        )
        at = 0.0 if written is None else float(json.loads(written)["value"]["at"])
        return at if at > after else None

    found: float = wait_for(stamp, timeout=60, what=f"{handler} to go on")
    return found
