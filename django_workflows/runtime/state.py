"""The engine's state storage over a run's own record.

The process that executes a run is the only one that writes its state, so the last record stands in memory and
a load costs no query; a save returns when it is committed.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from workflows.context.state_store import StateRecord

from django_workflows import limits
from django_workflows.exceptions import LeaseLost

if TYPE_CHECKING:
    from django_workflows.runtime.run import Run


class RunStateStorage:
    """State of one run, for the engine's ``StateStoreFacade``."""

    def __init__(self, run: Run, record: str | None) -> None:
        # The run has this storage: a cycle would be in memory until garbage is collected.
        self._run = weakref.ref(run)
        self._record = record

    async def load(self) -> StateRecord | None:
        return None if self._record is None else StateRecord(data=self._record)

    async def save(self, record: StateRecord) -> None:
        data = record.data if isinstance(record.data, str) else json.dumps(record.data)
        # The step that saves it gets the error, and may do with less; otherwise the run fails.
        limits.check_written_state(data)
        # Events that the step wrote to the stream before are still on their way, in tasks of the engine: let them
        # go first, so that a state which says "done" is never committed without them.
        await asyncio.sleep(0)
        run = self._run()
        if run is None:
            raise LeaseLost("the run has left memory")
        await run.record_state(data)
        self._record = data

    @asynccontextmanager
    async def session(self) -> AsyncIterator[RunStateStorage]:
        yield self
