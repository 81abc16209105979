"""Where a run stands, as one document, so that its journal need not be read from the beginning.

The engine can write its state and read it again, but leaves out what its own resumption asks the steps for:
what each ``wait_for_event`` requires, and whether its time is over. It never knew its deadline. We write these
beside it, so that a run that goes on from a snapshot is the run that would have gone on from its whole journal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from workflows.context.context_types import SerializedContext
from workflows.context.serializers import BaseSerializer
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickWaiterTimeout, WorkflowTick
from workflows.workflow import Workflow

# A waiter: the step that waits, and the name of its wait.
WaiterKey = tuple[StepId, str]


@dataclass
class Standing:
    """Where a run stands after some tick of its journal.

    Attributes:
        state: the engine's state.
        deadlines: when each ``wait_for_event(timeout=...)`` is over, in seconds since the epoch.
        began_at: when the run's first tick was stamped, in seconds since the epoch.
    """

    state: BrokerState
    deadlines: dict[WaiterKey, float] = field(default_factory=dict)
    began_at: float | None = None

    def pending_timeouts(self) -> list[tuple[float, WorkflowTick]]:
        """Return what the run must be told when, because nobody else knows."""
        waiting = {
            (step, waiter.waiter_id)
            for step, worker in self.state.workers.items()
            for waiter in worker.collected_waiters
            if waiter.resolved_event is None and not waiter.timed_out
        }
        return [
            (due, TickWaiterTimeout(step_id=step, waiter_id=waiter))
            for (step, waiter), due in self.deadlines.items()
            if (step, waiter) in waiting
        ]


def begin(workflow: Workflow) -> Standing:
    """Return where a run stands before its first tick."""
    return Standing(BrokerState.from_workflow(workflow))


def dump(standing: Standing, using: BaseSerializer) -> str:
    """Write a standing.

    Raises:
        ValueError: the engine cannot write its state (it executes a workflow inside of this one).
    """
    waiters = [
        {
            "step": str(step),
            "id": waiter.waiter_id,
            "requirements": using.serialize(waiter.requirements) if waiter.requirements else None,
            "timed_out": waiter.timed_out,
        }
        for step, worker in standing.state.workers.items()
        for waiter in worker.collected_waiters
        if waiter.requirements or waiter.timed_out
    ]
    return json.dumps(
        {
            "engine": standing.state.to_serialized(using).model_dump(mode="json"),
            "waiters": waiters,
            "deadlines": [[str(step), waiter, due] for (step, waiter), due in standing.deadlines.items()],
            "began_at": standing.began_at,
        }
    )


def of_context(context: dict[str, Any]) -> str:
    """Write a snapshot to begin a run from, out of the engine's own serialized context without its state store."""
    return json.dumps({"engine": {**context, "state": {}}, "waiters": [], "deadlines": [], "began_at": None})


def load(data: str, workflow: Workflow, using: BaseSerializer) -> Standing:
    """Read a standing that :func:`dump` or :func:`of_context` wrote."""
    stored = json.loads(data)
    engine = SerializedContext.from_dict_auto(stored["engine"], using)
    state = BrokerState.from_serialized(engine, workflow, using)
    extras = {(StepId.from_str(extra["step"]), extra["id"]): extra for extra in stored["waiters"]}
    for step, worker in state.workers.items():
        for waiter in worker.collected_waiters:
            extra = extras.get((step, waiter.waiter_id))
            if extra is not None:
                waiter.timed_out = extra["timed_out"]
                if extra["requirements"] is not None:
                    waiter.requirements = using.deserialize(extra["requirements"])
    deadlines = {(StepId.from_str(step), waiter): due for step, waiter, due in stored["deadlines"]}
    return Standing(state, deadlines, stored["began_at"])
