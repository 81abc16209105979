"""How long what a step writes waits for the step's end."""

from __future__ import annotations

import asyncio
import time

import pytest

from django_workflows.runtime import outbox


@pytest.mark.parametrize(
    ("busy", "expected"),
    [
        pytest.param(0.0, outbox.TURNS, id="turns are short"),
        pytest.param(2 * outbox.PATIENCE, 1, id="each turn has much to do"),
    ],
)
async def test_an_event_waits_some_turns_but_not_long(
    busy: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not busy:
        # However slow the machine is.
        monkeypatch.setattr(outbox, "PATIENCE", 60.0)
    loop, turns = asyncio.get_running_loop(), outbox._Turns()
    over: asyncio.Future[int] = loop.create_future()
    passed = 0

    def turn() -> None:
        nonlocal passed
        passed += 1
        time.sleep(busy)
        if not over.done():
            loop.call_soon(turn)

    loop.call_soon(turn)
    turns.after(lambda: over.set_result(passed))

    assert await over == expected
    # The next one waits as long.
    passed, over = 0, loop.create_future()
    turns.after(lambda: over.set_result(passed))
    loop.call_soon(turn)
    assert await over <= expected
