"""PostgreSQL with Django's connection pool, and without: what holds a connection, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from tests.acceptance.scene import Scene
from tests.conftest import require

# Fewer than the threads that read, and than those that answer requests.
POOL = 3
WAITING = 300


@pytest.fixture(scope="module", params=[POOL, None], ids=["pool", "no pool"])
def pooled(request: pytest.FixtureRequest, unblocked: None) -> Iterator[tuple[Scene, int | None]]:
    require("postgresql")
    if request.param is not None:
        pytest.importorskip("psycopg_pool")
    environment = {} if request.param is None else {"SITE_POOL": str(request.param)}
    with Scene("postgresql", **environment) as scene:
        scene.ready()
        yield scene, request.param
        scene.check()


def connected(scene: Scene) -> int:
    """Return how many connections the server's processes have."""
    connection: Any = connections[scene._alias]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def test_runs_are_served_and_resumed(pooled: tuple[Scene, int | None]) -> None:
    scene, _ = pooled
    items = scene.start("items", count=3)
    scene.open(items, 0)
    scene.trace(items, "saved 0")
    reader = scene.reader(items)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(reader.read_through_crashes)
        scene.until(lambda: reader.events, "events")
        scene.crash()
        for number in (1, 2):
            scene.open(items, number)
        assert scene.result(items) == [0, 1, 2]
        reading.result()
    assert reader.sequences == list(range(len(reader.sequences)))


def test_runs_that_wait_hold_no_connection(pooled: tuple[Scene, int | None]) -> None:
    scene, size = pooled
    with ThreadPoolExecutor(16) as pool:
        asking = list(pool.map(lambda _: scene.start("ask"), range(WAITING)))
        readers = [scene.reader(key) for key in asking[:50]]
        # As many streams at once as would need every connection that the server has.
        reading = [pool.submit(reader.read, lambda event: event["type"] == "Question") for reader in readers[:16]]
        assert [one.result()["type"] for one in reading] == ["Question"] * 16
        # Two that write (a thread's and the event loop's), four that read, those of requests that have just ended.
        most = 2 + (size or 4)
        scene.until(lambda: connected(scene) <= most, f"at most {most} connections")
        list(pool.map(lambda key: scene.send(key, "Answer", text="yes"), asking))
        assert set(pool.map(scene.result, asking)) == {"yes"}
