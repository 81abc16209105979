"""The mailbox: events and cancellations for a run, from anywhere.

A message is a row, committed before its sender gets an answer. The tick that consumes it and its deletion
are one transaction, so it is consumed exactly once, whatever dies in between.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from django.db.models import F
from django.utils import timezone

from django_workflows import database
from django_workflows.exceptions import HandlerFinished, HandlerNotFound
from django_workflows.models import Handler, Message


@dataclass(frozen=True, slots=True)
class Letter:
    """What somebody sends to a run.

    Attributes:
        handler: primary key of the run's handler.
        run: number of the run.
        kind: an event or a cancellation.
        data: the event as the run's serializer wrote it.
        step: name of the step that alone shall get it, empty for all that accept it.
        key: names the message among the run's; sending a letter again does nothing.
    """

    handler: int
    run: int
    kind: Message.Kind
    data: str = ""
    step: str = ""
    key: str = field(default_factory=lambda: secrets.token_hex(16))


def post(letter: Letter) -> None:
    """Write a message for a run, in the caller's transaction if there is one.

    Raises:
        HandlerNotFound: the handler is gone.
        HandlerFinished: the run has ended.
    """
    using = database.alias()
    with database.atomic():
        found = Handler.objects.using(using).filter(pk=letter.handler).values_list("run", "status").first()
        if found is None:
            raise HandlerNotFound
        if found != (letter.run, Handler.Status.RUNNING):
            raise HandlerFinished
        Message.objects.using(using).get_or_create(
            handler_id=letter.handler,
            run=letter.run,
            key=letter.key,
            defaults={
                "kind": letter.kind,
                "data": letter.data,
                "step": letter.step,
                "created_at": timezone.now(),
            },
        )


def fetch(worker: int, limit: int, known: Collection[int] = (), full: Collection[int] = ()) -> list[Message]:
    """Return mail of the runs that a worker executes, oldest first.

    Args:
        worker: primary key of the worker.
        limit: at most so many messages.
        known: primary keys of messages that it has already.
        full: primary keys of handlers whose runs take no more for now.
    """
    return list(
        Message.objects.using(database.alias())
        .filter(handler__worker=worker, handler__status=Handler.Status.RUNNING, run=F("handler__run"))
        .exclude(pk__in=known)
        .exclude(handler__in=full)
        .order_by("pk")[:limit]
    )


def consume(messages: Collection[int]) -> None:
    """Delete messages, in the transaction of the ticks that consume them."""
    Message.objects.using(database.alias()).filter(pk__in=messages).delete()


def empty(handlers: Iterable[int]) -> None:
    """Delete what is left for runs that end in this transaction."""
    Message.objects.using(database.alias()).filter(handler_id__in=list(handlers)).delete()


def sweep() -> int:
    """Delete mail that came for a run just as it ended; returns how many messages."""
    using = database.alias()
    stale = Message.objects.using(using).exclude(
        pk__in=Message.objects.using(using)
        .filter(handler__status=Handler.Status.RUNNING, run=F("handler__run"))
        .values("pk")
    )
    keys = list(stale.values_list("pk", flat=True)[:1000])
    Message.objects.using(using).filter(pk__in=keys).delete()
    return len(keys)
