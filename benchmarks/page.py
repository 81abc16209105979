"""docs/performance.md and its plots, from the last result: ``python -m benchmarks.page``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import plots, report, results, targets
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import Measured
from benchmarks.measures import MEASURES
from benchmarks.results import Results
from tests.servers import ROOT

PAGE = ROOT / "docs" / "performance.md"
IMAGES = PAGE.parent / "images" / "performance"

TEMPLATE = Path(__file__).with_name("page.md")


def render(stored: Results) -> str:
    """Return the page: the template, with what was measured in its places."""
    page = TEMPLATE.read_text()
    for place, fill in (("machine", _machine), ("targets", _targets), ("plots", _plots), ("figures", _figures)):
        page = page.replace(f"{{{place}}}", fill(stored))
    return page


def _machine(stored: Results) -> str:
    rows = [[name, value] for name, value in stored.machine.items()]
    when = sorted(measured.when for measured in stored.measures.values())
    revisions = sorted({measured.revision for measured in stored.measures.values()})
    rows += [["measured", f"{when[0]} to {when[-1]} UTC"], ["revision", ", ".join(revisions)]]
    return _table(["", ""], rows) + _caution(stored)


def _caution(stored: Results) -> str:
    """Say which of the figures are not worth much."""
    measures = stored.measures.values()
    quick = [measured.name for measured in measures if measured.quick]
    disturbed = [measured.name for measured in measures if measured.disturbed]
    text = ""
    if quick:
        text += f"\n**Of the quick mode, with small numbers and one round:** {', '.join(quick)}.\n"
    if disturbed:
        text += (
            f"\n**Others were busy on the machine in some of the rounds that count:** {', '.join(disturbed)}.\n"
        )
    return text


def _targets(stored: Results) -> str:
    verdicts = targets.judge(stored.measures)
    rows = [report.verdict_row(verdict) for verdict in verdicts]
    rows = [[*row[:-1], f"**{row[-1]}**" if row[-1] == "MISSED" else row[-1]] for row in rows]
    return f"{_table(report.VERDICTS, rows)}\n{report.summary(stored.measures, verdicts)}\n"


def _plots(stored: Results) -> str:
    return "\n".join(
        f"![{plot.title}, by {plot.axis}](images/performance/{plot.name}.svg)\n"
        for plot in plots.drawable(stored.measures)
    )


def _figures(stored: Results) -> str:
    return "\n".join(_measured(stored.measures[name]) for name in MEASURES if name in stored.measures)


def _measured(measured: Measured) -> str:
    text = " ".join((MEASURES[measured.name].__doc__ or "").split())
    rows = [
        [CONTENDERS[figure.contender].label, report.at(figure), figure.quantity, report.spread(figure)]
        for figure in measured.figures
    ]
    table = (
        _table(["who", "at", "quantity", "median (min–max)"], rows) if rows else f"Failed: {measured.failure}\n"
    )
    when = f"measured {measured.when} UTC, revision {measured.revision}"
    return f"### {measured.name}\n\n{text}\n\n{table}\n{report.rounds(measured)}; {when}.\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--input", type=Path, default=results.LATEST, help="the JSON file (default: %(default)s)")
    stored = results.read(parser.parse_args().input)
    if not stored.measures:
        parser.error("there is no result yet: make bench")
    plots.write(IMAGES, stored.measures)
    PAGE.write_text(render(stored))
    print(PAGE)


if __name__ == "__main__":
    main()
