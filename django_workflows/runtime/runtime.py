"""The engine's Runtime: how served workflows are executed.

A run that the service starts gets the adapter of its :class:`Run` and is durable. A served workflow that code
runs by itself (``await workflow.run()``, for instance as the child of another workflow's step) runs in memory as
it would without us: it belongs to the step that runs it and is repeated with it.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from workflows import Workflow
from workflows.context.serializers import BaseSerializer
from workflows.events import StartEvent
from workflows.plugins.basic import BasicRuntime, get_current_run_id
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.plugin import (
    ExternalRunAdapter,
    InternalRunAdapter,
    RegisteredWorkflow,
    Runtime,
)
from workflows.runtime.types.step_function import as_step_worker_functions, create_workflow_run_function

from django_workflows import serialization
from django_workflows.registry import Served
from django_workflows.runtime.adapters import RunAdapter
from django_workflows.runtime.run import current_run


class DjangoRuntime(Runtime):
    """Executes runs of served workflows durably; one for each process."""

    def __init__(self) -> None:
        super().__init__()
        self._in_memory = BasicRuntime()
        self._adopted: dict[int, tuple[Served, RegisteredWorkflow]] = {}

    def adopt(self, served: Served) -> RegisteredWorkflow:
        """Make a workflow run on this runtime and return its functions, computed once.

        Raises:
            ImproperlyConfigured: the instance has already run on another runtime.
        """
        workflow = served.workflow
        known = self._adopted.get(id(workflow))
        if known is not None and known[0] is served:
            return known[1]
        try:
            workflow._switch_runtime(self)
        except RuntimeError as error:
            raise ImproperlyConfigured(
                f"Workflow {served.name!r}: the instance has been run outside django_workflows, so it can no "
                "longer be served. Configure its class or a factory instead."
            ) from error
        registered = self.register(workflow)
        self._adopted[id(workflow)] = (served, registered)
        return registered

    def register(self, workflow: Workflow) -> RegisteredWorkflow:
        return RegisteredWorkflow(
            workflow=workflow,
            workflow_run_fn=create_workflow_run_function(workflow),
            steps=as_step_worker_functions(workflow),
        )

    def get_registered(self, workflow: Workflow) -> RegisteredWorkflow | None:
        known = self._adopted.get(id(workflow))
        return None if known is None else known[1]

    def get_serializer(self, workflow: Workflow) -> BaseSerializer:
        known = self._adopted.get(id(workflow))
        return super().get_serializer(workflow) if known is None else serialization.serializer(known[0])

    def get_internal_adapter(self, workflow: Workflow) -> InternalRunAdapter:
        run = current_run.get()
        # The in-memory runtime names its runs in a variable of its own, set inside of ours for a child.
        if run is None or get_current_run_id() is not None:
            return self._in_memory.get_internal_adapter(workflow)
        return RunAdapter(run)

    def run_workflow(
        self,
        run_id: str,
        workflow: Workflow,
        init_state: BrokerState,
        start_event: StartEvent | None = None,
        serialized_state: dict[str, Any] | None = None,
        serializer: BaseSerializer | None = None,
    ) -> ExternalRunAdapter:
        return self._in_memory.run_workflow(
            run_id, workflow, init_state, start_event, serialized_state, serializer
        )

    def get_external_adapter(self, run_id: str) -> ExternalRunAdapter:
        return self._in_memory.get_external_adapter(run_id)
