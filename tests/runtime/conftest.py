from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from .process import Process
from .world import world


@pytest.fixture
async def process(transactional_db: None, settings: Any) -> AsyncIterator[Process]:
    """A process that serves workflows; when the test is over, it is stopped and every run is checked."""
    world.begin()
    process = Process(settings)
    try:
        yield process
    finally:
        world.end()
        try:
            await process.check()
        finally:
            await process.close()
