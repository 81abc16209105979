"""A crash at every single commit, of a run and of its recovery, keeps every promise."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import httpx

from tests.acceptance.scene import Reader, Scene, new_key

T = TypeVar("T")

# More commits than any of these stories has.
MANY = 60


class Client:
    """Somebody who does not give up: starts a run, waits for its question, answers it, and reads to the end."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.key = new_key("review")
        self.reader: Reader = scene.reader(self.key)
        self.restarts = 0

    def go_through(self) -> None:
        """Do all of it, and start the server again when it has died meanwhile."""
        self._insist(self._start)
        self._insist(self._read_question)
        self._insist(self._answer)
        self._insist(self._read_end)

    def _insist(self, act: Callable[[], T]) -> T:
        while True:
            with suppress(httpx.TransportError):
                return act()
            assert self._scene.server.wait_for_exit() == -signal.SIGKILL
            self._scene.server.start()
            self.restarts += 1

    def _start(self) -> None:
        body = {"handler_id": self.key, "start_event": {"key": self.key}}
        answer = self._scene.post("/workflows/review/run-nowait", body)
        # It was stored the first time, when nobody was left to say so.
        assert answer.status_code in (200, 409), answer.text

    def _read_question(self) -> None:
        if not any(event["type"] == "Question" for event in self.reader.events):
            self.reader.read(until=lambda event: event["type"] == "Question")

    def _answer(self) -> None:
        body = {"event": {"type": "Answer", "value": {"text": "go"}}}
        answer = self._scene.post(f"/events/{self.key}", body)
        assert answer.status_code in (200, 409), answer.text

    def _read_end(self) -> None:
        self.reader.read()

    def check(self) -> None:
        """Check what a client can see, and what its run has left."""
        scene, key = self._scene, self.key
        assert scene.result(key) == ["a draft", 3, "go"]
        assert scene.checker.runs(key) == 1
        whole = scene.reader(key)
        whole.read()
        assert self.reader.sequences == whole.sequences == list(range(len(whole.events)))
        assert self.reader.events == whole.events
        asked = [event for event in whole.events if event["type"] == "Question"]
        assert len(asked) == 1
        steps = [int(line) for line in scene.traces(key)]
        assert steps == sorted(steps), steps
        assert set(steps) == {1, 2, 3}
        # One process has died, and at most the step that it was in has run again.
        assert len(steps) <= 4, steps


def killed_at_every_commit(vendor: str, moment: str) -> int:
    """Kill the server at the first, second, third... commit of a run of its own; returns how many there were."""
    with Scene(vendor) as scene:
        scene.server.start()
        for number in range(1, MANY):
            client = Client(scene)
            scene.order_death(moment, number)
            client.go_through()
            survived = scene.withdraw_order()
            if not survived and not client.restarts:
                # The commit was one of those that nobody waits for.
                assert scene.server.wait_for_exit() == -signal.SIGKILL
                scene.server.start()
            client.check()
            scene.check()
            if survived:
                return number - 1
    raise AssertionError(f"more than {MANY} commits")


def killed_at_every_commit_of_a_recovery(vendor: str) -> int:
    """Kill a server that has just started on what another has left; returns how many commits there were."""
    with Scene(vendor) as scene:
        scene.server.start()
        for number in range(1, MANY):
            asking, held = scene.start("ask"), scene.start("held")
            items = scene.start("items", count=2)
            scene.saw(asking, "Question")
            scene.trace(held, "begin")
            scene.open(items, 0)
            scene.trace(items, "saved 0")
            scene.server.kill()

            scene.order_death("before", number)
            scene.server.start(wait=False)
            for key in (held, items):
                scene.until(
                    lambda: scene.traces(key).count("begin") > 1 or not scene.server.is_running,  # noqa: B023
                    f"{key} again, or the death of the process",
                )
            survived = scene.withdraw_order()
            if not survived:
                assert scene.server.wait_for_exit() == -signal.SIGKILL
                scene.server.start()
            scene.server.wait_until_healthy()
            scene.open(held)
            scene.open(items, 1)
            scene.send(asking, "Answer", text="yes")

            assert scene.result(asking) == "yes"
            assert scene.result(held) == held
            assert scene.traces(held).count("end") == 1
            assert scene.result(items) == [0, 1]
            assert [line for line in scene.traces(items) if line != "begin"] == ["saved 0", "saved 1"]
            scene.check()
            if survived:
                return number - 1
    raise AssertionError(f"more than {MANY} commits")


def test_a_cancellation_holds_from_its_commit_on(scene: Scene) -> None:
    for number in range(1, MANY):
        key = scene.start("held")
        # The run writes nothing more, so the first commit is that of the cancellation.
        scene.saw(key, "Progress")
        scene.order_death("after", number)
        with suppress(httpx.TransportError):
            scene.cancel(key)
        survived = scene.withdraw_order()
        if not survived:
            assert scene.server.wait_for_exit() == -signal.SIGKILL
            scene.server.start()

        assert scene.ended(key)["status"] == "cancelled"
        assert scene.traces(key) == ["begin"]
        if survived:
            break
    assert number > 1


def test_every_commit(vendor: str, unblocked: None) -> None:
    with ThreadPoolExecutor() as pool:
        before, after, recovery = (
            pool.submit(killed_at_every_commit, vendor, "before"),
            pool.submit(killed_at_every_commit, vendor, "after"),
            pool.submit(killed_at_every_commit_of_a_recovery, vendor),
        )
        print(f"commits: {before.result()} before, {after.result()} after, {recovery.result()} of a recovery")
        # The start, three steps, a state, a question, an answer and the end.
        assert min(before.result(), after.result()) >= 6
        assert recovery.result() >= 3
