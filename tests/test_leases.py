from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.utils import timezone

from django_workflows import handlers, leases, mailbox, retention
from django_workflows.handlers import Idle
from django_workflows.leases import Lease
from django_workflows.mailbox import Letter
from django_workflows.models import Handler, Message, Worker
from tests.storage import PATIENCE, a_run, a_worker, end, next_lease, race

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ["greet"]


def claim(worker: Worker, limit: int = 100, names: list[str] = NAMES) -> list[str]:
    return [handler.handler_id for handler in leases.claim(worker.pk, limit, names)]


def release(handler: Handler, **fields: Any) -> None:
    """Leave a run as it is when it was released while it waited."""
    waits = {"idle_since": timezone.now(), "wake_at": None, **fields}
    Handler.objects.filter(pk=handler.pk).update(worker=None, **waits)


# --- workers -------------------------------------------------------------------------------------------


def test_a_worker_says_where_it_is() -> None:
    token = leases.new_token()

    worker = leases.enlist(token)

    assert (worker.token, worker.pid) == (token, os.getpid())
    assert worker.hostname
    assert leases.new_token() != token


def test_a_worker_enlists_once() -> None:
    """The commit of the first try may have succeeded unheard."""
    token = leases.new_token()

    assert leases.enlist(token) == leases.enlist(token)
    assert Worker.objects.count() == 1


def test_somebody_is_alive_whose_heartbeat_is_young() -> None:
    assert not leases.is_somebody_alive(timedelta(seconds=90))

    a_worker(silent_for=timedelta(minutes=1))

    assert leases.is_somebody_alive(timedelta(seconds=90))
    assert not leases.is_somebody_alive(timedelta(seconds=30))


def test_a_heartbeat_keeps_a_worker_from_being_silent() -> None:
    worker = a_worker(silent_for=timedelta(minutes=1))
    assert leases.silent(timedelta(seconds=30)) == [worker]
    assert leases.silent(timedelta(seconds=90)) == []

    assert leases.heartbeat(worker.pk)
    assert leases.silent(timedelta(seconds=30)) == []


def test_a_worker_that_was_declared_dead_hears_of_it() -> None:
    worker = a_worker()
    leases.retire(worker.pk)

    assert not leases.heartbeat(worker.pk)
    assert not Worker.objects.exists()


def test_colleagues_are_all_others() -> None:
    me, first, second = a_worker(), a_worker(), a_worker(silent_for=timedelta(hours=1))

    assert set(leases.colleagues(me.pk)) == {first, second}


def test_a_crash_counts_for_the_runs_that_the_process_worked_on() -> None:
    dead, stopped = a_worker(), a_worker()
    busy, waiting, other = a_run("busy", worker=dead.pk), a_run("waits", worker=dead.pk), a_run(worker=stopped.pk)
    handlers.idle([(leases.of(waiting), Idle(timezone.now(), None))])

    leases.retire(dead.pk, crashed=True)
    leases.retire(stopped.pk)

    assert [handlers.find(run.handler_id).crashes for run in (busy, waiting, other)] == [1, 0, 0]
    handlers.progressed([leases.of(busy)])
    assert handlers.find("busy").crashes == 0


def test_orphans_are_the_runs_of_silent_workers() -> None:
    living, silent = a_worker(), a_worker(silent_for=timedelta(minutes=1))
    a_run("living", worker=living.pk)
    a_run("orphan", worker=silent.pk)
    end(a_run("ended", worker=silent.pk))
    a_run("nobody's")

    orphans = Handler.objects.orphaned(timedelta(seconds=30))
    assert [handler.handler_id for handler in orphans] == ["orphan"]


def test_a_retired_workers_runs_can_be_claimed_at_once() -> None:
    dead, other, heir = a_worker(), a_worker(), a_worker()
    run = a_run("a", worker=dead.pk)
    waiting, due = a_run("waits", worker=dead.pk), a_run("due", worker=dead.pk)
    now = timezone.now()
    handlers.idle([(leases.of(waiting), Idle(now, None)), (leases.of(due), Idle(now, now))])
    end(a_run("ended", worker=dead.pk))
    a_run("other's", worker=other.pk)

    assert leases.retire(dead.pk) == 1
    # One that waits needs nobody until there is something to do.
    assert claim(heir) == ["a", "due"]
    assert handlers.find("waits").worker is None
    with transaction.atomic():
        assert set(leases.hold([leases.of(run), next_lease(leases.of(run))])) == {next_lease(leases.of(run))}


# --- claims --------------------------------------------------------------------------------------------


def test_a_claim_gives_a_new_fence() -> None:
    worker = a_worker()
    run = a_run()

    (claimed,) = leases.claim(worker.pk, 10, NAMES)

    assert claimed.worker_id == worker.pk
    assert leases.of(claimed) == next_lease(leases.of(run))
    assert handlers.find(run.handler_id).fence == claimed.fence
    assert claim(worker) == []


def test_claims_are_oldest_first_and_no_more_than_asked_for() -> None:
    worker = a_worker()
    for name in ["oldest", "older", "old", "new"]:
        a_run(name)
    due = a_run("due since a minute")
    release(due, wake_at=timezone.now() - timedelta(minutes=1))

    assert claim(worker, 3) == ["oldest", "older", "old"]
    assert claim(worker, 3) == ["new", "due since a minute"]


def test_what_is_not_to_be_claimed() -> None:
    worker = a_worker()
    end(a_run("ended"))
    a_run("executed", worker=a_worker().pk)
    a_run("other", workflow_name="unknown here")
    release(a_run("waiting"))
    release(a_run("waiting with a deadline"), wake_at=timezone.now() + timedelta(hours=1))

    assert claim(worker) == []
    assert claim(worker, names=[]) == []


def test_a_waiting_run_is_claimed_when_its_deadline_is_due() -> None:
    worker = a_worker()
    run = a_run("due")
    release(run, wake_at=timezone.now() - timedelta(seconds=1))

    assert claim(worker) == ["due"]
    # Until it has written something, it waits: its new owner may die before that.
    assert handlers.find("due").idle_since is not None


@pytest.mark.parametrize("kind", list(Message.Kind))
def test_a_waiting_run_is_claimed_when_mail_has_come(kind: Message.Kind) -> None:
    worker = a_worker()
    run = a_run("with mail")
    release(a_run("without"))
    mailbox.post(Letter(run.pk, run.run, kind, "{}"))
    release(run)

    assert claim(worker) == ["with mail"]


def test_mail_for_an_earlier_run_wakes_nobody() -> None:
    worker = a_worker()
    first = a_run("continued")
    end(first)
    second = a_run("continued")
    Message.objects.create(handler=first, run=1, kind="event", key="late", created_at=timezone.now())
    release(second)

    assert claim(worker) == []


def test_a_run_that_is_let_go_can_be_claimed() -> None:
    first, second = a_worker(), a_worker()
    run = a_run("a", worker=first.pk)

    leases.let_go(leases.of(run))

    assert claim(second) == ["a"]
    # A late one, of a lease that is over, takes nothing away.
    leases.let_go(leases.of(run))
    assert handlers.find("a").worker_id == second.pk


def test_each_run_is_claimed_once_however_many_want_it() -> None:
    workers = [a_worker() for _ in range(4)]
    runs = {a_run().handler_id for _ in range(40)}

    def claim_all(worker: Worker) -> list[Handler]:
        claimed: list[Handler] = []
        while len(Handler.objects.filter(worker=None)):
            claimed += leases.claim(worker.pk, 3, NAMES)
        return claimed

    results = race(*[lambda worker=worker: claim_all(worker) for worker in workers])

    for worker, claimed in zip(workers, results, strict=True):
        assert all(handler.worker_id == worker.pk for handler in claimed)
    claimed = [handler for result in results for handler in result]
    assert len(claimed) == len(runs)
    assert {handler.handler_id for handler in claimed} == runs
    assert {handler.fence for handler in claimed} == {2}
    assert set(Handler.objects.values_list("fence", flat=True)) == {2}


@pytest.mark.skipif(
    connections["default"].vendor == "sqlite", reason="SQLite lets one transaction write at a time"
)
def test_claiming_does_not_wait_for_who_claims_at_the_same_time() -> None:
    first, second = a_worker(), a_worker()
    a_run("a")
    a_run("b")
    claimed, done = threading.Event(), threading.Event()

    def hold() -> list[str]:
        with transaction.atomic():
            found = claim(first, 1)
            claimed.set()
            assert done.wait(PATIENCE)
        return found

    def pass_by() -> list[str]:
        assert claimed.wait(PATIENCE)
        found = claim(second)
        done.set()
        return found

    assert race(hold, pass_by) == [["a"], ["b"]]


# --- fences --------------------------------------------------------------------------------------------


def test_only_a_present_lease_holds() -> None:
    run, other = a_run(worker=a_worker().pk), a_run()
    lease = leases.of(run)
    stale = [
        Lease(lease.handler, lease.run, lease.fence - 1),
        Lease(lease.handler, lease.run, lease.fence + 1),
        Lease(lease.handler, lease.run + 1, lease.fence),
        Lease(lease.handler + 1000, lease.run, lease.fence),
    ]

    with transaction.atomic():
        assert set(leases.hold([lease, leases.of(other), *stale])) == {lease, leases.of(other)}
        assert set(leases.hold(stale)) == set()
        assert set(leases.hold([])) == set()


@pytest.mark.skipif(connections["default"].vendor != "postgresql", reason="about PostgreSQL")
def test_leases_are_looked_up_by_their_keys_alone() -> None:
    """However many runs wait, and however many have lately ended: each batch looks up its own."""
    runs = [a_run() for _ in range(3)]
    for lookup in (leases._LOCK, leases._FENCED):
        sql, parameters = lookup.written([run.pk for run in runs], connections["default"])
        with connections["default"].cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
            cursor.execute(f"EXPLAIN {sql}", parameters)
            plan = " ".join(line for (line,) in cursor.fetchall())
            cursor.execute("RESET enable_seqscan")
        assert "handler_pkey" in plan
        assert "dwf_handler" not in plan


def test_a_lease_does_not_hold_once_the_run_has_ended() -> None:
    run = a_run()
    end(run)

    with transaction.atomic():
        assert set(leases.hold([leases.of(run)])) == set()


def test_a_stale_fence_is_refused_after_a_takeover() -> None:
    slow, quick = a_worker(), a_worker()
    run = a_run(worker=slow.pk)
    lease = leases.of(run)
    leases.retire(slow.pk)
    (taken,) = leases.claim(quick.pk, 10, NAMES)

    with transaction.atomic():
        assert set(leases.hold([lease])) == set()
        assert set(leases.hold([leases.of(taken)])) == {leases.of(taken)}


def test_nobody_takes_a_run_over_while_its_owner_writes() -> None:
    """A takeover waits for the write, or the write is refused; never both."""
    for _ in range(5):
        slow, quick = a_worker(), a_worker()
        run = a_run(worker=slow.pk)
        lease = leases.of(run)
        holding = threading.Event()

        def write() -> tuple[bool, int]:
            with transaction.atomic():
                held = set(leases.hold([lease])) == {lease}  # noqa: B023
                holding.set()  # noqa: B023
                # Give the other one time to come in between.
                threading.Event().wait(0.05)
                return held, Handler.objects.get(pk=run.pk).fence  # noqa: B023

        def take_over() -> int:
            assert holding.wait(PATIENCE)  # noqa: B023
            leases.retire(slow.pk)  # noqa: B023
            return len(leases.claim(quick.pk, 10, NAMES))  # noqa: B023

        assert race(write, take_over) == [(True, lease.fence), 1]
        assert handlers.find(run.handler_id).fence == lease.fence + 1
        retention.delete(run.pk)


def test_two_that_hold_many_runs_do_not_wait_for_each_other() -> None:
    held = [leases.of(a_run()) for _ in range(30)]

    def hold(order: list[Lease]) -> int:
        count = 0
        for _ in range(20):
            with transaction.atomic():
                count += len(leases.hold(order))
                Handler.objects.filter(pk__in=[lease.handler for lease in order]).update(error="x")
        return count

    assert race(lambda: hold(held), lambda: hold(held[::-1])) == [600, 600]
