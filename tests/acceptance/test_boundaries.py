"""A crash at every single commit, of a run and of its recovery, keeps every promise."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import httpx
import pytest

from tests.acceptance.scene import Reader, Scene, new_key

T = TypeVar("T")

# More commits than any of these stories has.
MANY = 60


class Client:
    """Somebody who does not give up: starts a run and reads to its end, whatever becomes of the server.

    Args:
        scene: the site.
        workflow: what is started.
        result: what it gives; "{key}" stands for its key.
        wide: how many steps of it may be under way at once.
        fields: of the start event.
    """

    def __init__(self, scene: Scene, workflow: str, result: Any = None, *, wide: int = 1, **fields: Any) -> None:
        self.scene = scene
        self.key = new_key(workflow)
        self.reader: Reader = scene.reader(self.key)
        self.restarts = 0
        self._workflow = workflow
        self._result = result.format(key=self.key) if isinstance(result, str) else result
        self._wide = wide
        self._fields = fields

    def go_through(self) -> None:
        """Do all of it, and start the server again when it has died meanwhile."""
        self.insist(self._start)
        self.talk()
        self.insist(self.reader.read)

    def talk(self) -> None:
        """Do what the run needs to come to its end."""

    def insist(self, act: Callable[[], T]) -> T:
        while True:
            with suppress(httpx.TransportError):
                return act()
            assert self.scene.server.wait_for_exit() == -signal.SIGKILL
            self.scene.server.start()
            self.restarts += 1

    def _start(self) -> None:
        # It may have been stored the first time, when nobody was left to say so; by now it may have ended.
        if self.restarts and self.scene.checker.runs(self.key):
            return
        body = {"handler_id": self.key, "start_event": {"key": self.key, **self._fields}}
        answer = self.scene.post(f"/workflows/{self._workflow}/run-nowait", body)
        assert answer.status_code == 200, answer.text

    def check(self) -> None:
        """Check what a client can see, and what its run has left."""
        scene, key = self.scene, self.key
        result = scene.result(key)
        # What is side by side comes in any order.
        assert (sorted(result) if self._wide > 1 else result) == self._result
        assert scene.checker.runs(key) == 1
        whole = scene.reader(key)
        whole.read()
        assert self.reader.sequences == whole.sequences == list(range(len(whole.events)))
        assert self.reader.events == whole.events
        # One process has died, and at most the steps that it was in have run again.
        steps = scene.traces(key)
        assert len(steps) - len(set(steps)) <= self._wide, steps


class Review(Client):
    """Waits for a question and answers it."""

    # Seconds that the answer takes.
    pause = 0.0

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene, "review", ["a draft", 3, "go"])

    def talk(self) -> None:
        self.insist(self._read_question)
        time.sleep(self.pause)
        self.insist(self._answer)

    def _read_question(self) -> None:
        if not any(event["type"] == "Question" for event in self.reader.events):
            self.reader.read(until=lambda event: event["type"] == "Question")

    def _answer(self) -> None:
        body = {"event": {"type": "Answer", "value": {"text": "go"}}}
        answer = self.scene.post(f"/events/{self.key}", body)
        assert answer.status_code in (200, 409), answer.text

    def check(self) -> None:
        super().check()
        asked = [event for event in self.reader.events if event["type"] == "Question"]
        assert len(asked) == 1
        steps = [int(line) for line in self.scene.traces(self.key)]
        assert steps == sorted(steps), steps
        assert set(steps) == {1, 2, 3}


class LateReview(Review):
    """Answers when the run is out of memory."""

    pause = 0.4


class Deletion(Client):
    """Deletes the run when it has ended."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene, "pipeline", 2, total=2)

    def go_through(self) -> None:
        super().go_through()
        self.insist(self._delete)

    def _delete(self) -> None:
        answer = self.scene.post(f"/handlers/{self.key}/cancel?purge=true")
        assert answer.status_code == 200 or (self.restarts and answer.status_code == 404), answer.text

    def check(self) -> None:
        assert self.scene.client().get(f"/handlers/{self.key}").status_code == 404
        assert self.scene.checker.left_behind() == {}
        assert self.scene.checker.runs(self.key) == 0


STORIES: dict[str, Callable[[Scene], Client]] = {
    "one step": lambda scene: Client(scene, "greet", "Hello, {key}!"),
    "steps that stream": lambda scene: Client(scene, "pipeline", 2, total=2),
    "parts side by side": lambda scene: Client(scene, "fan", [0, 1, 2], wide=3, total=3),
    "a child": lambda scene: Client(scene, "parent", "{key}"),
    "a deadline": lambda scene: Client(scene, "ask", "nobody answered", timeout=0.5),
    "an answer after a while": LateReview,
    "a deletion": Deletion,
}


def killed_at_every_commit(vendor: str, moment: str, make: Callable[[Scene], Client] = Review) -> int:
    """Kill the server at the first, second, third... commit of a run of its own; returns how many there were."""
    # Whoever waits is out of memory at once.
    with Scene(vendor, SITE_IDLE_TIMEOUT="0.1") as scene:
        scene.server.start()
        for number in range(1, MANY):
            client = make(scene)
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


@pytest.mark.parametrize("story", STORIES)
def test_every_commit_of_a_story(unblocked: None, story: str) -> None:
    with ThreadPoolExecutor() as pool:
        before, after = (
            pool.submit(killed_at_every_commit, "sqlite", moment, STORIES[story]) for moment in ("before", "after")
        )
        print(f"{story}: {before.result()} commits before, {after.result()} after")
        assert min(before.result(), after.result()) >= 2
