"""Figures as JSON. A file holds the last result of each measure, since measures can be taken one by one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import commits, machine, wrk
from benchmarks.figures import Figure, Measured
from tests.servers import ROOT

LATEST = Path(__file__).parent / "results" / "latest.json"
QUICK = LATEST.with_name("quick.json")


@dataclass
class Results:
    """What is in a file.

    Attributes:
        machine: what it was measured on.
        measures: name -> the last result.
    """

    machine: dict[str, str] = field(default_factory=dict)
    measures: dict[str, Measured] = field(default_factory=dict)

    def add(self, measured: Measured) -> None:
        self.machine = {**machine.describe(), **commits.describe(), "load": wrk.program()}
        self.measures[measured.name] = measured


def read(path: Path) -> Results:
    """Return what is in a file; nothing when there is none."""
    if not path.exists():
        return Results()
    content = json.loads(path.read_text())
    return Results(content["machine"], {name: _measured(found) for name, found in content["measures"].items()})


def _measured(content: Mapping[str, object]) -> Measured:
    measured = Measured(**content)  # type: ignore[arg-type]
    measured.figures = [
        Figure(**{**figure, "values": tuple(figure["values"])})  # type: ignore[arg-type,call-overload]
        for figure in measured.figures
    ]
    return measured


def write(path: Path, results: Results) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1, ensure_ascii=False) + "\n")


def revision() -> str:
    """Return which code is measured: git's short name for it, with a + when files have been changed since."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
