"""A run whose process is killed goes on; what was completed is not done again."""

from __future__ import annotations

import random
from itertools import pairwise

from tests.acceptance.scene import Scene


def test_a_step_that_was_interrupted_runs_again(scene: Scene) -> None:
    key = scene.start("held")
    scene.trace(key, "begin")

    scene.crash()
    scene.open(key)

    assert scene.result(key) == key
    assert scene.traces(key) == ["begin", "begin", "end"]


def test_every_item_is_done_once_when_progress_is_saved(scene: Scene) -> None:
    key = scene.start("items", count=9)
    for killed_after in (2, 3, 6):
        for item in range(killed_after + 1):
            scene.open(key, item)
        scene.trace(key, f"saved {killed_after}")
        scene.crash()
    for item in range(9):
        scene.open(key, item)

    assert scene.result(key) == list(range(9))
    traces = scene.traces(key)
    assert [line for line in traces if line != "begin"] == [f"saved {item}" for item in range(9)]
    assert traces.count("begin") == 4


def test_completed_steps_do_not_run_again(scene: Scene) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    total, parts, kills = 200, 40, 10
    pipeline = scene.start("pipeline", total=total)
    fan = scene.start("fan", total=parts)

    for _ in range(kills):
        seen = len(scene.traces(pipeline))
        further = chance.randint(1, 6)
        scene.until(lambda: len(scene.traces(pipeline)) >= seen + further, "further steps")  # noqa: B023
        scene.server.kill()
        # Not until it is healthy: it goes on with its runs before it is asked anything.
        scene.server.start(wait=False)

    scene.server.wait_until_healthy()
    assert scene.result(pipeline) == total
    steps = [int(line) for line in scene.traces(pipeline)]
    # A step is followed by the next, or by itself again when it was interrupted.
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(steps)), steps
    assert set(steps) == set(range(total + 2))
    assert len(steps) - len(set(steps)) <= kills

    assert sorted(scene.result(fan)) == list(range(parts))
    assert len(scene.traces(fan)) <= parts + 4 * kills
