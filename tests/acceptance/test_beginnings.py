"""What can happen to a process while it begins."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from tests import servers
from tests.acceptance import services
from tests.acceptance.scene import SITE, Scene


def test_a_process_that_dies_as_it_enlists_is_known_to_be_dead(scene: Scene) -> None:
    """Nobody waits for its lease to end, which would be ten minutes."""
    scene.server.kill()
    scene.order_death("after", 1)
    scene.server.start(wait=False)
    assert scene.server.wait_for_exit() == -signal.SIGKILL
    assert scene.server.pid in scene.checker.workers()

    scene.server.start()

    scene.until(lambda: scene.checker.workers() == [scene.server.pid], "the burial of the dead")


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
def test_a_process_that_begins_before_its_database_executes_when_that_is_there(kind: str, tmp_path: Path) -> None:
    if kind != "daphne":
        pytest.importorskip(kind)
    directories = {"SITE_DIRECTORY": str(tmp_path), "TMPDIR": str(tmp_path)}
    with services.PostgreSQL() as postgresql, servers.Database("postgresql", **postgresql.environment) as database:
        postgresql.stop()
        server = servers.command_line(database, kind, site=SITE, environment=directories)
        try:
            server.start(wait=False)
            servers.wait_for(lambda: "does not answer" in server.output, what="a word of what is missing")
            health = servers.wait_for(lambda: _get(server.url + "/health"), what="an answer")
            assert health.status_code == 503
            postgresql.start()
            server.wait_until_healthy()
            body = {"handler_id": "first", "start_event": {"key": "first"}}
            answer = httpx.post(server.url + "/workflows/greet/run", json=body, timeout=30)
            assert answer.json()["status"] == "completed"
        finally:
            server.close()
            if not postgresql.is_running:
                postgresql.start()


def _get(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url)
    except httpx.TransportError:
        return None
