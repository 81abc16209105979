"""A site under WSGI: it executes nothing, and says so; a worker beside it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests import servers
from tests.servers import Database, Server, wait_for
from tests.wire.conftest import SITE

WARNING = "A run was started that nobody executes"
GREETING = {"start_event": {"name": "Ada"}}


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as database:
        yield database


@contextmanager
def under_wsgi(database: Database, directory: Path) -> Iterator[Server]:
    """Serve the site with ``runserver`` as it is without Daphne among the apps."""
    source = f"from {SITE} import *\nINSTALLED_APPS = [app for app in INSTALLED_APPS if app != 'daphne']\n"
    (directory / "wsgi_site.py").write_text(source)
    server = servers.runserver(database, site="wsgi_site", environment={"PYTHONPATH": str(directory)})
    try:
        # It is not healthy: no runtime is there.
        server.start(wait=False)
        wait_for(lambda: answers(server), timeout=servers.START_TIMEOUT, what="the server")
        yield server
    finally:
        server.close()


def answers(server: Server) -> bool:
    try:
        return servers.get(f"{server.url}/workflows").status_code == 200
    except httpx.TransportError:
        return False


def start(server: Server) -> None:
    response = httpx.post(f"{server.url}/workflows/greeting/run-nowait", json=GREETING, verify=False)
    assert response.status_code == 200


def test_without_a_worker(database: Database, tmp_path: Path) -> None:
    with under_wsgi(database, tmp_path) as server:
        assert servers.get(f"{server.url}/health").status_code == 503
        assert WARNING not in server.output

        start(server)
        start(server)

        assert server.output.count(WARNING) == 1
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/workflows/greeting/run", json=GREETING, timeout=1, verify=False)


def test_beside_a_worker(database: Database, tmp_path: Path) -> None:
    with servers.runworkflows(database, site=SITE), under_wsgi(database, tmp_path) as server:
        found = httpx.post(f"{server.url}/workflows/greeting/run", json=GREETING, timeout=30, verify=False)

        assert found.status_code == 200
        assert found.json()["status"] == "completed"
        assert WARNING not in server.output


def test_an_ordinary_request_for_a_socket(database: Database, tmp_path: Path) -> None:
    with under_wsgi(database, tmp_path) as server:
        found = servers.get(f"{server.url}/ws/events/x")

    assert found.status_code == 426
    assert "WebSocket" in found.json()["detail"]
    # To set it is the server's business there.
    assert "upgrade" not in found.headers
