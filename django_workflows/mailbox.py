"""The mailbox: events and cancellations for a run, from anywhere.

A message is a row, committed before its sender gets an answer. The tick that consumes it and the mark that it is
consumed are one transaction, so it is consumed exactly once, whatever dies in between. The mark stays until the
run's end, or for a day: what is sent again with the same key, also by a writer that has not heard of its own
commit, is recognised.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import F, QuerySet
from django.utils import timezone

from django_workflows import conf, database, serialization
from django_workflows.exceptions import HandlerFinished, HandlerNotFound, KeyReused, TooMany
from django_workflows.leases import Lease
from django_workflows.models import Handler, Message

# How long a consumed message is remembered while its run goes on.
MEMORY = timedelta(days=1)
# Rows that one sweep deletes of each kind.
PORTION = 1000
# What is named in a query as known; SQLite takes at most 32,766 parameters, and each costs.
MAX_NAMED = 500


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
        chosen: whether the sender chose the key, so that another message may have it.
        invented: the event's fields that are others in each attempt to send it (see ``serialization``).
    """

    handler: int
    run: int
    kind: Message.Kind
    data: str = ""
    step: str = ""
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    chosen: bool = False
    invented: frozenset[str] = frozenset()


def post(letter: Letter) -> int | None:
    """Write a message for a run, in the caller's transaction if there is one.

    Safe to repeat: a message with that key is there already, consumed or not, and stays the only one.

    Returns the worker that executes the run now, None when nobody does.

    Raises:
        HandlerNotFound: the handler is gone.
        HandlerFinished: the run has ended.
        KeyReused: another message was sent with that key.
        TooMany: as many events as MAX_MAIL_PER_RUN allows wait for the run already.
    """
    using = database.alias()
    with database.atomic():
        handler = Handler.objects.using(using).filter(pk=letter.handler)
        found = handler.values_list("run", "status", "worker").first()
        if found is None:
            raise HandlerNotFound
        run, status, worker = found
        if (run, status) != (letter.run, Handler.Status.RUNNING):
            raise HandlerFinished
        if letter.kind == Message.Kind.EVENT:
            _check_room(letter)
        message = Message(
            handler_id=letter.handler,
            run=letter.run,
            kind=letter.kind,
            data=letter.data,
            step=letter.step,
            key=letter.key,
            created_at=timezone.now(),
        )
        # Without a word when the key is there: one statement, also for two who send the same at once.
        Message.objects.using(using).bulk_create([message], ignore_conflicts=True)
        if letter.chosen:
            _check_content(letter)
    return worker


def _check_content(letter: Letter) -> None:
    messages = Message.objects.using(database.alias())
    # Not locked: a sender's long transaction must not keep the run from consuming it.
    found = messages.get(handler_id=letter.handler, run=letter.run, key=letter.key)
    same = serialization.is_same(found.data, letter.data, apart_from=letter.invented)
    if (found.kind, found.step) != (letter.kind, letter.step) or not same:
        raise KeyReused


def _check_room(letter: Letter) -> None:
    """Raise TooMany when no more events may wait for a run; senders at the same time may each get one more in."""
    most = conf.get().MAX_MAIL_PER_RUN
    if most is None:
        return
    waiting = Message.objects.using(database.alias()).filter(
        handler=letter.handler, run=letter.run, consumed_at=None, kind=Message.Kind.EVENT
    )
    if waiting[:most].count() >= most and not _is_known(letter):
        raise TooMany(f"{most} events wait for this run already; send more when it has taken some")


def _is_known(letter: Letter) -> bool:
    messages = Message.objects.using(database.alias())
    return messages.filter(handler=letter.handler, run=letter.run, key=letter.key).exists()


def fetch(worker: int, limit: int, known: Collection[int] = (), full: Collection[int] = ()) -> list[Message]:
    """Return mail of the runs that a worker executes, oldest first.

    Args:
        worker: primary key of the worker.
        limit: at most so many messages.
        known: primary keys of messages that it has already.
        full: primary keys of handlers whose runs take no more for now.
    """
    mail = _waiting().filter(handler__worker=worker, **_OF_A_PRESENT_RUN).order_by("pk")
    if full:
        # Some suffice: what stands before the others' mail is that of few runs. There is always room for a
        # cancellation, of which one is enough.
        mail = mail.exclude(handler__in=sorted(full)[:MAX_NAMED], kind=Message.Kind.EVENT)
    if len(known) <= MAX_NAMED:
        return list(mail.exclude(pk__in=known)[:limit])
    known = set(known)
    found = mail.values_list("pk", flat=True)[: len(known) + limit]
    fresh = [key for key in found if key not in known][:limit]
    return list(_waiting().filter(pk__in=fresh).order_by("pk"))


_CANCELLATIONS = database.Lookup(
    lambda keys: _waiting().filter(handler__in=keys, kind=Message.Kind.CANCEL).values_list("handler_id", "run")
)


def cancelled(runs: Collection[Lease]) -> set[Lease]:
    """Return those of these runs for which a cancellation waits."""
    found = set(_CANCELLATIONS(lease.handler for lease in runs))
    return {lease for lease in runs if (lease.handler, lease.run) in found}


_CONSUME = database.Statement(Message, ("consumed_at",), key=("id",))


def consume(messages: Iterable[int]) -> None:
    """Mark messages as consumed, in the transaction of the ticks that consume them."""
    now = timezone.now()
    _CONSUME.execute((now, message) for message in messages)


def demand_no_cancellation(handlers: Sequence[int]) -> None:
    """Let the transaction fail if a cancellation waits for one of these runs."""
    database.demand(_CANCELLATIONS, handlers, ())


_LEFT = database.Lookup(
    lambda keys: Message.objects.using(database.alias()).filter(handler__in=keys).values_list("pk")
)


def demand_nothing(handlers: Sequence[int]) -> None:
    """Let the transaction fail if there is any message to one of these runs, consumed or not."""
    database.demand(_LEFT, handlers, ())


def discard(handlers: Sequence[int]) -> None:
    """Delete what is left for runs that end in this transaction of one trip; what comes later is swept."""
    database.delete(Message, _LEFT, handlers)


def empty(handlers: Iterable[int]) -> None:
    """Delete what is left for runs that end in this transaction; what comes later is swept."""
    messages = Message.objects.using(database.alias())
    keys = [key for (key,) in _LEFT(handlers)]
    for first in range(0, len(keys), PORTION):
        messages.filter(pk__in=keys[first : first + PORTION]).delete()


def sweep() -> int:
    """Delete some of the mail that came for a run just as it ended, and of what was consumed long ago.

    Returns how many messages; there may be more.
    """
    expected = _waiting().filter(**_OF_A_PRESENT_RUN)
    late = _waiting().exclude(pk__in=expected.values("pk"))
    old = Message.objects.using(database.alias()).filter(consumed_at__lt=timezone.now() - MEMORY)
    return sum(_delete_some(messages) for messages in (late, old))


def _delete_some(messages: QuerySet[Message]) -> int:
    # By their keys: told a condition, InnoDB would wait for mail that a sender has not committed yet.
    keys = list(messages.values_list("pk", flat=True)[:PORTION])
    if keys:
        Message.objects.using(database.alias()).filter(pk__in=keys).delete()
    return len(keys)


_OF_A_PRESENT_RUN = {"handler__status": Handler.Status.RUNNING, "run": F("handler__run")}


def _waiting() -> QuerySet[Message]:
    return Message.objects.using(database.alias()).filter(consumed_at=None)
