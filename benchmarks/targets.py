"""What is to be reached, and whether it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.contenders import OURS
from benchmarks.figures import Figure, Measured
from benchmarks.measures import runs, streams, waiting
from benchmarks.measures.crashes import ALL

# The largest that was measured.
LARGEST = -1


@dataclass(frozen=True)
class Target:
    """One bound for one figure of ours.

    Attributes:
        measure, quantity, ours: which figure.
        at: of what the figure is a function; ``LARGEST`` for the largest that was measured.
        against: the contender that it is compared with, "" when the bound is for the figure itself.
        against_at: as ``at``, for what it is compared with; the same when None.
        least, most: the bounds of the ratio, or of the figure itself.
        note: what else a reader should know.
    """

    measure: str
    quantity: str
    ours: str
    at: int = 0
    against: str = ""
    against_at: int | None = None
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def bound(self) -> str:
        sign = " ×" if self.against else f" {self.quantity.split()[0]}" if self.quantity[0] in "k%" else ""
        if self.least is not None:
            return f"≥ {self.least:g}{sign}"
        return f"≤ {self.most:g}{sign}"


def _targets() -> Iterator[Target]:
    for ours in OURS:
        for clients in (16, 64):
            yield Target("run", runs.RATE, ours, clients, "memory", least=2.0)
            factor = {"sqlite": 12.0, "postgresql": 3.0}[ours]
            yield Target("run", runs.RATE, ours, clients, f"reference-{ours}", least=factor)
        yield Target("run", runs.P50, ours, 1, "memory", most=1.2)
        yield Target("run", runs.P99, ours, 16, "memory", most=1.0)
        for at_once in (4, 16):
            yield Target("steps", runs.STEP_RATE, ours, at_once, "memory", least=1.3)
            if ours == "sqlite":
                yield Target("steps", runs.STEP_RATE, ours, at_once, "reference-sqlite", least=14.0)
        yield Target("nowait", runs.START_RATE, ours, 0, "memory", least=1.5)
        yield Target("readers", streams.COST, ours, 0, "memory", most=0.5)
        yield Target("lateness", streams.LATE_P99, ours, LARGEST, most=50.0)
        yield Target("memory", waiting.MEMORY, ours, LARGEST, most=1.0)
        yield Target("crash", ALL, ours, LARGEST, most=1.5)
        for ticks in (2000, 100_000):
            yield Target("wake", waiting.WAKE, ours, ticks, ours, 20, most=2.0)
        yield Target("list", runs.P50, ours, LARGEST, most=10.0)
        yield Target("idle", streams.IDLE, ours, LARGEST, most=2.0)
    yield Target("second", runs.STEP_RATE, "postgresql-two", LARGEST, "postgresql", least=1.7)


TARGETS = tuple(_targets())


@dataclass(frozen=True)
class Verdict:
    """A target with what was found.

    Attributes:
        target: what is to be reached.
        ours: our figure, None when it was not measured.
        against: what it is compared with, None when there is nothing or it was not measured.
    """

    target: Target
    ours: Figure | None
    against: Figure | None

    @property
    def is_measured(self) -> bool:
        return self.ours is not None and (self.against is not None or not self.target.against)

    @property
    def value(self) -> float:
        """What is held against the bound: the ratio of the medians, or our median."""
        assert self.ours is not None
        return self.ours.median / self.against.median if self.against is not None else self.ours.median

    @property
    def is_missed(self) -> bool:
        if not self.is_measured:
            return False
        target = self.target
        return (target.least is not None and self.value < target.least) or (
            target.most is not None and self.value > target.most
        )

    @property
    def word(self) -> str:
        if not self.is_measured:
            return "not measured"
        return "MISSED" if self.is_missed else "ok"


def judge(results: Mapping[str, Measured]) -> list[Verdict]:
    """Hold every target against what was measured."""
    return [_judge(target, results.get(target.measure)) for target in TARGETS]


def _judge(target: Target, measured: Measured | None) -> Verdict:
    if measured is None:
        return Verdict(target, None, None)
    ours = _find(measured, target.ours, target.quantity, target.at)
    at = target.at if target.against_at is None else target.against_at
    against = _find(measured, target.against, target.quantity, at) if target.against else None
    return Verdict(target, ours, against)


def _find(measured: Measured, contender: str, quantity: str, at: int) -> Figure | None:
    if at == LARGEST:
        points = measured.points(contender, quantity)
        return points[-1] if points else None
    return measured.find(contender, quantity, at)
