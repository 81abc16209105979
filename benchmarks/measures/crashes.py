"""A crash: how long until every run goes on again."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

from benchmarks.contenders import OURS, Running, available, field
from benchmarks.figures import Measured
from benchmarks.measures.streams import begin
from benchmarks.rounds import Effort, Sample, interleave
from tests.servers import wait_for

FIRST = "s to the first"
ALL = "s to the last"

# Seconds that a run must have lived for the reference to resume it.
GRACE = 31.0


def crash(effort: Effort) -> Measured:
    """300 runs, each in the middle of a step; SIGKILL; the same command again.

    The time from there until each has done its step again, committed that, and begun the next one.
    """
    measured = Measured("crash")
    count = effort.pick(300, 50)

    def play(contender: str) -> Sample:
        with tempfile.TemporaryDirectory() as directory:
            environment = {"BENCHMARK_DIRECTORY": directory}
            with field([contender], environment, fresh=True) as running:
                return _crash(running[contender], Path(directory), count)

    # Nothing is left of runs in memory; and the reference's own need half a minute to be resumed at all.
    contenders = effort.pick(("reference-sqlite", "reference-postgresql", *OURS), OURS[:1])
    rounds = min(effort.rounds, 3)
    interleave(available(contenders), play, measured, rounds=rounds, attempts=effort.attempts, at=count)
    return measured


def _crash(running: Running, directory: Path, count: int) -> dict[str, float]:
    begin(running, "holding", {f"held-{number}": {"key": str(number)} for number in range(count)})
    wait_for(lambda: len(_said(directory / "holding")) == count, timeout=120, what="all runs to be in a step")
    if running.database is None:
        time.sleep(GRACE)
    running.server.send_signal(signal.SIGKILL)
    running.server.wait_for_exit()
    (directory / "go").touch()
    killed = time.time()
    running.server.start(wait=False)
    said = wait_for(lambda: _all(directory / "progress", count), timeout=120, what="all runs to go on")
    return {FIRST: min(said.values()) - killed, ALL: max(said.values()) - killed}


def _all(file: Path, count: int) -> dict[str, float]:
    said = _said(file)
    return said if len(said) == count else {}


def _said(file: Path) -> dict[str, float]:
    """Return who has written to a file of ``Holding``, and when first."""
    said: dict[str, float] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        key, at = line.split()
        said.setdefault(key, float(at))
    return said
