"""What an event loop writes with by itself, where the database has it."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_workflows.database import clerk, courier
from django_workflows.database.clerk import Clerk
from django_workflows.database.connections import alias
from django_workflows.database.courier import Courier
from django_workflows.database.trip import takes_literals

Carrier = Clerk | Courier


def writes_on_loop() -> bool:
    """Whether an event loop can write by itself: to PostgreSQL with psycopg 3, and to SQLite."""
    connection = connections[alias()]
    return connection.vendor == "sqlite" or takes_literals(connection)


def open_connection() -> BaseDatabaseWrapper | None:
    """Open a connection for :func:`carrier`, in a thread; None where an event loop should not write by itself."""
    if not writes_on_loop():
        return None
    return clerk.open_connection() if connections[alias()].vendor == "sqlite" else courier.open_connection()


def carrier(connection: BaseDatabaseWrapper, on_answered: Callable[[Exception | None], None]) -> Carrier:
    """Return what carries transactions for the running event loop, one at a time.

    Args:
        connection: from :func:`open_connection`; it is the carrier's from now on.
        on_answered: what it calls with the answer if that takes time (``is_immediate``); see :class:`Courier`.
    """
    return Clerk(connection) if connection.vendor == "sqlite" else Courier(connection, on_answered)
