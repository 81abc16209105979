"""GET /handlers: the newest 50 of many."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks import load, machine, wrk
from benchmarks.contenders import OURS, Running, field
from benchmarks.figures import Measured
from benchmarks.measures.runs import COST, P50
from benchmarks.rounds import Effort, Sample, interleave
from tests.servers import ROOT

# What the reference, which has no pages, is asked for all of.
REFERENCE = 5000


def handlers(effort: Effort) -> Measured:
    """One client that lists the newest 50, by the number of handlers that are stored."""
    measured = Measured("list")
    sizes = effort.pick((1000, 10_000, 100_000), (1000, 5000))
    with field(effort.pick(OURS, OURS[:1]), fresh=True) as running:
        stored = 0
        for size in sizes:
            for each in running.values():
                _store(each, size - stored)
            stored = size
            _measure(effort, running, measured, "/handlers?limit=50", size)
    count = effort.pick(REFERENCE, 500)
    with field(("memory",), fresh=True) as running:
        for each in running.values():
            request = ("POST", each.path("/workflows/one/run"), '{"start_event": {}}')
            load.closed_loop(each.server.port, [request] * count, clients=16)
        _measure(effort, running, measured, "/handlers", count)
    return measured


def _measure(effort: Effort, running: dict[str, Running], measured: Measured, path: str, size: int) -> None:
    def play(contender: str) -> Sample:
        each = running[contender]
        before = machine.cpu(each.pid)
        answered = wrk.drive(each.server.port, "GET", each.path(path), None, clients=1, seconds=effort.seconds)
        used = machine.cpu(each.pid) - before
        return {P50: answered.p50 * 1000, COST: used / answered.requests * 1000}

    rounds = min(effort.rounds, 3)
    interleave(list(running), play, measured, rounds=rounds, attempts=effort.attempts, at=size)


def _store(running: Running, count: int) -> None:
    """Store handlers that have ended, after the pattern of one that has."""
    running.http.post("/workflows/one/run", json={"start_event": {}}).raise_for_status()
    assert running.database is not None
    subprocess.run(
        [sys.executable, "-m", "benchmarks.store", str(count)],
        cwd=ROOT,
        env={**os.environ, **running.database.environment, "DJANGO_SETTINGS_MODULE": "benchmarks.site"},
        check=True,
    )
