"""What was answered holds: no start, event or cancellation is lost, and none counts twice."""

from __future__ import annotations

import itertools
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from tests.acceptance.scene import Scene, new_key

CLIENTS = 6


def send_until_dead(scene: Scene, send: Callable[[str], bool], keys: Iterable[str], answers: int) -> set[str]:
    """Let several clients send something for each key, and kill the server as soon as ``answers`` are there.

    Args:
        scene: the site.
        send: sends one and says whether it was accepted.
        keys: for what; may be endless.
        answers: how many to wait for.

    Returns the keys that were accepted.
    """
    accepted: set[str] = set()
    waiting = iter(keys)
    lock = threading.Lock()

    def work() -> None:
        with suppress(httpx.TransportError):
            while True:
                with lock:
                    key = next(waiting, None)
                if key is None:
                    return
                if send(key):
                    with lock:
                        accepted.add(key)
                        if len(accepted) == answers:
                            scene.server.send_signal(signal.SIGKILL)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(work) for _ in range(CLIENTS)]:
            done.result()
    scene.server.kill()
    return accepted


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    return random.Random(seed)


def test_no_answered_start_is_lost(scene: Scene, chance: random.Random) -> None:
    names: dict[str, str] = {}

    def start(key: str) -> bool:
        body: dict[str, object] = {"start_event": {"key": key}}
        if chance.random() < 0.5:
            body["handler_id"] = key
        answer = scene.post("/workflows/greet/run-nowait", body)
        if answer.status_code == 503:
            return False
        assert answer.status_code == 200, answer.text
        names[key] = answer.json()["handler_id"]
        return True

    for _ in range(3):
        keys = (new_key("greet") for _ in itertools.count())
        send_until_dead(scene, start, keys, chance.randint(10, 120))
        scene.server.start()

    def all_ended() -> bool:
        statuses = scene.checker.statuses(names.values())
        return [statuses.get(name) for name in names.values()] == ["completed"] * len(names)

    scene.until(all_ended, "the end of all runs that were started")
    for key, name in list(names.items())[:: len(names) // 10]:
        assert scene.result(name) == f"Hello, {key}!"


def test_a_start_with_an_id_can_be_repeated(scene: Scene, chance: random.Random) -> None:
    keys = [new_key("held") for _ in range(60)]

    def start(key: str) -> bool:
        body = {"handler_id": key, "start_event": {"key": key}}
        answer = scene.post("/workflows/held/run-nowait", body)
        return answer.status_code == 200

    answered = send_until_dead(scene, start, keys, chance.randint(10, 50))
    scene.server.start()
    for key in keys:
        body = {"handler_id": key, "start_event": {"key": key}}
        status = scene.post("/workflows/held/run-nowait", body).status_code
        assert status == 409 if key in answered else status in (200, 409)
    for key in keys:
        scene.open(key)

    for key in keys:
        assert scene.result(key) == key
        assert scene.checker.runs(key) == 1
        assert scene.traces(key).count("end") == 1


def test_no_answered_event_is_lost_or_consumed_twice(scene: Scene, chance: random.Random) -> None:
    total = 16
    collectors = [scene.start("collect", total=total) for _ in range(4)]
    asking = [scene.start("ask") for _ in range(16)]
    for key in [*collectors, *asking]:
        scene.saw(key, "Question")

    # What is sent: who gets it and which of its events it is.
    letters = [f"{key} {number}" for key in collectors for number in range(total)]
    letters += [f"{key} 0" for key in asking]
    chance.shuffle(letters)

    def send(letter: str) -> bool:
        key, number = letter.split()
        if key in asking:
            event = {"type": "Answer", "value": {"text": letter}}
        else:
            event = {"type": "Note", "value": {"number": int(number), "total": total}}
        answer = scene.post(f"/events/{key}", {"event": event})
        if answer.status_code != 200:
            return False
        assert answer.json() == {"status": "sent"}
        return True

    def consumed() -> Counter[str]:
        found: Counter[str] = Counter()
        for key in [*collectors, *asking]:
            found.update(f"{key} {event.get('number', 0)}" for event in scene.checker.consumed(key))
        return found

    sent: set[str] = set()
    while len(sent) < len(letters):
        unsent = [letter for letter in letters if letter not in sent]
        answered = send_until_dead(scene, send, unsent, min(chance.randint(1, 30), len(unsent)))
        scene.server.start()
        scene.until(lambda: not any(map(scene.checker.mail, [*collectors, *asking])), "empty mailboxes")
        # What was sent unanswered may have come or not; only a look into the journal tells.
        found = consumed()
        assert {letter: found[letter] for letter in answered if found[letter] != 1} == {}
        sent |= set(found)

    for key in collectors:
        assert sorted(scene.result(key)) == list(range(total))
    for key in asking:
        assert scene.result(key) == f"{key} 0"
    assert set(consumed().values()) == {1}


def test_an_answered_cancellation_takes_effect(scene: Scene, chance: random.Random) -> None:
    keys = [scene.start(chance.choice(["held", "ask"])) for _ in range(24)]
    for key in keys:
        scene.saw(key, "Question" if key.startswith("ask") else "Progress")

    def cancel(key: str) -> bool:
        answer = scene.post(f"/handlers/{key}/cancel")
        return answer.status_code == 200

    answered = send_until_dead(scene, cancel, keys, chance.randint(5, 20))
    scene.server.start()

    scene.until(lambda: not any(map(scene.checker.mail, keys)), "empty mailboxes")
    statuses = scene.checker.statuses(keys)
    assert {statuses[key] for key in answered} == {"cancelled"}
    for key in keys:
        if statuses[key] == "running":
            scene.cancel(key)
        assert scene.ended(key)["status"] == "cancelled"


def test_answers_hold_where_nobody_executes(scene: Scene) -> None:
    asking, held = scene.start("ask"), scene.start("held")
    scene.saw(asking, "Question")
    scene.trace(held, "begin")
    scene.server.kill()

    with scene.another(SITE_EXECUTE="0") as front:
        started = scene.start("greet", at=front)
        scene.send(asking, "Answer", at=front, text="yes")
        scene.cancel(held, at=front)
        assert {scene.handler(key, at=front)["status"] for key in (started, asking, held)} == {"running"}
    scene.server.start()

    assert scene.result(started) == f"Hello, {started}!"
    assert scene.result(asking) == "yes"
    assert scene.ended(held)["status"] == "cancelled"
    assert scene.traces(held) == ["begin"]
