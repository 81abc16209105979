"""SIGTERM lets runs go; it neither cancels them nor waits for what does not end."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

from tests.acceptance import checker
from tests.acceptance.scene import Scene, new_key


def test_runs_are_let_go_and_go_on(scene: Scene) -> None:
    scene.server.kill()
    with scene.another(forked=False) as server, ThreadPoolExecutor() as pool:
        held, asking, blocking = (scene.start(name, at=server) for name in ("held", "ask", "blocking"))
        scene.saw(asking, "Question", at=server)
        for key in (held, blocking):
            scene.trace(key, "begin")
        reader = scene.reader(held, at=server)
        reading = pool.submit(reader.read)
        waiting = new_key("held")
        body = {"handler_id": waiting, "start_event": {"key": waiting}}
        running = pool.submit(scene.post, "/workflows/held/run", body, at=server)
        scene.trace(waiting, "begin")
        scene.until(lambda: reader.events, "events")

        server.send_signal(signal.SIGTERM)
        # Streams end; who waits for a result gets it, if it comes in time.
        assert not checker.is_terminal(reading.result())
        scene.open(waiting)
        answer = running.result()
        assert answer.status_code == 200
        assert answer.json()["result"]["value"] == {"result": waiting}
        assert server.wait_for_exit() == 0

    assert scene.checker.workers() == []
    assert set(scene.checker.statuses([held, asking, blocking]).values()) == {"running"}

    # The lease would last for ten minutes.
    scene.server.start()
    for key in (held, blocking):
        scene.until(lambda: scene.traces(key).count("begin") == 2, "the interrupted step")  # noqa: B023
        scene.open(key)
        assert scene.result(key) == key
    scene.send(asking, "Answer", text="yes")
    assert scene.result(asking) == "yes"
    reader.at = scene.server
    reader.read()
    assert reader.sequences == list(range(len(reader.sequences)))


def test_a_worker_without_http_lets_go(scene: Scene) -> None:
    scene.server.kill()
    with scene.another("--no-http") as worker, scene.another(SITE_EXECUTE="0") as front:
        held, blocking = scene.start("held", at=front), scene.start("blocking", at=front)
        for key in (held, blocking):
            scene.trace(key, "begin")
        assert worker.terminate() == 0
        assert scene.checker.workers() == []
    scene.server.start()
    for key in (held, blocking):
        scene.open(key)
        assert scene.result(key) == key
        assert scene.traces(key).count("begin") == 2
