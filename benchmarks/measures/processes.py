"""A second process that executes, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks import machine
from benchmarks.contenders import Running, another, field
from benchmarks.figures import Measured
from benchmarks.measures.runs import STEP_COST, STEP_RATE, STEPS, long_runs
from benchmarks.rounds import Effort, Sample, interleave

BUSY = "cores busy"
# Runs at once, of all processes together -> all runs of a round. With the first, one process has time to spare;
# the second is all that it can do.
AT_ONCE = {16: 96, 64: 192}

Teams = dict[str, list[Running]]


def second(effort: Effort) -> Measured:
    """Runs of 101 steps at one process that serves and executes, and spread over two, by the number at once.

    With the cores that were busy with it, the database server and the load among them. There is no more than
    the machine has: 2 cores divided by what one process keeps busy is the most that two can bring on two.
    """
    measured = Measured("second")
    with field(("postgresql",)) as running:
        for first in running.values():
            with another(first, "postgresql") as other:
                teams = {"postgresql": [first], "postgresql-two": [first, other]}
                rounds, attempts = effort.rounds, effort.attempts
                for at_once, runs in effort.pick(AT_ONCE, {16: 16}).items():

                    def play(
                        contender: str, at_once: int = at_once, runs: int = runs, teams: Teams = teams
                    ) -> Sample:
                        return _together(teams[contender], at_once, runs)

                    interleave(list(teams), play, measured, rounds=rounds, attempts=attempts, at=at_once)
    return measured


def _together(team: Sequence[Running], at_once: int, runs: int) -> Sample:
    """Execute runs, with as many of them at each process."""
    share = len(team)
    with machine.watch() as seen, ThreadPoolExecutor(share) as threads:
        samples = list(threads.map(lambda each: long_runs(each, STEPS, at_once // share, runs // share), team))
    return {
        # Until the slower of them is done.
        STEP_RATE: share * min(sample[STEP_RATE] for sample in samples),
        STEP_COST: sum(sample[STEP_COST] for sample in samples) / share,
        BUSY: seen.ours,
    }
