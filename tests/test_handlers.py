from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.utils import timezone

from django_workflows import contexts, database, handlers, leases
from django_workflows.exceptions import HandlerNotFound, HandlerOfOther, HandlerRunning, InvalidRequest
from django_workflows.handlers import Idle
from django_workflows.models import Context, Handler
from tests.storage import a_run, a_start, a_worker, an_ending, end, race, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)


# --- ids -----------------------------------------------------------------------------------------------


def test_random_ids_are_short_different_and_good() -> None:
    ids = {handlers.new_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert all(len(id) == 22 and id.isascii() and id.isalnum() for id in ids)
    assert all(handlers.check_id(id) == id for id in ids)


@pytest.mark.parametrize("id", ["a", "order-42", "a.b~c_d", "Größe", "漢字", "a" * 200, "a:b", "a@b"])
def test_ids_from_outside(id: str) -> None:
    assert handlers.check_id(id) == id
    assert handlers.find(a_run(id).handler_id).handler_id == id


@pytest.mark.parametrize(
    "id",
    [
        *("", "a" * 201, "a/b", "a b", "a?b", "a#b", "a%b", "a\\b", ".", ".."),
        *("\n", "\x00", "a\u2028", "\ud800", "\u202e"),
        *(None, 3, True, ["a"], {}, b"a"),
    ],
)
def test_ids_that_cannot_be_one(id: Any) -> None:
    with pytest.raises(InvalidRequest, match="handler_id"):
        handlers.check_id(id)


# --- start ---------------------------------------------------------------------------------------------


def test_a_new_handler() -> None:
    user = get_user_model().objects.create_user("ada")
    worker = a_worker()
    before = timezone.now()

    started = handlers.start(a_start("order-42", start_event='{"a": 1}', owner=user.pk, worker=worker.pk))

    found = handlers.find("order-42")
    assert found == started
    assert (found.workflow_name, found.start_event, found.status) == ("greet", '{"a": 1}', "running")
    assert (found.owner, found.worker, found.run, found.fence) == (user, worker, 1, 1)
    assert before <= found.started_at <= timezone.now()
    assert (found.completed_at, found.result, found.error) == (None, None, None)
    assert not found.has_ended
    assert not Context.objects.exists()


def test_an_id_of_a_running_handler_is_refused() -> None:
    first = a_run("order-42")

    with pytest.raises(HandlerRunning, match="'order-42' is already running"):
        a_run("order-42", workflow_name="other")

    assert handlers.find("order-42").run_id == first.run_id
    assert handlers.find("order-42").workflow_name == "greet"


def test_ids_that_differ_only_in_case_are_different_handlers() -> None:
    lower, upper = a_run("order"), a_run("ORDER")

    assert lower.pk != upper.pk
    assert handlers.find("order") == lower
    assert handlers.find("ORDER") == upper
    with pytest.raises(HandlerNotFound):
        handlers.find("Order")


def test_a_finished_handler_is_continued_with_another_run() -> None:
    worker = a_worker()
    first = a_run("order-42", worker=worker.pk)
    contexts.save([(leases.of(first), "state of the first run")])
    Context.objects.update(snapshot="of the first run", snapshot_sequence=5)
    end(first, result="{}", error="none")

    second = a_run("order-42", start_event='{"b": 2}')

    found = handlers.find("order-42")
    assert found.pk == first.pk
    assert found.run_id == second.run_id != first.run_id
    assert (found.run, found.start_event, found.status) == (2, '{"b": 2}', "running")
    assert (found.result, found.error, found.completed_at, found.worker) == (None, None, None, None)
    assert found.fence > first.fence
    context = contexts.read(found.pk)
    assert context is not None
    assert (context.state, context.snapshot, context.snapshot_sequence) == ("state of the first run", None, -1)


def test_another_workflow_cannot_go_on_with_a_state_that_is_not_its_own() -> None:
    first = a_run("order-42")
    end(first)

    with pytest.raises(HandlerOfOther, match="belongs to workflow 'greet'"):
        a_run("order-42", workflow_name="other")

    found = handlers.find("order-42")
    assert (found.run_id, found.workflow_name, found.status) == (first.run_id, "greet", "completed")


def test_a_continued_handler_keeps_its_owner_when_nobody_is_named() -> None:
    user = get_user_model().objects.create_user("ada")
    end(a_run("order-42", owner=user.pk))

    assert a_run("order-42").owner_id == user.pk


def test_the_lease_of_the_previous_run_is_worth_nothing() -> None:
    first = leases.of(a_run("order-42"))
    end(handlers.find("order-42"))
    second = leases.of(a_run("order-42"))

    with transaction.atomic():
        assert set(leases.hold([first, second])) == {second}


def test_what_a_run_begins_with() -> None:
    handler = a_run("order-42", state="{}", snapshot='{"version": 1}')
    context = contexts.read(handler.pk)
    assert context is not None
    assert (context.state, context.snapshot, context.snapshot_sequence) == ("{}", '{"version": 1}', -1)

    end(handler)
    a_run("order-42", state='{"new": 1}')
    context = contexts.read(handler.pk)
    assert context is not None
    assert (context.state, context.snapshot) == ('{"new": 1}', None)


def test_a_start_can_be_repeated_after_a_commit_that_was_not_heard_of() -> None:
    for request in (a_start("order-42", state="{}"), a_start(), a_start(snapshot="{}")):
        first = handlers.start(request)
        again = handlers.start(request)

        assert (again.pk, again.run_id, again.run) == (first.pk, first.run_id, 1)
    end(handlers.find("order-42"))
    another = a_start("order-42")
    assert handlers.start(another).run == handlers.start(another).run == 2


def test_a_start_takes_effect_with_the_callers_transaction() -> None:
    with rolled_back():
        a_run("order-42")

    with pytest.raises(HandlerNotFound):
        handlers.find("order-42")


def test_a_refused_start_leaves_the_callers_transaction_usable() -> None:
    a_run("order-42")

    with transaction.atomic():
        with pytest.raises(HandlerRunning):
            a_run("order-42")
        a_run("order-43")
    assert handlers.find("order-43")


@pytest.mark.parametrize("finished_before", [False, True])
def test_of_begins_with_one_id_at_the_same_time_one_wins(finished_before: bool) -> None:
    for attempt in range(5):
        id = f"order-{attempt}"
        if finished_before:
            end(a_run(id))
        results = race(*[lambda: a_run(id)] * 6)  # noqa: B023  the race ends before the id changes

        (won,) = [result for result in results if isinstance(result, Handler)]
        lost = [result for result in results if isinstance(result, HandlerRunning)]
        assert len(lost) == 5, results
        assert handlers.find(id).run_id == won.run_id
        assert handlers.find(id).run == (2 if finished_before else 1)


def test_many_starts_in_one_statement() -> None:
    started = handlers.start_many([a_start() for _ in range(3)])

    assert len({handler.pk for handler in started}) == 3
    assert all(handlers.find(handler.handler_id).run_id == handler.run_id for handler in started)


# --- end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_end(status: str) -> None:
    handler = a_run(worker=a_worker().pk)
    handlers.idle([(leases.of(handler), Idle(timezone.now(), timezone.now()))])
    at = datetime(2026, 1, 2, tzinfo=UTC)

    handlers.end([(leases.of(handler), an_ending(Handler.Status(status), result="{}", error="why", at=at))])

    found = handlers.find(handler.handler_id)
    assert (found.status, found.result, found.error) == (status, "{}", "why")
    assert (found.completed_at, found.updated_at) == (at, at)
    assert (found.worker, found.idle_since, found.wake_at) == (None, None, None)
    assert found.has_ended


def test_an_end_is_of_that_run_alone() -> None:
    ended, other = a_run(), a_run()
    end(ended)
    assert handlers.find(other.handler_id).status == "running"


def test_waiting_is_recorded_and_forgotten() -> None:
    handler = a_run()
    at = datetime(2026, 1, 2, tzinfo=UTC)

    handlers.idle([(leases.of(handler), Idle(at, wake_at=None))])
    found = handlers.find(handler.handler_id)
    assert (found.idle_since, found.wake_at) == (at, None)
    handlers.idle([(leases.of(handler), Idle(None))])
    found = handlers.find(handler.handler_id)
    assert (found.idle_since, found.wake_at) == (None, database.at_once())


def test_a_start_by_a_worker_that_is_no_more_is_not_taken_for_a_repeated_one() -> None:
    """Whoever repeats a start takes "already running" for success. MySQL minds the worker at once."""
    with pytest.raises(IntegrityError):
        a_run("order-42", worker=4711)

    assert not Handler.objects.exists()
