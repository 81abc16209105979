"""Readers: what an event costs that is delivered, how late it comes, what those cost that hear nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from benchmarks import load, machine
from benchmarks.contenders import OURS, Running, field
from benchmarks.figures import Measured
from benchmarks.rounds import Effort, Sample, interleave

COST = "server µs/delivery"
DELIVERED = "events/s delivered"
LATE_P50 = "late ms, p50"
LATE_P99 = "late ms, p99"
LATE_MOST = "late ms, most"
IDLE = "% of a core"

RATE = 50.0


def readers(effort: Effort) -> Measured:
    """200 readers of one stream: processor time of the server for an event delivered to one of them."""
    measured = Measured("readers")
    with field(effort.pick(("memory", *OURS), ("memory", "sqlite"))) as running:

        def play(contender: str) -> Sample:
            return _paced(running[contender], 1, 200, effort)

        interleave(list(running), play, measured, rounds=effort.rounds, attempts=effort.attempts)
    return measured


def lateness(effort: Effort) -> Measured:
    """200 runs with a reader each, 50 events a second each: how long after it was written an event arrives."""
    measured = Measured("lateness")
    with field(effort.pick(("memory", *OURS), ("memory", "sqlite"))) as running:
        for runs in effort.pick((50, 200), (200,)):

            def play(contender: str, runs: int = runs) -> Sample:
                return _paced(running[contender], runs, 1, effort)

            rounds = effort.rounds
            interleave(list(running), play, measured, rounds=rounds, attempts=effort.attempts, at=runs)
    return measured


# Seconds from the start of a run until its first event, at first and at most; its readers must be there by then.
LEAD = 2.0
LONGEST_LEAD = 60.0


def _paced(running: Running, runs: int, readers: int, effort: Effort) -> Sample:
    """Let runs write events at an even pace, each for as many readers."""
    lead = LEAD
    while lead < LONGEST_LEAD:
        sample = _paced_after(lead, running, runs, readers, int(effort.pick(6, 1) * RATE))
        if sample is not None:
            return sample
        lead *= 2
    raise load.LoadFailed(f"{runs * readers} readers were not connected within {lead / 2} s")


def _paced_after(lead: float, running: Running, runs: int, readers: int, events: int) -> Sample | None:
    """Let them begin so many seconds from now; returns None when readers came late."""
    start = time.time() + lead
    handlers = [f"paced-{time.time_ns()}-{number}" for number in range(runs)]
    begin(running, "paced", {each: {"at": start, "events": events, "rate": RATE} for each in handlers})
    paths = [running.path(f"/events/{handler}?after_sequence=-1") for handler in handlers for _ in range(readers)]
    with load.readers(running.server.port, paths) as result:
        is_late = time.time() > start - 0.5
        if not is_late:
            # Their coming is not what is measured.
            time.sleep(start - 0.2 - time.time())
        before = machine.cpu(running.pid)
        read = result()
    used = machine.cpu(running.pid) - before
    if is_late:
        return None
    if read.events != len(paths) * events:
        raise load.LoadFailed(f"readers got {read.events} events of {len(paths) * events}")
    return {
        COST: used / read.events * 1e6,
        DELIVERED: read.events / read.seconds,
        LATE_P50: read.lateness["p50"] * 1000,
        LATE_P99: read.lateness["p99"] * 1000,
        LATE_MOST: read.lateness["p100"] * 1000,
    }


def begin(running: Running, workflow: str, runs: Mapping[str, object]) -> None:
    """Start runs: handler id -> start event."""
    path = running.path(f"/workflows/{workflow}/run-nowait")
    requests = [
        ("POST", path, json.dumps({"handler_id": handler, "start_event": start_event}))
        for handler, start_event in runs.items()
    ]
    load.closed_loop(running.server.port, requests, clients=min(8, len(runs)))


# Seconds until all runs that wait have left memory.
RELEASED = 10.0


def idle(effort: Effort) -> Measured:
    """1,000 runs that wait, released from memory, with a reader each: processor time of the server."""
    measured = Measured("idle")
    count, seconds = effort.pick(1000, 200), effort.pick(30.0, 2.0)
    with field(effort.pick(("memory", *OURS), ("memory", "sqlite")), {"BENCHMARK_IDLE_TIMEOUT": "3"}) as running:
        for each in running.values():
            begin(each, "wait", {f"idle-{number}": {} for number in range(count)})

        def play(contender: str) -> Sample:
            each = running[contender]
            paths = [each.path(f"/events/idle-{number}?after_sequence=-1") for number in range(count)]
            with load.readers(each.server.port, paths, seconds=seconds + 30):
                time.sleep(effort.pick(RELEASED, 0.0))
                machine.settle(each.pid)
                before, started = machine.cpu(each.pid), time.monotonic()
                time.sleep(seconds)
                return {IDLE: (machine.cpu(each.pid) - before) / (time.monotonic() - started) * 100}

        rounds = min(effort.rounds, 2)
        interleave(list(running), play, measured, rounds=rounds, attempts=effort.attempts, at=count)
    return measured
