"""Waiting for an answer after Django has finished, on a connection that may end before."""

from __future__ import annotations

import asyncio
from typing import Any

from django_workflows.api.handoff import Answer, Waiting
from tests.storage import PATIENCE


class Connection:
    """A client's connection as a server hands it over."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


async def test_who_waits_gets_the_answer() -> None:
    for seconds in (0, 0.3):
        connection = Connection()

        async def job(seconds: float = seconds) -> Answer:
            await asyncio.sleep(seconds)
            return 200, b"{}"

        async with asyncio.timeout(PATIENCE):
            await Waiting(job)({}, connection.receive, connection.send)

        start, body = connection.sent
        assert (start["status"], body["body"]) == (200, b"{}")


async def test_who_goes_away_ends_the_wait() -> None:
    """Also when it was gone before anybody looked."""
    for early in (True, False):
        connection = Connection()
        begun, ended = asyncio.Event(), asyncio.Event()

        async def job(begun: asyncio.Event = begun, ended: asyncio.Event = ended) -> Answer:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                ended.set()
            return 200, b"{}"

        waiting = asyncio.ensure_future(Waiting(job)({}, connection.receive, connection.send))
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
            if not early:
                await asyncio.sleep(0.3)
            connection.gone.set()
            await waiting

        assert ended.is_set()
        assert connection.sent == []


async def test_a_wait_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    connection = Connection()

    async def job() -> Answer:
        await asyncio.sleep(0.3)
        return 200, b"{}"

    await Waiting(job)({}, connection.receive, connection.send)
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == before
