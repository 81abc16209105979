"""Handlers: how a run's public record begins and ends."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone
from workflows.events import StartEvent

from django_workflows import contexts, database, serialization
from django_workflows.exceptions import (
    HandlerNotFound,
    HandlerOfOther,
    HandlerRunning,
    InvalidRequest,
    KeyReused,
    TooMany,
)
from django_workflows.leases import Lease
from django_workflows.models import Handler

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# What each byte becomes in an id; those that would make some letters likelier than others are passed over.
_LETTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
_UNEVEN = bytes(range(256 - 256 % len(_ALPHABET), 256))
_ID_LENGTH = 22
_MAX_ID = 200

# What a start continues that may not continue anything.
NEW = 0


def new_id() -> str:
    """Return a random id of 22 letters and digits, each as likely as any other: 130 bits."""
    letters = b""
    while len(letters) < _ID_LENGTH:
        letters += secrets.token_bytes(32).translate(_LETTERS, _UNEVEN)
    return letters[:_ID_LENGTH].decode()


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


@dataclass(slots=True)
class Start:
    """What begins a run.

    Attributes:
        handler_id: the public id; a random one (:func:`new_id`) or the caller's.
        workflow_name: what is started.
        start_event: the start event as the run's serializer wrote it.
        owner: primary key of the user who starts it.
        worker: primary key of the worker that executes it at once, or None to leave it to whoever claims it.
        chosen: whether the caller chose the id, so that a handler may have it already.
        continues: primary key of the one handler that it may continue, :data:`NEW` for none, None for any.
        most: how many runs of the workflow the owner may have under way with it, None for any number.
        state: a state to begin with (the Context API).
        snapshot: the engine's state to begin with (the Context API).
        key: the digest of the caller and an idempotency key; a start with the same key gives the same run.
        invented: the start event's fields that are others in each attempt (see ``serialization``).
        event: the start event, for a run that begins in this process; None to read it from ``start_event``.
    """

    handler_id: str
    workflow_name: str
    start_event: str
    owner: int | None = None
    worker: int | None = None
    chosen: bool = False
    continues: int | None = None
    most: int | None = None
    state: str | None = None
    snapshot: str | None = None
    key: str | None = None
    invented: frozenset[str] = frozenset()
    event: StartEvent | None = field(default=None, compare=False, repr=False)
    run_id: str = field(default_factory=new_id)

    @property
    def is_plain(self) -> bool:
        """Whether it is one row that nothing can be there of already."""
        return not self.chosen and self.key is None and self.state is None and self.snapshot is None

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
            start_key=self.key,
            started_at=now,
            updated_at=now,
        )


def start(request: Start) -> Handler:
    """Create a handler, or continue a finished one with another run; joined to the caller's transaction.

    Safe to repeat: a request whose run is there already (its commit was not heard of) gives that run's handler,
    and so does another one with the same key.

    Raises:
        HandlerRunning: the handler has a run under way.
        HandlerOfOther: it is another workflow's.
        KeyReused: something else was started with the same key.
        TooMany: the owner has too many runs of the workflow under way.
    """
    using = database.alias()
    with database.atomic():
        if (repeated := _started_with_key(request)) is not None:
            return repeated
        existing = None
        if request.chosen:
            found = Handler.objects.using(using).filter(handler_id=request.handler_id)
            existing = database.locked(found).first()
        if existing is not None:
            if existing.run_id == request.run_id:
                return existing
            if request.continues not in (None, existing.pk):
                # Somebody else has taken the id since it was looked up.
                raise HandlerRunning(request.handler_id)
            check_room([request])
            handler = _continue(existing, request)
        else:
            check_room([request])
            handler = request.row()
            try:
                with transaction.atomic(using=using):
                    handler.save(using=using, force_insert=True)
            except IntegrityError:
                written = of_run(request.run_id)
                if written is None:
                    # Of two starts with the same key at once, the other one won.
                    written = _started_with_key(request)
                if written is not None:
                    return written
                if not Handler.objects.using(using).filter(handler_id=request.handler_id).exists():
                    # Nobody has the id: the worker, or the owner, is no more.
                    raise
                # Two starts with the same new id at once; the other one won.
                raise HandlerRunning(request.handler_id) from None
        if request.state is not None or request.snapshot is not None:
            contexts.begin(handler.pk, state=request.state, snapshot=request.snapshot)
        elif existing is not None:
            contexts.begin(handler.pk, state=None, snapshot=None)
    return handler


def _started_with_key(request: Start) -> Handler | None:
    if request.key is None:
        return None
    handler = Handler.objects.using(database.alias()).filter(start_key=request.key).first()
    if handler is None:
        return None
    same = serialization.is_same(handler.start_event, request.start_event, apart_from=request.invented)
    if not same or (request.chosen and request.handler_id != handler.handler_id):
        raise KeyReused
    return handler


def start_many(requests: list[Start]) -> list[Handler]:
    """Create the handlers of plain starts in one statement.

    Raises:
        TooMany: one of the owners would have too many runs under way.
    """
    check_room(requests)
    return send_starts(requests)()


def send_starts(requests: list[Start]) -> Callable[[], list[Handler]]:
    """Create the handlers of plain starts that need no room, and return what waits for them."""
    if not requests:
        return list
    return database.send_insert(Handler, [request.row() for request in requests], unique="run_id")


def check_room(requests: Iterable[Start]) -> None:
    """Raise TooMany when an owner would have more runs of a workflow under way than ``most``.

    In the transaction of the starts it is exact within one writer; several processes that count at the same time
    may each let one more in.
    """
    limited = [request for request in requests if request.most is not None]
    if not limited:
        return
    for (owner, workflow_name, most), number in Counter(
        (request.owner, request.workflow_name, request.most) for request in limited
    ).items():
        found = Handler.objects.using(database.alias()).running().of_workflows([workflow_name])
        assert most is not None
        if found.filter(owner=owner)[:most].count() + number > most:
            raise TooMany(f"You have {most} runs of {workflow_name!r} under way, and may not have more at a time")


def check_continuation(handler: Handler, request: Start) -> None:
    """Raise unless a start may go on under this handler, or has done so already.

    Raises:
        HandlerRunning: it has a run under way.
        HandlerOfOther: it is another workflow's.
    """
    if request.key is not None and handler.start_key == request.key:
        return
    if not handler.has_ended:
        raise HandlerRunning(handler.handler_id)
    if handler.workflow_name != request.workflow_name:
        raise HandlerOfOther(handler.handler_id, handler.workflow_name)


def _continue(handler: Handler, request: Start) -> Handler:
    check_continuation(handler, request)
    now = timezone.now()
    handler.run_id = request.run_id
    handler.run += 1
    handler.status = Handler.Status.RUNNING
    handler.start_event = request.start_event
    handler.start_key = request.key
    handler.result = handler.error = None
    # Whoever continues somebody's run does not take it away.
    handler.owner_id = handler.owner_id if handler.owner_id is not None else request.owner
    handler.worker_id = request.worker
    handler.fence += 1
    handler.started_at = handler.updated_at = now
    handler.completed_at = handler.idle_since = None
    handler.wake_at = database.at_once()
    handler.crashes = 0
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


_END = database.Statement(
    Handler,
    ("status", "result", "error", "updated_at", "completed_at", "worker", "idle_since", "wake_at"),
    key=("id",),
)


def end(endings: Iterable[tuple[Lease, Ending]]) -> None:
    """Record the end of any number of runs, whose leases the transaction holds."""
    _END.execute(
        (ending.status.value, ending.result, ending.error, ending.at, ending.at, None, None, None, lease.handler)
        for lease, ending in endings
    )


@dataclass(frozen=True, slots=True)
class Idle:
    """That a run waits for an event from outside, with nothing else to do.

    Attributes:
        since: since when, None when it does not wait any more.
        wake_at: when it goes on without one, on the database's clock; None when it does not.
    """

    since: datetime | None
    wake_at: datetime | None = field(default_factory=database.at_once)


_IDLE = database.Statement(Handler, ("idle_since", "wake_at"), key=("id",))


def idle(changes: Iterable[tuple[Lease, Idle]]) -> None:
    """Record which runs wait, whose leases the transaction holds."""
    _IDLE.execute((idle.since, idle.wake_at, lease.handler) for lease, idle in changes)


_PROGRESSED = database.Statement(Handler, ("crashes",), key=("id",))


def progressed(leases: Iterable[Lease]) -> None:
    """Record that runs have gone on although processes died with them, whose leases the transaction holds."""
    _PROGRESSED.execute((0, lease.handler) for lease in leases)


def of_run(run_id: str) -> Handler | None:
    """Return the handler of a run, None when there is none."""
    return Handler.objects.using(database.alias()).filter(run_id=run_id).first()


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
