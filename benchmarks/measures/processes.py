"""A second process that executes, on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks import machine
from benchmarks.contenders import Running, another, field
from benchmarks.figures import Measured
from benchmarks.measures.runs import STEP_COST, STEP_RATE, STEPS, long_runs
from benchmarks.rounds import Effort, Sample, interleave

BUSY = "cores busy"
# Runs at once, of all processes together.
CLIENTS = 16


def second(effort: Effort) -> Measured:
    """Runs of 101 steps, 16 at once, at one process that serves and executes, and spread over two.

    With the cores that were busy with it, the database server and the load among them: where one process keeps
    more than half of all cores busy, a second cannot double anything.
    """
    measured = Measured("second")
    with field(("postgresql",)) as running:
        for first in running.values():
            with another(first, "postgresql") as other:
                teams = {"postgresql": [first], "postgresql-two": [first, other]}

                def play(contender: str, teams: dict[str, list[Running]] = teams) -> Sample:
                    team = teams[contender]
                    clients, runs = CLIENTS // len(team), CLIENTS * effort.pick(6, 1) // len(team)
                    with machine.watch() as seen, ThreadPoolExecutor(len(team)) as at_once:
                        samples = list(at_once.map(lambda each: long_runs(each, STEPS, clients, runs), team))
                    return {
                        STEP_RATE: len(team) * runs * STEPS / seen.seconds,
                        STEP_COST: sum(sample[STEP_COST] for sample in samples) / len(samples),
                        BUSY: seen.ours,
                    }

                rounds = effort.rounds
                interleave(list(teams), play, measured, rounds=rounds, attempts=effort.attempts)
    return measured
