"""What was measured: the values of a quantity over the rounds, with median, min and max."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` per cent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share / 100 * len(ordered)), 1) - 1]


@dataclass(frozen=True)
class Figure:
    """One quantity of one contender.

    Attributes:
        contender: key of the contender.
        quantity: what was measured, with its unit.
        at: of what it is a function: clients, steps, ticks, handlers; 0 where of nothing.
        values: one for each round.
    """

    contender: str
    quantity: str
    at: int
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)


@dataclass
class Measured:
    """The result of one measure.

    Attributes:
        name: the measure.
        figures: what was found.
        rounds: how many rounds count, all contenders together.
        discarded: how many did not, because others were busy on the machine.
        disturbed: how many count although others were busy, because each attempt was disturbed.
        quick: whether it was measured with small numbers.
        when: date, from the clock of the machine.
        revision: of the code.
        failure: what went wrong, "" if nothing.
    """

    name: str
    figures: list[Figure] = field(default_factory=list)
    rounds: int = 0
    discarded: int = 0
    disturbed: int = 0
    quick: bool = False
    when: str = ""
    revision: str = ""
    failure: str = ""

    def add(self, contender: str, quantity: str, values: Sequence[float], at: int = 0) -> None:
        self.figures.append(Figure(contender, quantity, at, tuple(values)))

    def find(self, contender: str, quantity: str, at: int = 0) -> Figure | None:
        for figure in self.figures:
            if (figure.contender, figure.quantity, figure.at) == (contender, quantity, at):
                return figure
        return None

    def points(self, contender: str, quantity: str) -> list[Figure]:
        """Return what is known of a quantity, in the order of what it is a function of."""
        found = [f for f in self.figures if (f.contender, f.quantity) == (contender, quantity)]
        return sorted(found, key=lambda figure: figure.at)
