"""What can go wrong, as one tree.

::

    WorkflowsError
    ├── InvalidRequest                400: the caller's input does not fit
    │   └── InvalidEvent              400: an event or start event that its class refuses
    ├── KeyReused                     422: the idempotency key was used for something else
    ├── TooLarge                      413: a body, event or state over its limit
    ├── NotFound                      404
    │   ├── HandlerNotFound
    │   └── WorkflowNotFound
    ├── Conflict                      409: right at another time
    │   ├── HandlerRunning            a run of that handler is under way
    │   ├── HandlerOfOther            the handler is another workflow's, so its state does not fit
    │   └── HandlerFinished           the run has ended, nobody is there to take the event
    ├── TooMany                       429: a limit on how many at a time
    ├── Unavailable                   503: this process cannot do it now, another try may succeed
    │   └── PersistenceFailed         the database refused a write after every retry
    ├── LeaseLost                     this process no longer owns the run that it wanted to write
    │   └── CancelWaits               or the run wanted to end by itself after it had been cancelled
    └── NotSerializable               a value that the run's serializer cannot store
        └── OverLimit                 or that is larger or one more than the settings allow

The number is the HTTP status that the API answers with (``api/errors.py`` reads ``status``); the message
is written for the person who made the request and holds nothing of the server's inside.
"""

from __future__ import annotations


class WorkflowsError(Exception):
    """Base of every error that django_workflows raises on purpose."""

    status = 500


class InvalidRequest(WorkflowsError):
    """The input does not have the form that is expected; nothing was changed."""

    status = 400


class InvalidEvent(InvalidRequest):
    """An event (or start event) that is not declared by the workflow, or that its class refuses."""


class KeyReused(WorkflowsError):
    """The same idempotency key came with another content; nothing was changed.

    The status is that of the IETF's draft "The Idempotency-Key HTTP Header Field".
    """

    status = 422

    def __init__(self) -> None:
        super().__init__("This idempotency key was used with another content; use another key for that")


class TooLarge(WorkflowsError):
    """The input is over a limit of the settings; nothing was changed."""

    status = 413


class NotFound(WorkflowsError):
    """What the request names does not exist, or may not be known to exist by whoever asks."""

    status = 404


class HandlerNotFound(NotFound):
    """No handler has that id."""

    def __init__(self) -> None:
        super().__init__("Handler not found")


class WorkflowNotFound(NotFound):
    """No workflow is served under that name."""

    def __init__(self, message: str = "Workflow not found") -> None:
        super().__init__(message)


class Conflict(WorkflowsError):
    """The request is well formed but does not fit the present state; nothing was changed."""

    status = 409


class HandlerRunning(Conflict):
    """A handler with that id has a run under way, so no other can be started."""

    def __init__(self, handler_id: str) -> None:
        super().__init__(f"Handler {handler_id!r} is already running")


class HandlerOfOther(Conflict):
    """The handler to continue was made by another workflow, whose state means nothing to this one."""

    def __init__(self, handler_id: str, workflow_name: str) -> None:
        super().__init__(f"Handler {handler_id!r} belongs to workflow {workflow_name!r}")


class HandlerFinished(Conflict):
    """The handler's run has ended, so it takes no more events."""

    def __init__(self) -> None:
        super().__init__("Workflow already completed")


class TooMany(WorkflowsError):
    """Too many runs, streams or messages at a time; nothing was changed, and later there may be room."""

    status = 429


class Unavailable(WorkflowsError):
    """The server cannot do this now; the same request may succeed later."""

    status = 503


class PersistenceFailed(Unavailable):
    """A write did not reach the database after all retries (PERSISTENCE_BACKOFF)."""

    def __init__(self, message: str = "The database did not accept the write; try again later") -> None:
        super().__init__(message)


class LeaseLost(WorkflowsError):
    """A write was refused because another process has taken the run over since, or it was deleted.

    Whoever sees it stops acting as the run's owner: it writes nothing more and lets the run go.
    """


class CancelWaits(LeaseLost):
    """An end was refused because an answered cancellation waits: the run is dropped, and ends as cancelled."""


class NotSerializable(WorkflowsError):
    """A tick, event or state of a run cannot be stored, so the run cannot go on durably."""


class OverLimit(NotSerializable):
    """What a run wants to write is over a limit of the settings; the run fails."""
