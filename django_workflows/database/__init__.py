"""What differs between databases, with the reason; and connections for our own threads.

Everything else in the app goes through the ORM and does not know which database it talks to.
"""

from django_workflows.database.carriers import Carrier, carrier, open_connection, writes_on_loop
from django_workflows.database.clerk import Clerk
from django_workflows.database.columns import (
    DatabaseNow,
    DocumentField,
    IdentifierField,
    at_once,
    moment,
    seconds,
    starts_with,
)
from django_workflows.database.connections import (
    READERS,
    ManagedExecutor,
    alias,
    atomic,
    commits_by_itself,
    drop_connection,
    is_connection_lost,
    is_transient,
    managed,
    own_connection,
    read,
)
from django_workflows.database.courier import ConnectionLost, Courier
from django_workflows.database.indexes import PartialIndex
from django_workflows.database.statements import Lookup, Statement, delete, demand, insert, locked, send_insert
from django_workflows.database.trip import DemandFailed, one_trip, takes_one_trip

__all__ = [
    "READERS",
    "Carrier",
    "Clerk",
    "ConnectionLost",
    "Courier",
    "DatabaseNow",
    "DemandFailed",
    "DocumentField",
    "IdentifierField",
    "Lookup",
    "ManagedExecutor",
    "PartialIndex",
    "Statement",
    "alias",
    "at_once",
    "atomic",
    "carrier",
    "commits_by_itself",
    "delete",
    "demand",
    "drop_connection",
    "insert",
    "is_connection_lost",
    "is_transient",
    "locked",
    "managed",
    "moment",
    "one_trip",
    "open_connection",
    "own_connection",
    "read",
    "seconds",
    "send_insert",
    "starts_with",
    "takes_one_trip",
    "writes_on_loop",
]
