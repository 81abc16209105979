"""What was streamed is there after a crash, and a reader who comes back misses nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.acceptance.scene import Scene


def test_results_and_streams_are_there_after_a_crash(scene: Scene) -> None:
    ended = scene.start("pipeline", total=6)
    scene.result(ended)
    waiting = scene.start("collect", total=2)
    scene.send(waiting, "Note", number=1, total=2)
    scene.until(lambda: scene.checker.consumed(waiting), "the note in the journal")
    handler = scene.handler(ended)
    before, so_far = scene.reader(ended), scene.reader(waiting)
    before.read()
    so_far.read(until=lambda event: event["type"] == "Question")

    scene.crash()

    assert scene.handler(ended) == handler
    after, further = scene.reader(ended), scene.reader(waiting)
    after.read()
    assert (after.sequences, after.events) == (before.sequences, before.events)
    assert after.sequences == list(range(len(after.events)))
    scene.send(waiting, "Note", number=2, total=2)
    further.read()
    assert further.events[: len(so_far.events)] == so_far.events
    assert scene.result(waiting) == [1, 2]


def test_a_reader_who_comes_back_sees_every_event_once(scene: Scene) -> None:
    key = scene.start("pipeline", total=160)
    reader = scene.reader(key)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(reader.read_through_crashes)
        for _ in range(3):
            seen = len(reader.sequences)
            scene.until(lambda: len(reader.sequences) > seen + 10 or reading.done(), "more events")  # noqa: B023
            scene.server.kill()
            scene.server.start(wait=False)
        scene.server.wait_until_healthy()
        scene.result(key)
        reading.result()

    whole = scene.reader(key)
    whole.read()
    assert reader.sequences == whole.sequences == list(range(len(whole.events)))
    assert reader.events == whole.events
