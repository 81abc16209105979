"""Handlers: how a run's public record begins and ends."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from django_workflows import contexts, database, mailbox
from django_workflows.exceptions import HandlerNotFound, HandlerOfOther, HandlerRunning, InvalidRequest
from django_workflows.leases import Lease
from django_workflows.models import Handler

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MAX_ID = 200


def new_id() -> str:
    """Return a random id of 128 bits in 22 letters and digits."""
    number = int.from_bytes(secrets.token_bytes(16), "big")
    digits = []
    for _ in range(22):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def check_id(value: object) -> str:
    """Return a handler id from outside.

    Raises:
        InvalidRequest: it cannot be one: it must stand in a URL's path, and in every database's key.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"handler_id must be a string, got {type(value).__name__}")
    if not 1 <= len(value) <= _MAX_ID:
        raise InvalidRequest(f"handler_id must have 1 to {_MAX_ID} characters, got {len(value)}")
    if not value.isprintable() or any(character in "/?#%\\" or character.isspace() for character in value):
        raise InvalidRequest("handler_id must not contain white space, control characters or any of / ? # % \\")
    if value in (".", ".."):
        raise InvalidRequest("handler_id must not be . or ..")
    return value


@dataclass(frozen=True, slots=True)
class Start:
    """What begins a run.

    Attributes:
        handler_id: the public id; a random one (:func:`new_id`) or the caller's.
        workflow_name: what is started.
        start_event: the start event as the run's serializer wrote it.
        owner: primary key of the user who starts it.
        worker: primary key of the worker that executes it at once, or None to leave it to whoever claims it.
        chosen: whether the caller chose the id, so that a handler may have it already.
        state: a state to begin with (the Context API).
        snapshot: the engine's state to begin with (the Context API).
    """

    handler_id: str
    workflow_name: str
    start_event: str
    owner: int | None = None
    worker: int | None = None
    chosen: bool = False
    state: str | None = None
    snapshot: str | None = None
    run_id: str = field(default_factory=new_id)

    def row(self) -> Handler:
        now = timezone.now()
        return Handler(
            handler_id=self.handler_id,
            run_id=self.run_id,
            workflow_name=self.workflow_name,
            start_event=self.start_event,
            owner_id=self.owner,
            worker_id=self.worker,
            fence=1,
            started_at=now,
            updated_at=now,
        )


def start(request: Start) -> Handler:
    """Create a handler, or continue a finished one with another run; joined to the caller's transaction.

    Safe to repeat: a request whose run is there already (its commit was not heard of) gives that run's handler.

    Raises:
        HandlerRunning: the handler has a run under way.
        HandlerOfOther: it is another workflow's.
    """
    using = database.alias()
    with database.atomic():
        existing = None
        if request.chosen:
            found = Handler.objects.using(using).filter(handler_id=request.handler_id)
            existing = database.locked(found).first()
        if existing is not None:
            if existing.run_id == request.run_id:
                return existing
            handler = _continue(existing, request)
        else:
            handler = request.row()
            try:
                with transaction.atomic(using=using):
                    handler.save(using=using, force_insert=True)
            except IntegrityError:
                written = Handler.objects.using(using).filter(run_id=request.run_id).first()
                if written is not None:
                    return written
                # Two starts with the same new id at once; the other one won.
                raise HandlerRunning(request.handler_id) from None
        if request.state is not None or request.snapshot is not None:
            contexts.begin(handler.pk, state=request.state, snapshot=request.snapshot)
        elif existing is not None:
            contexts.begin(handler.pk, state=None, snapshot=None)
    return handler


def start_many(requests: list[Start]) -> list[Handler]:
    """Create handlers with random ids and nothing to begin from, in one statement."""
    return database.insert(Handler, [request.row() for request in requests])


def check_continuation(handler: Handler, workflow_name: str) -> None:
    """Raise unless a workflow may go on under this handler.

    Raises:
        HandlerRunning: it has a run under way.
        HandlerOfOther: it is another workflow's.
    """
    if not handler.has_ended:
        raise HandlerRunning(handler.handler_id)
    if handler.workflow_name != workflow_name:
        raise HandlerOfOther(handler.handler_id, handler.workflow_name)


def _continue(handler: Handler, request: Start) -> Handler:
    check_continuation(handler, request.workflow_name)
    now = timezone.now()
    handler.run_id = request.run_id
    handler.run += 1
    handler.status = Handler.Status.RUNNING
    handler.start_event = request.start_event
    handler.result = handler.error = None
    handler.owner_id = request.owner if request.owner is not None else handler.owner_id
    handler.worker_id = request.worker
    handler.fence += 1
    handler.started_at = handler.updated_at = now
    handler.completed_at = handler.idle_since = handler.wake_at = None
    handler.save(using=database.alias(), force_update=True)
    return handler


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        status: completed, failed or cancelled.
        result: the stop event's envelope, of a completed run.
        error: why it failed.
        at: when, on the worker's clock.
    """

    status: Handler.Status
    result: str | None
    error: str | None
    at: datetime


def end(endings: Iterable[tuple[Lease, Ending]]) -> None:
    """Record the end of any number of runs, whose leases the transaction holds."""
    using = database.alias()
    keys = []
    for lease, ending in endings:
        keys.append(lease.handler)
        Handler.objects.using(using).filter(pk=lease.handler).update(
            status=ending.status,
            result=ending.result,
            error=ending.error,
            updated_at=ending.at,
            completed_at=ending.at,
            worker=None,
            idle_since=None,
            wake_at=None,
        )
    mailbox.empty(keys)


def idle(changes: Iterable[tuple[Lease, datetime | None]]) -> None:
    """Record since when runs wait for an event from outside, None for those that no longer do."""
    for lease, since in changes:
        Handler.objects.using(database.alias()).filter(pk=lease.handler).update(idle_since=since)


def find(handler_id: str) -> Handler:
    """Return the handler with that public id.

    Raises:
        HandlerNotFound: there is none.
    """
    try:
        # Not every database can be asked for what no id can be.
        found = Handler.objects.using(database.alias()).filter(handler_id=check_id(handler_id))
    except InvalidRequest:
        raise HandlerNotFound from None
    handler = found.first()
    if handler is None:
        raise HandlerNotFound
    return handler
