"""Runs that are started and end at once: how many, how fast, at what cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from benchmarks import load, machine, wrk
from benchmarks.contenders import OURS, Running, field
from benchmarks.figures import Measured
from benchmarks.rounds import Effort, Sample, interleave

EVERYBODY = ("memory", "reference-sqlite", "reference-postgresql", "sqlite", "sqlite-full", "postgresql")
BRIEF = tuple(key for key in EVERYBODY if key != "sqlite-full")
DAPHNE = ("daphne-sqlite", "daphne-postgresql")
MEMORY_AND_OURS = ("memory", *OURS)
# Takes a second for a run of 101 steps.
SLOW = "reference-sqlite"

RATE = "runs/s"
P50 = "p50 ms"
P99 = "p99 ms"
COST = "server ms/run"
STEP_RATE = "steps/s"
STEP_COST = "server ms/step"
START_RATE = "starts/s"

# Steps of a run in `steps`.
STEPS = 101


def run(effort: Effort) -> Measured:
    """POST /run of one step, by the number of clients."""
    measured = Measured("run")
    most = effort.pick((*EVERYBODY, *DAPHNE), (*BRIEF, "daphne-sqlite"))
    # 64 clients may wait for more than a second for the slow one.
    cases = {1: MEMORY_AND_OURS, 16: most, 64: effort.pick(EVERYBODY, _fast(BRIEF))}
    if not effort.quick:
        cases |= {4: MEMORY_AND_OURS, 256: MEMORY_AND_OURS}
    for clients, contenders in sorted(cases.items()):
        with field(contenders) as running:

            def play(contender: str, clients: int = clients, running: Mapping[str, Running] = running) -> Sample:
                return _requests(running[contender], "run", clients, effort.seconds)

            interleave(list(running), play, measured, rounds=effort.rounds, attempts=effort.attempts, at=clients)
    return measured


def _fast(contenders: Sequence[str]) -> Sequence[str]:
    return tuple(key for key in contenders if key != SLOW)


def _requests(running: Running, verb: str, clients: int, seconds: float) -> dict[str, float]:
    """Start runs of one step with as many clients."""
    before = machine.cpu(running.pid)
    answered = wrk.drive(
        running.server.port,
        "POST",
        running.path(f"/workflows/one/{verb}"),
        {"start_event": {}},
        clients=clients,
        seconds=seconds,
    )
    used = machine.cpu(running.pid) - before
    return {
        RATE: answered.rate,
        P50: answered.p50 * 1000,
        P99: answered.p99 * 1000,
        COST: used / answered.requests * 1000,
    }


def steps(effort: Effort) -> Measured:
    """Runs of 101 steps with an event each, by the number of runs at once."""
    measured = Measured("steps")
    for clients in (4, 16):
        contenders: Sequence[str] = effort.pick(EVERYBODY, BRIEF)
        if effort.quick and clients > 4:
            contenders = _fast(contenders)
        with field(contenders) as running:

            def play(contender: str, clients: int = clients, running: Mapping[str, Running] = running) -> Sample:
                each = 1 if contender == SLOW else effort.pick(6, 1)
                return long_runs(running[contender], STEPS, clients, clients * each)

            rounds = effort.rounds
            interleave(list(running), play, measured, rounds=rounds, attempts=effort.attempts, at=clients)
    return measured


def length(effort: Effort) -> Measured:
    """The same, by the number of steps of a run; four at once."""
    measured = Measured("length")
    with field(effort.pick(MEMORY_AND_OURS, ("memory", "sqlite"))) as running:
        for count in (1, 11, 101) if effort.quick else (1, 11, 101, 1001):

            def play(contender: str, count: int = count) -> Sample:
                runs = max(effort.pick(4000, 200) // count, 4)
                return long_runs(running[contender], count, 4, runs)

            rounds = min(effort.rounds, 3)
            interleave(list(running), play, measured, rounds=rounds, attempts=effort.attempts, at=count)
    return measured


def long_runs(running: Running, count: int, clients: int, runs: int) -> dict[str, float]:
    """Execute runs with as many steps, some at a time."""
    body = json.dumps({"start_event": {"steps": count}})
    request = ("POST", running.path("/workflows/steps/run"), body)
    before = machine.cpu(running.pid)
    answered = load.closed_loop(running.server.port, [request] * runs, clients=clients)
    used = machine.cpu(running.pid) - before
    done = runs * count
    return {STEP_RATE: done / answered.seconds, STEP_COST: used / done * 1000}


def nowait(effort: Effort) -> Measured:
    """POST /run-nowait with 32 clients: how many starts are answered, while the runs themselves go on."""
    measured = Measured("nowait")
    with field(effort.pick(MEMORY_AND_OURS, ("memory", "sqlite"))) as running:

        def play(contender: str) -> Sample:
            sample = _requests(running[contender], "run-nowait", 32, effort.seconds)
            # What was started must not disturb the next round.
            machine.settle(running[contender].pid)
            return {START_RATE: sample[RATE], P99: sample[P99]}

        interleave(list(running), play, measured, rounds=effort.rounds, attempts=effort.attempts)
    return measured
