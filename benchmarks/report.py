"""The tables that are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.contenders import CONTENDERS
from benchmarks.figures import Figure, Measured
from benchmarks.targets import Verdict


def number(value: float) -> str:
    """Write a figure with three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"


def spread(figure: Figure | None) -> str:
    """Write the median, and from where to where the rounds went."""
    if figure is None:
        return "–"
    if len(figure.values) == 1:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.least)}–{number(figure.most)})"


def at(figure: Figure) -> str:
    return f"{figure.at:,}" if figure.at else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write rows in columns for a terminal."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def measured(result: Measured) -> str:
    """Write all that a measure has found."""
    rows = [
        [figure.quantity, at(figure), CONTENDERS[figure.contender].label, spread(figure)]
        for figure in result.figures
    ]
    lines = [table(["quantity", "at", "contender", "median (min–max)"], rows) if rows else ""]
    lines.append(rounds(result))
    if result.failure:
        lines.append(f"FAILED: {result.failure}")
    return "\n".join(line for line in lines if line)


def rounds(result: Measured) -> str:
    """Say how many rounds count, and how many were disturbed."""
    text = f"{result.rounds} rounds, {result.discarded} discarded because others were busy on the machine"
    return f"{text}; {result.disturbed} count although they were" if result.disturbed else text


VERDICTS = ["measure", "quantity", "at", "who", "median (min–max)", "against", "its median", "ratio", "target", ""]


def verdict_row(verdict: Verdict) -> list[str]:
    target, ours, against = verdict.target, verdict.ours, verdict.against
    compared = CONTENDERS[target.against].label if target.against else ""
    if target.against_at is not None:
        compared = f"at {target.against_at}"
    return [
        target.measure,
        target.quantity,
        at(ours) if ours else f"{target.at:,}" if target.at > 0 else "",
        CONTENDERS[target.ours].label,
        spread(ours),
        compared,
        spread(against) if target.against else "",
        f"{verdict.value:.2f}" if target.against and verdict.is_measured else "",
        target.bound,
        verdict.word,
    ]


def verdicts(found: Sequence[Verdict]) -> str:
    """Write every target with what was found."""
    return table(VERDICTS, [verdict_row(verdict) for verdict in found])


def summary(results: Mapping[str, Measured], found: Sequence[Verdict]) -> str:
    missed = sum(verdict.is_missed for verdict in found)
    asked = sum(verdict.is_measured for verdict in found)
    failed = [name for name, result in results.items() if result.failure]
    text = f"{missed} of {asked} targets are missed; {len(found) - asked} were not measured."
    return f"{text} Measures that failed: {', '.join(failed)}." if failed else text
