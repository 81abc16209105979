"""Rounds: one contender after the other, again and again, so that what changes on the machine meets all alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from benchmarks import machine
from benchmarks.figures import Measured
from benchmarks.machine import Watch

# Cores that others may keep busy during a round.
TOLERATED = 0.1

T = TypeVar("T")
Sample = Mapping[str, float]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        quick: with small numbers, to see that all works.
        rounds: of each contender.
        seconds: that a round takes, where that can be chosen.
        attempts: how often a round that was disturbed is played.
    """

    quick: bool
    rounds: int
    seconds: float
    attempts: int

    @classmethod
    def full(cls) -> Effort:
        return cls(quick=False, rounds=5, seconds=5.0, attempts=3)

    @classmethod
    def brief(cls) -> Effort:
        return cls(quick=True, rounds=1, seconds=1.0, attempts=1)

    def pick(self, full: T, quick: T) -> T:
        return quick if self.quick else full


def interleave(
    contenders: Sequence[str],
    play: Callable[[str], Sample],
    measured: Measured,
    *,
    rounds: int,
    attempts: int,
    at: int = 0,
    watch: Callable[[], AbstractContextManager[Watch]] = machine.watch,
) -> None:
    """Play rounds and add what they gave to the figures.

    A round during which others kept the machine busy is discarded and played again; when that happens each time,
    the least disturbed attempt counts, and the result says so. Every other round the order is reversed.

    Args:
        contenders: who plays.
        play: measures one contender once: quantity -> value.
        measured: where the figures go.
        rounds: how many that count.
        attempts: how often a round that was disturbed is played.
        at: of what the figures are a function.
        watch: how disturbances are noticed.
    """
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            for quantity, value in _undisturbed(contender, play, measured, attempts, watch).items():
                values[contender, quantity].append(value)
    for (contender, quantity), found in values.items():
        measured.add(contender, quantity, found, at)


def _undisturbed(
    contender: str,
    play: Callable[[str], Sample],
    measured: Measured,
    attempts: int,
    watch: Callable[[], AbstractContextManager[Watch]],
) -> Sample:
    played: list[tuple[float, Sample]] = []
    for _ in range(attempts):
        with watch() as seen:
            sample = play(contender)
        played.append((seen.foreign, sample))
        if seen.foreign <= TOLERATED:
            break
    foreign, best = min(played, key=lambda attempt: attempt[0])
    measured.rounds += 1
    measured.discarded += len(played) - 1
    measured.disturbed += foreign > TOLERATED
    return best
