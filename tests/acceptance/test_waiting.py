"""What a run waits for is not forgotten: persons, deadlines, and the next attempt."""

from __future__ import annotations

import time

from tests.acceptance.scene import Scene
from tests.acceptance.workflows import RETRY_DELAY


def test_a_person_is_still_awaited(scene: Scene) -> None:
    key = scene.start("ask")
    scene.saw(key, "Question")

    scene.crash()

    assert scene.handler(key)["status"] == "running"
    scene.send(key, "Answer", text="yes")
    assert scene.result(key) == "yes"


def test_deadlines_hold_through_a_crash(scene: Scene) -> None:
    begun = time.time()
    passing = scene.start("ask", timeout=1.0)
    pending = scene.start("ask", timeout=3.0)
    flaky = scene.start("flaky")
    hasty = scene.start("hasty")
    scene.saw(passing, "Question")
    scene.saw(pending, "Question")
    scene.trace(hasty, "begin")
    # The failure is in the journal, and with it that there will be another attempt.
    scene.until(lambda: len(scene.checker.ticks(flaky)) == 3, "a failed attempt")

    scene.server.kill()
    now = time.time()
    scene.open(flaky)
    scene.until(lambda: time.time() > now + 1.0, "the deadline to pass")
    scene.server.start()

    assert scene.result(passing) == "nobody answered"
    assert scene.result(pending) == "nobody answered"
    (given_up,) = scene.traces(pending)
    assert float(given_up.split()[1]) >= begun + 3.0

    assert scene.result(flaky) == flaky
    first, second = (float(line.split()[1]) for line in scene.traces(flaky))
    assert second - first >= RETRY_DELAY - 0.01

    found = scene.ended(hasty)
    assert found["status"] == "failed"
    assert "timed out" in found["error"]
