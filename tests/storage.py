"""Rows for the tests of the storage modules, and threads that race for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connections, transaction
from django.utils import timezone

from django_workflows import database, handlers, leases
from django_workflows.handlers import Ending, Start
from django_workflows.leases import Lease
from django_workflows.models import Handler, Worker

# Longer than anything here takes, so that a test which waits in vain fails instead of hanging.
PATIENCE = 60.0

# What an event loop writes with by itself on this database, None where it does not.
CARRIER: type[database.Clerk] | type[database.Courier] | None = {
    "sqlite": database.Clerk,
    "postgresql": database.Courier,
}.get(connections["default"].vendor)


def a_start(handler_id: str | None = None, **fields: Any) -> Start:
    """Return what begins a run; the caller chose the id when one is given."""
    return Start(
        handler_id=handler_id or handlers.new_id(),
        chosen=handler_id is not None,
        **{"workflow_name": "greet", "start_event": "{}", **fields},
    )


def a_run(handler_id: str | None = None, **fields: Any) -> Handler:
    """Return a run that has begun."""
    return handlers.start(a_start(handler_id, **fields))


def a_worker(*, silent_for: timedelta = timedelta(0)) -> Worker:
    """Return a worker whose last heartbeat is so long ago."""
    worker = leases.enlist(leases.new_token())
    if silent_for:
        worker.heartbeat_at -= silent_for
        worker.save()
    return worker


def an_ending(status: Handler.Status = Handler.Status.COMPLETED, **fields: Any) -> Ending:
    return Ending(**{"status": status, "result": None, "error": None, "at": timezone.now(), **fields})


def end(handler: Handler, **fields: Any) -> None:
    handlers.end([(leases.of(handler), an_ending(**fields))])


def next_lease(lease: Lease) -> Lease:
    """Return the lease of whoever takes the run over."""
    return Lease(lease.handler, lease.run, lease.fence + 1)


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction that does not commit."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def terminate_other_connections() -> None:
    """End every other connection to the test database, as a restart of its server does."""
    vendor = connections["default"].vendor
    with connections["default"].cursor() as cursor:
        if vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")


def race(*calls: Callable[[], Any]) -> list[Any]:
    """Call all at the same moment, each in a thread with connections of its own.

    Returns what each returned, or the exception that it raised.
    """
    barrier = threading.Barrier(len(calls), timeout=PATIENCE)
    results: list[Any] = [None] * len(calls)

    def run(position: int, call: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            results[position] = call()
        except Exception as error:
            results[position] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    return results
