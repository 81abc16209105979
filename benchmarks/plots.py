"""How cost grows: plots as SVG, of the same look and the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import CONTENDERS, OURS
from benchmarks.figures import Measured
from benchmarks.measures import runs, waiting


@dataclass(frozen=True)
class Plot:
    """One quantity against what it grows with.

    Attributes:
        name: of the file, and of the picture in the page.
        measure, quantity: which figures.
        title, axis: what they are, and what they are drawn against.
        contenders: whose.
    """

    name: str
    measure: str
    quantity: str
    title: str
    axis: str
    contenders: tuple[str, ...] = OURS


_EVERYBODY = ("memory", *OURS)

PLOTS = (
    Plot("clients", "run", runs.RATE, "Runs of one step, per second", "clients", _EVERYBODY),
    Plot(
        "cost", "run", runs.COST, "Processor time of the server for a run of one step, ms", "clients", _EVERYBODY
    ),
    Plot(
        "steps",
        "length",
        runs.STEP_COST,
        "Processor time of the server for a step, ms",
        "steps of a run",
        _EVERYBODY,
    ),
    Plot("journal", "wake", waiting.WAKE, "Time to wake a run that waits, ms", "steps that it has behind it"),
    Plot("handlers", "list", runs.P50, "GET /handlers?limit=50, ms (median)", "handlers stored"),
)

_COLOURS = {"memory": "#7f7f7f", "sqlite": "#1f77b4", "postgresql": "#d62728"}


def drawable(results: Mapping[str, Measured]) -> list[Plot]:
    """Return the plots for which there are two points at least."""
    return [plot for plot in PLOTS if any(len(_points(plot, results, key)) > 1 for key in plot.contenders)]


def _points(plot: Plot, results: Mapping[str, Measured], contender: str) -> list[tuple[int, float, float, float]]:
    measured = results.get(plot.measure)
    found = measured.points(contender, plot.quantity) if measured else []
    return [(figure.at, figure.median, figure.least, figure.most) for figure in found]


def write(directory: Path, results: Mapping[str, Measured]) -> None:
    """Draw all that can be drawn into a directory."""
    import matplotlib as mpl

    mpl.use("svg")
    # Without these, ids are random; letters stay letters.
    mpl.rcParams.update({"svg.hashsalt": "django_workflows", "svg.fonttype": "none"})
    directory.mkdir(parents=True, exist_ok=True)
    for plot in drawable(results):
        _draw(plot, results, directory / f"{plot.name}.svg")


def _draw(plot: Plot, results: Mapping[str, Measured], file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    for contender in plot.contenders:
        if points := _points(plot, results, contender):
            at, median, least, most = zip(*points, strict=True)
            colour, label = _COLOURS[contender], CONTENDERS[contender].label
            axes.plot(at, median, marker="o", color=colour, label=label)
            axes.fill_between(at, least, most, color=colour, alpha=0.15, linewidth=0)
    ticks = sorted({at for contender in plot.contenders for at, *_ in _points(plot, results, contender)})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{at:,}" for at in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_title(plot.title, fontsize="medium")
    axes.set_xlabel(plot.axis)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    # It leaves blanks at the ends of lines.
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
