"""The benchmarks' own arithmetic, and that they still measure; no figure is asserted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import load, machine, page, plots, report, results, targets
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import Figure, Measured, percentile
from benchmarks.machine import Watch
from benchmarks.measures import MEASURES
from benchmarks.results import Results
from benchmarks.rounds import interleave
from benchmarks.targets import LARGEST, TARGETS, Target, Verdict


def figure(*values: float, contender: str = "sqlite", at: int = 0) -> Figure:
    return Figure(contender, "runs/s", at, values)


# --- figures ---------------------------------------------------------------------------------------------


def test_a_figure_is_its_median_with_least_and_most() -> None:
    found = figure(3.0, 1.0, 10.0)

    assert (found.median, found.least, found.most) == (3.0, 1.0, 10.0)
    assert report.spread(found) == "3 (1–10)"
    assert report.spread(figure(1234.5)) == "1,234"


@pytest.mark.parametrize(("share", "value"), [(0, 1), (50, 50), (99, 99), (100, 100)])
def test_a_percentile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value


def test_points_come_in_the_order_of_what_they_are_a_function_of() -> None:
    measured = Measured("run", [figure(1.0, at=64), figure(2.0, at=1), figure(3.0, at=1, contender="memory")])

    assert [point.at for point in measured.points("sqlite", "runs/s")] == [1, 64]


# --- rounds ----------------------------------------------------------------------------------------------


def disturbances(*foreign: float) -> Callable[[], contextlib.AbstractContextManager[Watch]]:
    """Return a watch that finds others as busy as this, round by round."""
    left = list(foreign)

    @contextlib.contextmanager
    def watch() -> Iterator[Watch]:
        yield Watch(seconds=1.0, foreign=left.pop(0))

    return watch


def test_rounds_are_interleaved() -> None:
    played: list[str] = []
    measured = Measured("run")

    def play(contender: str) -> dict[str, float]:
        played.append(contender)
        return {"runs/s": float(len(played))}

    interleave(["a", "b"], play, measured, rounds=2, attempts=3, at=16, watch=disturbances(0, 0, 0, 0))

    assert played == ["a", "b", "b", "a"]
    assert measured.figures == [Figure("a", "runs/s", 16, (1.0, 4.0)), Figure("b", "runs/s", 16, (2.0, 3.0))]
    assert (measured.rounds, measured.discarded, measured.disturbed) == (4, 0, 0)


def counting() -> Callable[[str], dict[str, float]]:
    played: list[str] = []

    def play(contender: str) -> dict[str, float]:
        played.append(contender)
        return {"runs/s": float(len(played))}

    return play


def test_a_disturbed_round_is_played_again() -> None:
    measured = Measured("run")

    interleave(["a"], counting(), measured, rounds=1, attempts=3, watch=disturbances(0.5, 0.01))

    assert measured.figures == [Figure("a", "runs/s", 0, (2.0,))]
    assert (measured.rounds, measured.discarded, measured.disturbed) == (1, 1, 0)
    assert report.rounds(measured) == "1 rounds, 1 discarded because others were busy on the machine"


def test_where_all_attempts_are_disturbed_the_least_disturbed_counts_and_it_is_said() -> None:
    measured = Measured("run")

    interleave(["a"], counting(), measured, rounds=1, attempts=3, watch=disturbances(0.5, 0.2, 0.3))

    assert measured.figures == [Figure("a", "runs/s", 0, (2.0,))]
    assert (measured.rounds, measured.discarded, measured.disturbed) == (1, 2, 1)
    assert report.rounds(measured).endswith("1 count although they were")


def test_the_machine_is_watched() -> None:
    with machine.watch() as seen:
        sum(range(3_000_000))

    assert seen.ours > 0
    assert machine.memory(1) > 0


# --- targets ---------------------------------------------------------------------------------------------


def judged(target: Target, *figures: Figure) -> Verdict:
    return targets._judge(target, Measured(target.measure, list(figures)))


def test_a_ratio_of_medians_is_held_against_its_bound() -> None:
    target = Target("run", "runs/s", "sqlite", 16, "memory", least=2.0)
    theirs = figure(90.0, 100.0, 500.0, contender="memory", at=16)

    reached = judged(target, figure(200.0, 210.0, 10.0, at=16), theirs)
    missed = judged(target, figure(199.0, at=16), theirs)

    assert (reached.value, reached.word) == (2.0, "ok")
    assert (missed.value, missed.word) == (1.99, "MISSED")
    assert target.bound == "≥ 2 ×"


def test_a_figure_is_held_against_its_bound() -> None:
    target = Target("list", "p50 ms", "sqlite", LARGEST, most=10.0)

    verdict = judged(
        target, Figure("sqlite", "p50 ms", 1000, (1.0,)), Figure("sqlite", "p50 ms", 100_000, (11.0,))
    )

    assert (verdict.value, verdict.word) == (11.0, "MISSED")
    assert judged(target, Figure("sqlite", "p50 ms", 10, (9.0,))).word == "ok"


def test_a_figure_is_compared_with_that_at_another_place() -> None:
    target = Target("wake", "wake ms", "sqlite", 2000, "sqlite", 20, most=2.0)

    verdict = judged(target, Figure("sqlite", "wake ms", 20, (10.0,)), Figure("sqlite", "wake ms", 2000, (15.0,)))

    assert (verdict.value, verdict.word) == (1.5, "ok")


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    target = Target("run", "runs/s", "sqlite", 16, "memory", least=2.0)

    assert judged(target, figure(1.0, at=16)).word == "not measured"
    assert judged(target, figure(1.0, at=64), figure(1.0, contender="memory", at=16)).word == "not measured"
    assert not any(verdict.is_missed for verdict in targets.judge({}))


def test_targets_speak_of_what_is_measured() -> None:
    for target in TARGETS:
        assert target.measure in MEASURES
        assert target.ours in CONTENDERS
        assert not target.against or target.against in CONTENDERS
        assert (target.least is None) != (target.most is None)


# --- results and page ------------------------------------------------------------------------------------


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    stored = Results({"processor": "2 cores"}, {"run": Measured("run", [figure(1.0, 2.0, at=16)], rounds=2)})

    results.write(tmp_path / "results" / "a.json", stored)

    assert results.read(tmp_path / "results" / "a.json") == stored
    assert results.read(tmp_path / "none.json") == Results()


def test_a_measure_that_fails_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(effort: object) -> Measured:
        raise load.LoadFailed("3 of 4 requests failed")

    monkeypatch.setitem(MEASURES, "run", fail)

    measured = command.take("run", command.Effort.brief())

    assert measured.failure == "LoadFailed: 3 of 4 requests failed"
    assert "FAILED: LoadFailed" in report.measured(measured)
    assert "Traceback" in capsys.readouterr().err


def test_the_page_is_that_of_the_last_result() -> None:
    stored = results.read(results.LATEST)

    assert page.PAGE.read_text() == page.render(stored), "make bench-page"
    drawn = {f"{plot.name}.svg" for plot in plots.drawable(stored.measures)}
    assert {file.name for file in page.IMAGES.iterdir()} == drawn


# --- the whole -------------------------------------------------------------------------------------------


def test_it_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "result.json"

    code = command.main(["--quick", "--only", "length,nowait,readers", "--output", str(output)])

    said = capsys.readouterr()
    assert code == 0, said.err
    measures = results.read(output).measures
    assert list(measures) == ["length", "nowait", "readers"]
    for measured in measures.values():
        assert {"memory", "sqlite"} == {found.contender for found in measured.figures}
        assert all(found.least > 0 for found in measured.figures)
    assert "targets are missed" in said.out
    assert page.render(results.read(output)).count("### ") == 3


def test_an_answer_that_is_none_makes_a_measure_fail() -> None:
    # Nobody listens there.
    with pytest.raises(load.LoadFailed, match="the load process ended"):
        load.closed_loop(1, [("GET", "/", "")], clients=1)
