"""Measure, print and write: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import contenders, report, results, targets
from benchmarks.figures import Measured
from benchmarks.measures import MEASURES
from benchmarks.rounds import Effort


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in MEASURES]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    return names


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of each, with small numbers")
    parser.add_argument("--only", type=_names, metavar="NAME,...", help=f"some of: {', '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, help="how many of each contender count")
    parser.add_argument("--seconds", type=float, help="how long a round takes, where that can be chosen")
    parser.add_argument(
        "--output",
        type=Path,
        help="the JSON file; other measures in it stay (default: benchmarks/results/latest.json, quick.json)",
    )
    parser.add_argument("--strict", action="store_true", help="fail when a target is missed")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    usual = Effort.brief() if options.quick else Effort.full()
    effort = Effort(usual.quick, options.rounds or usual.rounds, options.seconds or usual.seconds, usual.attempts)
    output = options.output or (results.QUICK if options.quick else results.LATEST)
    if reason := contenders.unavailable("postgresql"):
        print(f"PostgreSQL is skipped: {reason}")
    stored = results.read(output)
    names = options.only or list(MEASURES)
    # The quick mode has no time to start them for each measure.
    with contenders.keeping() if options.quick else contextlib.nullcontext():
        for name in names:
            print(f"\n=== {name}: {(MEASURES[name].__doc__ or '').splitlines()[0]}", flush=True)
            started = time.monotonic()
            measured = take(name, effort)
            print(report.measured(measured), f"{time.monotonic() - started:.0f} s", sep="\n", flush=True)
            stored.add(measured)
            # After each, so that nothing is lost when the next is cut short.
            results.write(output, stored)
    taken = {name: stored.measures[name] for name in names}
    found = targets.judge(taken)
    if options.only:
        found = [verdict for verdict in found if verdict.target.measure in names]
    print(f"\n{report.verdicts(found)}\n\n{report.summary(taken, found)}\n{output}")
    failed = any(measured.failure for measured in taken.values())
    missed = any(verdict.is_missed for verdict in found)
    return 1 if failed or (options.strict and missed) else 0


def take(name: str, effort: Effort) -> Measured:
    """Take a measure. When it fails, the others are taken all the same, and its result says why."""
    try:
        measured = MEASURES[name](effort)
    except Exception as error:
        traceback.print_exc()
        measured = Measured(name, failure=f"{type(error).__name__}: {error}")
    measured.quick = effort.quick
    measured.when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    measured.revision = results.revision()
    return measured


if __name__ == "__main__":
    # As Ctrl-C does, so that no server and no database outlives it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
