"""The engine's Runtime: how served workflows are executed.

A run that the service starts gets the adapter of its :class:`Run` and is durable. A served workflow that code
runs by itself (``await workflow.run()``, for instance as the child of another workflow's step) runs in memory as
it would without us: it belongs to the step that runs it and is repeated with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, cast

from django.core.exceptions import ImproperlyConfigured
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler
from workflows import Context, Workflow
from workflows.context.internal_context import InternalContext
from workflows.context.serializers import BaseSerializer
from workflows.decorators import StepFunction
from workflows.events import Event, StartEvent, StopEvent
from workflows.plugins.basic import BasicRuntime, get_current_run_id
from workflows.runtime.control_loop import control_loop
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.plugin import (
    ExternalRunAdapter,
    InternalRunAdapter,
    RegisteredWorkflow,
    RunContext,
    Runtime,
    WorkflowRunFunction,
    run_context,
)
from workflows.runtime.types.results import RetryAttempt, StepWorkerOutput, StepWorkerState
from workflows.runtime.types.step_function import (
    StepWorkerFunction,
    as_step_worker_functions,
    create_workflow_run_function,
)
from workflows.runtime.verbose import VerboseDecorator

from django_workflows import serialization
from django_workflows.registry import Served
from django_workflows.runtime import run as runs
from django_workflows.runtime.adapters import RunAdapter

T = TypeVar("T")


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
            if known is None:
                # A workflow with verbose=True has wrapped its runtime to tell what it does.
                workflow._switch_runtime(VerboseDecorator(self) if workflow._verbose else self)
        except RuntimeError as error:
            raise ImproperlyConfigured(
                f"Workflow {served.name!r}: the instance has been run outside django_workflows, so it can no "
                "longer be served. Configure its class or a factory instead."
            ) from error
        registered = self.register(workflow)
        self._adopted[id(workflow)] = (served, registered)
        return registered

    def register(self, workflow: Workflow) -> RegisteredWorkflow:
        # Not a copy: steps see what the others do to the workflow.
        view = cast(Workflow, _ItsSteps(workflow))
        return RegisteredWorkflow(
            workflow=workflow,
            workflow_run_fn=_run_function(workflow),
            steps={name: _contained(step, view) for name, step in as_step_worker_functions(workflow).items()},
        )

    def get_registered(self, workflow: Workflow) -> RegisteredWorkflow | None:
        known = self._adopted.get(id(workflow))
        return None if known is None else known[1]

    def get_serializer(self, workflow: Workflow) -> BaseSerializer:
        known = self._adopted.get(id(workflow))
        return super().get_serializer(workflow) if known is None else serialization.serializer(known[0])

    def get_internal_adapter(self, workflow: Workflow) -> InternalRunAdapter:
        run = runs.current()
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


_FIRST_ATTEMPT = RetryAttempt()


class _ItsSteps:
    """A workflow as the engine hands it to a step: the same, but it knows its steps.

    The engine asks for them at each execution of a step, and the workflow finds them among all of its members:
    almost half of what the engine needs for a step.
    """

    def __init__(self, workflow: Workflow) -> None:
        self._its_workflow = workflow
        self._its_steps = workflow._get_steps()
        self._dispatcher = _Spans(workflow._dispatcher)

    def _get_steps(self) -> dict[str, StepFunction[Any, Any]]:
        return self._its_steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._its_workflow, name)


class _Spans:
    """The engine's dispatcher of spans, which makes none while nobody hears of them.

    It inspects the signature of each step that it executes: of what was left, a fifth.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def span(self, function: Callable[..., T]) -> Callable[..., T]:
        return self._dispatcher.span(function) if _is_heard(self._dispatcher) else function


def _is_heard(dispatcher: Dispatcher | None) -> bool:
    """Whether anybody hears of the spans of a dispatcher, or of its events, which say in which span they came."""
    while dispatcher is not None:
        for handler in (*dispatcher.span_handlers, *dispatcher.event_handlers):
            if not isinstance(handler, NullSpanHandler | NullEventHandler):
                return True
        dispatcher = dispatcher.parent if dispatcher.propagate else None
    return False


def _run_function(workflow: Workflow) -> WorkflowRunFunction:
    """Return what executes a run: the engine's function, or what it does beside its span while nobody hears of it.

    For a span, it sums up the start event and the result and binds its own arguments: a twentieth of a short run.
    """
    with_span = create_workflow_run_function(workflow)
    dispatchers = [get_dispatcher(create_workflow_run_function.__module__), workflow._dispatcher]

    async def run(
        init_state: BrokerState, start_event: StartEvent | None = None, tags: dict[str, Any] | None = None
    ) -> StopEvent:
        if tags or any(map(_is_heard, dispatchers)):
            return await with_span(init_state, start_event, tags)
        runtime = workflow._runtime
        context = Context._create_internal(workflow)
        adapter = runtime.get_internal_adapter(workflow)
        steps = runtime.get_or_register(workflow).steps
        try:
            with run_context(RunContext(workflow, adapter, context, steps)):
                return await control_loop(start_event, init_state, adapter.run_id)
        finally:
            if isinstance(context._face, InternalContext):
                context._face.cancel_background_tasks()

    return run


def _contained(step: StepWorkerFunction, view: Workflow) -> StepWorkerFunction:
    """Make a step fail of what would otherwise take its run, or the whole process, with it.

    Args:
        step: executes a step.
        view: what it is given for its workflow.
    """

    async def contained(
        state: StepWorkerState,
        step_name: str,
        event: Event,
        workflow: Workflow,
        bound_events: dict[str, Event] | None = None,
        retry: RetryAttempt = _FIRST_ATTEMPT,
    ) -> list[StepWorkerOutput]:
        try:
            return await step(state, step_name, event, view, bound_events, retry)
        except SystemExit as error:
            # asyncio would end the event loop; and the next process that resumes the run, likewise.
            raise RuntimeError(f"the step called sys.exit({error.code!r})") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The engine would take it for cancelled by itself, and wait for its result for ever.
            raise RuntimeError("the step was cancelled by something inside of it") from error

    return contained
