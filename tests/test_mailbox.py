from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.db import connections, transaction
from django.utils import timezone

from django_workflows import leases, mailbox, retention
from django_workflows.exceptions import HandlerFinished, HandlerNotFound, KeyReused
from django_workflows.mailbox import Letter
from django_workflows.models import Handler, Message, Worker
from tests.storage import a_run, a_worker, end, race, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker() -> Worker:
    return a_worker()


@pytest.fixture
def run(worker: Worker) -> Handler:
    return a_run("order-42", worker=worker.pk)


def a_letter(run: Handler, data: str = "{}", **fields: Any) -> Letter:
    return Letter(run.pk, run.run, Message.Kind.EVENT, data, **fields)


def fetch(worker: Worker, limit: int = 100, **exclusions: Any) -> list[str]:
    return [message.data for message in mailbox.fetch(worker.pk, limit, **exclusions)]


# --- posting -------------------------------------------------------------------------------------------


def test_mail_is_delivered_as_it_was_posted(run: Handler, worker: Worker) -> None:
    mailbox.post(a_letter(run, '{"text": "😀"}', step="first"))
    mailbox.post(Letter(run.pk, run.run, Message.Kind.CANCEL))

    event, cancel = mailbox.fetch(worker.pk, 100)
    assert (event.handler_id, event.run, event.kind, event.data, event.step) == (
        run.pk,
        1,
        "event",
        '{"text": "😀"}',
        "first",
    )
    assert (cancel.kind, cancel.data, cancel.step) == ("cancel", "", "")


def test_the_same_letter_twice_is_one_message(run: Handler, worker: Worker) -> None:
    letter = a_letter(run)
    mailbox.post(letter)
    mailbox.post(letter)
    assert fetch(worker) == ["{}"]

    mailbox.post(a_letter(run))
    assert fetch(worker) == ["{}", "{}"]


def test_the_same_letter_from_two_at_once_is_one_message(run: Handler, worker: Worker) -> None:
    for _ in range(5):
        letter = a_letter(run)
        assert race(*[lambda: mailbox.post(letter)] * 4) == [worker.pk] * 4  # noqa: B023
        assert len(fetch(worker)) == 1
        Message.objects.all().delete()


def test_posting_tells_who_executes_the_run(run: Handler, worker: Worker) -> None:
    assert mailbox.post(a_letter(run)) == worker.pk
    assert mailbox.post(a_letter(a_run())) is None


def test_a_letter_that_was_consumed_long_ago_is_not_delivered_again(run: Handler, worker: Worker) -> None:
    letter = a_letter(run)
    mailbox.post(letter)
    mailbox.consume([message.pk for message in mailbox.fetch(worker.pk, 100)])

    # As a sender does who has not heard of the answer, or a writer who has not heard of its commit.
    mailbox.post(letter)
    assert fetch(worker) == []
    assert not Handler.objects.filter(pk=run.pk, worker=None).exists()


def test_a_key_with_another_content_is_refused(run: Handler, worker: Worker) -> None:
    letter = a_letter(run, '{"value": {"text": "yes"}}', key="k", chosen=True)
    mailbox.post(letter)
    mailbox.post(replace(letter))

    for other in (
        replace(letter, data='{"value": {"text": "no"}}'),
        replace(letter, step="first"),
        replace(letter, kind=Message.Kind.CANCEL),
    ):
        with pytest.raises(KeyReused):
            mailbox.post(other)
    mailbox.consume([message.pk for message in mailbox.fetch(worker.pk, 100)])
    with pytest.raises(KeyReused):
        mailbox.post(replace(letter, data='{"value": {"text": "no"}}'))
    assert Message.objects.count() == 1


def test_what_the_events_class_makes_up_may_differ(run: Handler) -> None:
    letter = a_letter(run, '{"value": {"id": 1, "text": "yes"}}', key="k", chosen=True, invented=frozenset({"id"}))
    mailbox.post(letter)
    mailbox.post(replace(letter, data='{"value": {"id": 2, "text": "yes"}}'))
    with pytest.raises(KeyReused):
        mailbox.post(replace(letter, data='{"value": {"id": 1, "text": "no"}}'))
    assert Message.objects.count() == 1


def test_a_key_is_one_runs(run: Handler) -> None:
    other = a_run()
    end(run)
    again = a_run("order-42")
    for handler in (other, again):
        mailbox.post(a_letter(handler, handler.handler_id, key="k", chosen=True))

    assert Message.objects.count() == 2


def test_mail_posted_in_a_transaction_exists_if_it_commits(run: Handler, worker: Worker) -> None:
    with rolled_back():
        mailbox.post(a_letter(run, "lost"))
    assert fetch(worker) == []

    with transaction.atomic():
        mailbox.post(a_letter(run, "sent"))
        # Nobody else sees it before.
        assert race(lambda: fetch(worker)) == [[]]
    assert fetch(worker) == ["sent"]


def test_a_run_that_has_ended_takes_no_mail(run: Handler) -> None:
    end(run)

    with pytest.raises(HandlerFinished):
        mailbox.post(a_letter(run))
    assert not Message.objects.exists()


def test_mail_for_an_earlier_run_is_refused(run: Handler) -> None:
    end(run)
    a_run("order-42")

    with pytest.raises(HandlerFinished):
        mailbox.post(a_letter(run))


def test_a_deleted_handler_takes_no_mail(run: Handler) -> None:
    retention.delete(run.pk)

    with pytest.raises(HandlerNotFound):
        mailbox.post(a_letter(run))


@pytest.mark.skipif(
    connections["default"].vendor == "sqlite", reason="SQLite lets one transaction write at a time"
)
def test_posting_does_not_wait_for_the_run_and_does_not_keep_it_waiting(run: Handler) -> None:
    """A sender's long transaction must not hold up the run, nor the run's the sender."""
    lease = leases.of(run)

    with transaction.atomic():
        mailbox.post(a_letter(run))

        def write() -> bool:
            with transaction.atomic():
                held = set(leases.hold([lease])) == {lease}
                Handler.objects.filter(pk=run.pk).update(error="written meanwhile")
                return held

        assert race(write) == [True]
    assert Message.objects.count() == 1

    with transaction.atomic():
        assert set(leases.hold([lease])) == {lease}
        assert race(lambda: mailbox.post(a_letter(run))) == [run.worker_id]
    assert Message.objects.count() == 2

    with transaction.atomic():
        mailbox.post(a_letter(run))

        def end_it() -> None:
            with transaction.atomic():
                assert set(leases.hold([lease])) == {lease}
                end(run)

        assert race(end_it) == [None]
        assert race(lambda: retention.erase(run.pk)) == [None]
    assert not Handler.objects.exists()
    # It came too late.
    assert mailbox.sweep() == 1


# --- delivery ------------------------------------------------------------------------------------------


def test_mail_is_fetched_oldest_first_and_no_more_than_asked_for(run: Handler, worker: Worker) -> None:
    for number in range(5):
        mailbox.post(a_letter(run, str(number)))

    assert fetch(worker) == ["0", "1", "2", "3", "4"]
    assert fetch(worker, 2) == ["0", "1"]


def test_a_worker_gets_the_mail_of_its_own_runs(run: Handler, worker: Worker) -> None:
    other = a_worker()
    mailbox.post(a_letter(run, "mine"))
    mailbox.post(a_letter(a_run(worker=other.pk), "other's"))
    mailbox.post(a_letter(a_run(), "nobody's"))

    assert fetch(worker) == ["mine"]
    assert fetch(other) == ["other's"]


def test_known_messages_and_full_runs_are_left_out(run: Handler, worker: Worker) -> None:
    second = a_run(worker=worker.pk)
    for number in range(2):
        mailbox.post(a_letter(run, f"first {number}"))
        mailbox.post(a_letter(second, f"second {number}"))
    known = [mailbox.fetch(worker.pk, 1)[0].pk]

    assert fetch(worker, known=known) == ["second 0", "first 1", "second 1"]
    assert fetch(worker, known=known, full=[second.pk]) == ["first 1"]


@pytest.mark.parametrize("known", [mailbox.MAX_NAMED, 40_000])
def test_a_flood_in_flight_is_left_out(run: Handler, worker: Worker, known: int, settings: Any) -> None:
    """More than SQLite takes as parameters."""
    settings.DJANGO_WORKFLOWS = {"WORKFLOWS": {}, "MAX_MAIL_PER_RUN": None}
    Message.objects.bulk_create(
        Message(handler=run, run=1, kind="event", data=str(n), key=str(n), created_at=timezone.now())
        for n in range(known)
    )
    in_flight = set(Message.objects.values_list("pk", flat=True))
    for text in ("a", "b", "c"):
        mailbox.post(a_letter(run, text))

    assert fetch(worker, 2, known=in_flight) == ["a", "b"]
    assert fetch(worker, known=in_flight, full=range(10**6, 10**6 + 40_000)) == ["a", "b", "c"]


def test_mail_is_consumed_with_the_transaction(run: Handler, worker: Worker) -> None:
    mailbox.post(a_letter(run, "a"))
    mailbox.post(a_letter(run, "b"))
    first = mailbox.fetch(worker.pk, 1)[0].pk

    with rolled_back():
        mailbox.consume([first])
    assert fetch(worker) == ["a", "b"]

    mailbox.consume([first])
    mailbox.consume([first])
    assert fetch(worker) == ["b"]


def test_mail_of_an_earlier_run_is_not_delivered_to_the_next(run: Handler, worker: Worker) -> None:
    mailbox.post(a_letter(run, "late"))
    Handler.objects.filter(pk=run.pk).update(status="completed")
    again = a_run("order-42", worker=worker.pk)
    mailbox.post(a_letter(again, "now"))

    assert fetch(worker) == ["now"]


# --- the end -------------------------------------------------------------------------------------------


def test_mail_that_nobody_will_take_is_swept(run: Handler, worker: Worker) -> None:
    """Posted just as the run ended, was continued or was deleted: no lock is taken that would prevent it."""
    ended, continued, deleted = a_run(), a_run("continued"), a_run()
    end(continued)
    a_run("continued")
    end(ended)
    retention.delete(deleted.pk)
    for handler in (run, ended, continued, deleted):
        Message.objects.create(handler_id=handler.pk, run=1, kind="event", key="k", created_at=timezone.now())

    assert mailbox.sweep() == 3
    assert [message.handler_id for message in Message.objects.all()] == [run.pk]
    assert mailbox.sweep() == 0


def test_what_was_consumed_long_ago_is_swept_in_portions(
    run: Handler, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "PORTION", 2)
    long_ago, lately = (timezone.now() - mailbox.MEMORY * factor for factor in (1.1, 0.9))
    for number in range(5):
        consumed_at = lately if number == 0 else long_ago
        Message.objects.create(
            handler=run, run=1, kind="event", key=str(number), created_at=long_ago, consumed_at=consumed_at
        )
    Message.objects.create(handler=run, run=1, kind="event", key="waits", created_at=long_ago)

    assert [mailbox.sweep() for _ in range(3)] == [2, 2, 0]
    assert {message.key for message in Message.objects.all()} == {"0", "waits"}


def test_a_consumed_message_wakes_nobody(worker: Worker) -> None:
    released = a_run()
    Handler.objects.filter(pk=released.pk).update(idle_since=timezone.now(), wake_at=None)
    mailbox.post(a_letter(released))
    assert list(Handler.objects.runnable()) == [released]

    Message.objects.update(consumed_at=timezone.now())
    assert list(Handler.objects.runnable()) == []


def test_emptying_mailboxes(run: Handler, worker: Worker) -> None:
    other = a_run(worker=worker.pk)
    for handler in (run, run, other):
        mailbox.post(a_letter(handler, handler.handler_id))

    mailbox.empty([run.pk])

    assert fetch(worker) == [other.handler_id]


def test_letters_have_keys_of_their_own(run: Handler) -> None:
    assert a_letter(run).key != a_letter(run).key
    assert replace(a_letter(run), key="k").key == "k"
