"""A tick as the journal holds it: what the engine writes, and the requirements of a wait, which it leaves out.

The engine's own resumption asks the step again what it waits for, so it never writes the ``requirements`` of
``wait_for_event``. A journal is read without running steps: there, a waiter whose requirements were forgotten
would take the first event of its class, and all that follows would no longer fit.
"""

from __future__ import annotations

import json
from typing import Any

from workflows.context.serializers import BaseSerializer
from workflows.runtime.types.results import AddWaiter
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick

from django_workflows import serialization
from django_workflows.exceptions import NotSerializable

_WITH_REQUIREMENTS = '{"requirements": '


def dump(tick: WorkflowTick, using: BaseSerializer) -> str:
    """Write a tick for the journal.

    Raises:
        NotSerializable: it holds a value that the serializer cannot write, or not so that it is equal when it
            is read again.
    """
    requirements = {}
    if isinstance(tick, TickStepResult):
        requirements = {
            position: _dump_requirements(tick, result.requirements, using)
            for position, result in enumerate(tick.result)
            if isinstance(result, AddWaiter) and result.requirements
        }
    try:
        data = serialization.dump_tick(tick, using)
    except NotSerializable as error:
        if error.__cause__ is None:
            raise
        # The serializer's own message repeats the whole tick; what it says it for is the error before.
        reason = error.__cause__.__context__ or error.__cause__
        raise NotSerializable(f"{_describe(tick)} cannot be stored: {reason}") from reason
    return json.dumps({"requirements": requirements, "tick": data}) if requirements else data


def load(data: str, using: BaseSerializer) -> WorkflowTick:
    """Read a tick that :func:`dump` wrote."""
    if not data.startswith(_WITH_REQUIREMENTS):
        return serialization.load_tick(data, using)
    stored = json.loads(data)
    tick = serialization.load_tick(stored["tick"], using)
    assert isinstance(tick, TickStepResult)
    result = list(tick.result)
    for position, requirements in stored["requirements"].items():
        result[int(position)] = result[int(position)].model_copy(
            update={"requirements": using.deserialize(requirements)}
        )
    return tick.model_copy(update={"result": result})


def _describe(tick: WorkflowTick) -> str:
    if isinstance(tick, TickStepResult):
        return f"what step {tick.step_id} returned or sent"
    if isinstance(tick, TickAddEvent):
        return f"the event {type(tick.event).__name__}"
    return f"a {type(tick).__name__}"


def _dump_requirements(tick: TickStepResult, requirements: dict[str, Any], using: BaseSerializer) -> str:
    what = f"the requirements of wait_for_event in step {tick.step_id}"
    try:
        data = using.serialize(requirements)
        equal = using.deserialize(data) == requirements
    except Exception as error:
        raise NotSerializable(f"{what} cannot be stored: {error}") from error
    if not equal:
        raise NotSerializable(
            f"{what} would be others after a restart; use strings, numbers and booleans, not {requirements!r}"
        )
    return data
