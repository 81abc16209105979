"""The measures: name -> what takes it.

Each starts the contenders that it needs, with empty databases, and returns what it has found.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.figures import Measured
from benchmarks.measures import crashes, lists, processes, runs, streams, waiting
from benchmarks.rounds import Effort

MEASURES: dict[str, Callable[[Effort], Measured]] = {
    "run": runs.run,
    "steps": runs.steps,
    "length": runs.length,
    "nowait": runs.nowait,
    "readers": streams.readers,
    "lateness": streams.lateness,
    "idle": streams.idle,
    "memory": waiting.memory,
    "wake": waiting.wake,
    "crash": crashes.crash,
    "list": lists.handlers,
    "second": processes.second,
}
