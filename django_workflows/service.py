"""The application's verbs: start, send_event, cancel, purge, and waiting for an end.

Views, admin, commands and your own code call these; they decide, the storage modules write. Each verb has a
synchronous form for ordinary Django code and an asynchronous one (``a...``). Called inside
``transaction.atomic()``, the synchronous form takes effect if and only if the transaction commits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from workflows import Context as EngineContext
from workflows.context.state_store import is_durable_serialized_state
from workflows.context.state_store_integration import decode_seed_state, string_record_from_state
from workflows.events import Event, StartEvent

from django_workflows import (
    conf,
    database,
    handlers,
    idempotency,
    limits,
    mailbox,
    notify,
    registry,
    retention,
    serialization,
    unattended,
    watch,
)
from django_workflows.exceptions import (
    HandlerFinished,
    HandlerNotFound,
    InvalidEvent,
    InvalidRequest,
    TooLarge,
    Unavailable,
)
from django_workflows.handlers import Start
from django_workflows.mailbox import Letter
from django_workflows.models import Handler, Message
from django_workflows.registry import Served
from django_workflows.runtime import snapshot, supervisor

T = TypeVar("T")

# As the reference: how long an answer to a cancellation waits for the run's end, in seconds.
CANCEL_TIMEOUT = 5.0


# --- start -----------------------------------------------------------------------------------------


def start(
    workflow: str,
    start_event: StartEvent | dict[str, Any] | None = None,
    *,
    handler_id: str | None = None,
    owner: AbstractBaseUser | None = None,
    key: str | None = None,
) -> Handler:
    """Start a run, or another run of a finished handler.

    Args:
        workflow: the name that the workflow is served by.
        start_event: an instance of its start event class, or the fields of one.
        handler_id: an id of your own. Under the id of a running handler the start is refused, under that of a
            finished one it is another run. A random one by default.
        owner: the user whose run it is.
        key: names this start among the owner's of the workflow (1 to 255 characters). A start with a key that was
            used starts nothing, and returns the handler of that time.

    Returns the stored handler. A process that executes runs takes it up when the transaction has committed.

    Raises:
        WorkflowNotFound: no workflow is served by that name.
        InvalidEvent: the start event does not fit.
        HandlerRunning: the handler has a run under way.
        KeyReused: something else was started with the key.
    """
    request = _prepare(workflow, start_event, handler_id, owner, key)
    handler = handlers.start(request)
    transaction.on_commit(notify.mail, using=database.alias())
    transaction.on_commit(unattended.look, using=database.alias())
    return handler


async def astart(
    workflow: str,
    start_event: StartEvent | dict[str, Any] | None = None,
    *,
    handler_id: str | None = None,
    owner: AbstractBaseUser | None = None,
    key: str | None = None,
) -> Handler:
    """Start a run from asynchronous code; as :func:`start`, committed when it returns."""
    return await abegin(_prepare(workflow, start_event, handler_id, owner, key))


def _prepare(
    workflow: str,
    start_event: StartEvent | dict[str, Any] | None,
    handler_id: str | None,
    owner: AbstractBaseUser | None,
    key: str | None,
) -> Start:
    """Check what code asks to be started: there, a dictionary is always the start event's fields."""
    served = registry.get(workflow)
    if isinstance(start_event, dict):
        try:
            start_event = served.start_event_class(**start_event)
        except (TypeError, ValueError) as error:
            raise InvalidEvent(f"The start event's fields do not fit: {error}") from None
    return prepare_start(served, start_event, handler_id=handler_id, owner=owner, key=key)


def prepare_start(
    served: Served,
    start_event: Any,
    *,
    handler_id: Any = None,
    context: Any = None,
    owner: AbstractBaseUser | None = None,
    key: str | None = None,
) -> Start:
    """Check what a run shall begin from and make it ready to be stored; writes nothing.

    Args:
        served: the workflow.
        start_event: an event, or what a request brought for one.
        handler_id: an id from outside, None for a random one.
        context: a serialized engine context (ACCEPT_CONTEXT_API), None or empty for none.
        owner: the user whose run it is.
        key: what makes the start safe to repeat, None for nothing.

    Raises:
        InvalidRequest: something does not fit.
    """
    parsed = None
    if not isinstance(start_event, StartEvent):
        start_event = serialization.parse_start_event(start_event, served)
        if serialization.is_written_whole(served.start_event_class):
            parsed = start_event
    elif not isinstance(start_event, served.start_event_class):
        raise InvalidRequest(
            f"Start event must be an instance of {served.start_event_class.__name__}, "
            f"got {type(start_event).__name__}"
        )
    state, snapshot = _engine_context(served, context) if context else (None, None)
    owner_key = None if owner is None else owner.pk
    return Start(
        handler_id=handlers.new_id() if handler_id is None else handlers.check_id(handler_id),
        workflow_name=served.name,
        start_event=serialization.dump_event(start_event, serialization.serializer(served)),
        owner=owner_key,
        chosen=handler_id is not None,
        state=state,
        snapshot=snapshot,
        key=None if key is None else idempotency.of_start(idempotency.check(key), owner_key, served.name),
        invented=serialization.invented(start_event),
        event=parsed,
    )


def _engine_context(served: Served, data: Any) -> tuple[str | None, str]:
    """Take a serialized engine context apart into state and snapshot."""
    if not conf.get().ACCEPT_CONTEXT_API:
        raise InvalidRequest(
            "Context API is disabled. Set DJANGO_WORKFLOWS['ACCEPT_CONTEXT_API'] = True to enable it."
        )
    if not isinstance(data, dict):
        raise InvalidRequest(f"context must be an object, got {type(data).__name__}")
    using = serialization.serializer(served)
    try:
        context: EngineContext[Any] = EngineContext.from_dict(served.workflow, data, serializer=using)
        parsed = context.to_dict(using)
        payload = parsed.pop("state", None)
        if is_durable_serialized_state(data.get("state")):
            raise InvalidRequest("context.state refers to another server's storage; send the state itself")
        state = None
        if payload:
            state = string_record_from_state(decode_seed_state(payload, using), using).data
        if state is not None:
            limits.check_posted_state(state)
    except (InvalidRequest, TooLarge):
        raise
    except Exception as error:
        raise InvalidRequest(f"context cannot be read: {error}") from None
    return state, snapshot.of_context(parsed)


async def abegin(request: Start) -> Handler:
    """Store a prepared start, which is used up; the run begins at once where this process executes runs."""
    current = supervisor.current()
    if current is not None and current.is_here:
        request.worker = current.worker
        return await current.begin(request)
    handler = await _in_thread(_begin_elsewhere, request)
    notify.mail()
    return handler


def _begin_elsewhere(request: Start) -> Handler:
    handler = handlers.start(request)
    unattended.look()
    return handler


# --- events ------------------------------------------------------------------------------------------


def send_event(
    handler_id: str, event: Event | dict[str, Any], *, step: str | None = None, key: str | None = None
) -> None:
    """Send an event to a run, wherever it is executed or waits.

    Args:
        handler_id: the handler's public id.
        event: an event, or its envelope (``{"type": ..., "value": ...}``).
        step: name of the step that alone shall get it; every step that accepts it by default.
        key: names the event among the run's (1 to 255 characters): sent again with the same key while the run goes
            on, within a day, it is delivered once.

    Raises:
        HandlerNotFound: there is no such handler.
        HandlerFinished: its run has ended.
        InvalidEvent: the workflow does not declare the event, or the step does not accept it.
        KeyReused: another event was sent to the run with the key.
    """
    _post(prepare_event(handlers.find(handler_id), event, step=step, key=key))


async def asend_event(
    handler_id: str, event: Event | dict[str, Any], *, step: str | None = None, key: str | None = None
) -> None:
    """Send an event from asynchronous code; as :func:`send_event`, committed when it returns."""
    handler = await database.read(handlers.find, handler_id)
    await apost(prepare_event(handler, event, step=step, key=key))


def prepare_event(handler: Handler, event: Any, *, step: Any = None, key: str | None = None) -> Letter:
    """Check an event for a run and make it ready to be stored; writes nothing."""
    if handler.has_ended:
        raise HandlerFinished
    served = registry.get(handler.workflow_name)
    if not isinstance(event, Event):
        event = serialization.parse_event(event, served)
    if step is not None and step != "":
        if not isinstance(step, str):
            raise InvalidRequest(f"step must be a string, got {type(step).__name__}")
        served.check_step(step, event)
    data = serialization.dump_event(event, serialization.serializer(served))
    letter = Letter(handler.pk, handler.run, Message.Kind.EVENT, data, step or "")
    if key is None:
        return letter
    digest = idempotency.of_event(idempotency.check(key))
    return replace(letter, key=digest, chosen=True, invented=serialization.invented(event))


def _post(letter: Letter) -> None:
    worker = mailbox.post(letter)
    transaction.on_commit(lambda: notify.mail(worker), using=database.alias())


async def apost(letter: Letter) -> None:
    """Store a letter and tell whoever executes the run."""
    notify.mail(await _write(lambda: mailbox.post(letter)))


# --- end ---------------------------------------------------------------------------------------------


def cancel(handler_id: str) -> None:
    """Cancel a run: no further step of it is started, those under way are interrupted.

    Raises:
        HandlerNotFound: there is no such handler.
        HandlerFinished: its run has ended.
    """
    _post(_cancellation(handlers.find(handler_id)))


async def acancel(handler_id: str) -> None:
    """Cancel a run and wait up to 5 s for its end.

    When it returns earlier than the end (the run's process is busy, or nobody executes it now), the
    cancellation is stored and takes effect as soon as a process executes the run.

    Raises:
        HandlerNotFound: there is no such handler.
        HandlerFinished: the run has ended by itself.
    """
    await acancel_run(await database.read(handlers.find, handler_id))


async def acancel_run(handler: Handler) -> None:
    """Cancel the handler's present run; as :func:`acancel`, for one that was found and may be cancelled."""
    await apost(_cancellation(handler))
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT):
            ended = await wait(handler)
    except TimeoutError:
        return
    if ended.status != Handler.Status.CANCELLED:
        raise HandlerFinished


def _cancellation(handler: Handler) -> Letter:
    if handler.has_ended:
        raise HandlerFinished
    return Letter(handler.pk, handler.run, Message.Kind.CANCEL)


def purge(handler_id: str) -> None:
    """Delete a handler with all that belongs to it; a run under way is dropped.

    Raises:
        HandlerNotFound: there is no such handler.
    """
    handler = handlers.find(handler_id)
    retention.delete(handler.pk)
    transaction.on_commit(lambda: notify.committed(handler.pk, handler.run), using=database.alias())


async def apurge(handler_id: str) -> None:
    """Delete a handler from asynchronous code; as :func:`purge`, committed when it returns."""
    await apurge_handler(await database.read(handlers.find, handler_id))


async def apurge_handler(handler: Handler) -> None:
    """Delete a handler that was found and may be deleted; as :func:`apurge`."""
    last = await _write(lambda: retention.close(handler.pk))
    if last is not None:
        notify.committed(handler.pk, handler.run, [last], ended=True)
    current = supervisor.current()
    if current is not None and current.is_here:
        current.drop(handler.pk)
    # In portions, between which others get to write.
    while await _write(lambda: retention.erase_some(handler.pk)):
        pass


async def wait(handler: Handler) -> Handler:
    """Wait until the handler's present run has ended and return it as it is then.

    Holds no thread and no database connection while it waits.

    Raises:
        HandlerNotFound: it was deleted, or continued with another run, before its end was seen.
    """
    current = supervisor.current()
    run = current.run_of(handler.pk) if current is not None and current.is_here else None
    if run is not None and run.run_id == handler.run_id:
        run.awaited += 1
        try:
            ending = await asyncio.shield(run.ended)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not run.ended.cancelled() or (task is not None and task.cancelling()):
                raise
            # The run has left this process without an end; it goes on elsewhere.
        else:
            handler.status, handler.result, handler.error = ending.status, ending.result, ending.error
            handler.updated_at = handler.completed_at = ending.at
            return handler
        finally:
            run.awaited -= 1
    with watch.run(handler.pk, handler.run, until_end=True) as subscription:
        while True:
            try:
                found = await database.read(_by_key, handler.pk)
            except Handler.DoesNotExist:
                raise HandlerNotFound from None
            if found.run_id != handler.run_id:
                raise HandlerNotFound
            if found.has_ended:
                return found
            await subscription.wait(math.inf)


def _by_key(key: int) -> Handler:
    return Handler.objects.using(database.alias()).get(pk=key)


# --- bridges -----------------------------------------------------------------------------------------


async def _write(call: Callable[[], T]) -> T:
    """Run a storage function in the writer's next transaction, or in one of its own where there is none."""
    current = supervisor.current()
    if current is not None and current.is_here:
        result: T = await current.write(call)
        return result
    return await _in_thread(call)


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    return await sync_to_async(database.managed(function), thread_sensitive=False)(*args)


def check_health() -> None:
    """Raise Unavailable unless the database answers and, where it shall, the runtime runs."""
    current = supervisor.current()
    if current is None or not current.is_running:
        raise Unavailable("The runtime is not running")
    Handler.objects.using(database.alias()).order_by().values_list("pk").first()


__all__ = [
    "abegin",
    "acancel",
    "acancel_run",
    "apost",
    "apurge",
    "apurge_handler",
    "asend_event",
    "astart",
    "cancel",
    "check_health",
    "prepare_event",
    "prepare_start",
    "purge",
    "send_event",
    "start",
    "wait",
]
