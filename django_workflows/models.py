"""The tables. Constraints carry the promises; the code above them only says so politely.

A handler is the public record of a run. Continuing a finished handler starts another run under the same
``handler_id``: ``run`` counts them, and the rows of a run carry its number.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_workflows.database import DocumentField, IdentifierField, PartialIndex, at_once
from django_workflows.querysets import HandlerQuerySet


class Worker(models.Model):
    """A process that executes runs, as long as its heartbeat goes on."""

    # Random; names the lock file by which other processes on the same machine see that it lives.
    token = IdentifierField(max_length=32, unique=True)
    # For people: where to look for the process.
    hostname = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    # Both on the database's clock.
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}"


class Handler(models.Model):
    """A run as its users know it: who started it, where it stands, what it gave."""

    class Status(models.TextChoices):
        # The run has work to do, waits for an event or deadline, or waits for a worker to take it.
        RUNNING = "running", _("running")
        # A step returned the stop event; ``result`` holds it.
        COMPLETED = "completed", _("completed")
        # A step failed for good, or the workflow's timeout passed; ``error`` says why.
        FAILED = "failed", _("failed")
        # Somebody cancelled the run.
        CANCELLED = "cancelled", _("cancelled")

    # The public id: given by the client or random (130 bits).
    handler_id = IdentifierField(max_length=200, unique=True)
    # The public id of the present run, and its number among the runs of this handler, from 1.
    run_id = IdentifierField(max_length=64, unique=True)
    run = models.PositiveIntegerField(default=1)
    workflow_name = IdentifierField(max_length=100)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.RUNNING)
    # The start event as the run's serializer wrote it, so that a run can begin again before its first tick.
    start_event = DocumentField()
    # The stop event's envelope, as it is sent.
    result = DocumentField(null=True)
    error = models.TextField(null=True)  # noqa: DJ001  NULL is "no error"
    # Who started it.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        db_index=False,
        related_name="+",
    )
    # The lease: which worker executes the run, and a number that grows whenever the run changes hands.
    # A write that carries an older fence is refused.
    worker = models.ForeignKey(
        Worker, null=True, blank=True, on_delete=models.SET_NULL, db_index=False, related_name="handlers"
    )
    fence = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True)
    # Since when the run waits for an event from outside.
    idle_since = models.DateTimeField(null=True)
    # When the run has something to do again by itself, on the database's clock: the epoch while it works, its
    # earliest deadline while it waits, None when it waits for mail alone. A run without a worker is claimed by it.
    wake_at = models.DateTimeField(null=True, default=at_once)
    # How many processes died in a row that had this run in their hands and had not yet written anything for it.
    crashes = models.PositiveSmallIntegerField(default=0)
    # What makes a start safe to repeat: the digest of the caller and an Idempotency-Key, None without one.
    start_key = models.CharField(max_length=64, null=True)  # noqa: DJ001  NULL is "no key"

    objects = HandlerQuerySet.as_manager()

    class Meta:
        indexes = (
            # List, newest first, also of one status or workflow.
            models.Index(fields=("-started_at", "-id"), name="dwf_handler_newest"),
            models.Index(fields=("status", "-started_at", "-id"), name="dwf_handler_status"),
            models.Index(fields=("workflow_name", "-started_at", "-id"), name="dwf_handler_workflow"),
            models.Index(fields=("owner", "-started_at", "-id"), name="dwf_handler_owner"),
            models.Index(fields=("-updated_at", "-id"), name="dwf_handler_updated"),
            # Those that wait for a person, the oldest first.
            PartialIndex(fields=("idle_since",), rows=Q(idle_since__isnull=False), name="dwf_handler_idle"),
            # Claim what nobody executes, take over what a dead worker left. What has ended is no more in it.
            PartialIndex(
                fields=("worker", "wake_at"),
                rows=Q(worker__isnull=False) | Q(wake_at__isnull=False),
                name="dwf_handler_lease",
            ),
        )
        # By itself and not as a unique field, for which PostgreSQL gets a second index, for LIKE.
        constraints = (models.UniqueConstraint(fields=("start_key",), name="dwf_handler_once"),)
        # Beside Django's view_handler and delete_handler (purge).
        permissions = (
            ("run_workflow", "Can start a workflow"),
            ("answer_handler", "Can send events to a run"),
            ("cancel_handler", "Can cancel a run"),
        )

    def __str__(self) -> str:
        return self.handler_id

    @property
    def has_ended(self) -> bool:
        return self.status != self.Status.RUNNING


class Context(models.Model):
    """A run's state, and the point from which its journal need not be read again."""

    handler = models.OneToOneField(Handler, on_delete=models.CASCADE, related_name="context")
    # The state store's record; None while no step has saved any.
    state = DocumentField(null=True)
    # The engine's state after the tick ``snapshot_sequence`` (-1: before the first), or None.
    snapshot = DocumentField(null=True)
    snapshot_sequence = models.IntegerField(default=-1)
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"context of {self.handler_id}"


class Tick(models.Model):
    """One entry of a run's journal: everything that the engine's state depends on, in order."""

    handler = models.ForeignKey(Handler, on_delete=models.CASCADE, db_index=False, related_name="ticks")
    run = models.PositiveIntegerField()
    sequence = models.PositiveIntegerField()
    data = DocumentField()

    class Meta:
        constraints = (
            # Two processes that both believe to own a run cannot both write its next tick.
            models.UniqueConstraint(fields=("handler", "run", "sequence"), name="dwf_tick_position"),
        )

    def __str__(self) -> str:
        return f"tick {self.sequence}"


class Event(models.Model):
    """One entry of a run's event log, as its readers get it."""

    handler = models.ForeignKey(Handler, on_delete=models.CASCADE, db_index=False, related_name="events")
    run = models.PositiveIntegerField()
    # From 0, without a gap; internal events count.
    sequence = models.PositiveIntegerField()
    type = models.CharField(max_length=255)
    # Whether only readers with include_internal see it.
    internal = models.BooleanField()
    # The envelope's JSON, produced once.
    data = DocumentField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("handler", "run", "sequence"), name="dwf_event_position"),)

    def __str__(self) -> str:
        return f"{self.sequence} {self.type}"


class Message(models.Model):
    """Mail for a run: committed before the sender gets an answer, consumed by the tick that it becomes.

    A consumed message stays until the run's end (or for a day), so that the same message sent again is recognised.
    """

    class Kind(models.TextChoices):
        EVENT = "event", _("event")
        CANCEL = "cancel", _("cancel")

    # No constraint in the database: InnoDB would lock the handler's row until the sender's transaction ends,
    # and the run could not write meanwhile; nor could the handler be deleted with it. Mail for a run that has
    # ended, or is no more, is swept.
    handler = models.ForeignKey(
        Handler, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="messages"
    )
    run = models.PositiveIntegerField()
    kind = models.CharField(max_length=8, choices=Kind.choices)
    # The event as the run's serializer wrote it; empty for a cancel.
    data = DocumentField(default="")
    # The step that alone shall get it; empty for all that accept it.
    step = models.CharField(max_length=255, default="")
    # The sender's Idempotency-Key or a random one: what is sent again with the same key is delivered once.
    key = IdentifierField(max_length=64)
    created_at = models.DateTimeField()
    # When it was consumed, on the worker's clock.
    consumed_at = models.DateTimeField(null=True)

    class Meta:
        # Deliver what waits without reading what was consumed: for a worker, and for a run that has left memory.
        indexes = (models.Index(fields=("consumed_at", "handler", "run"), name="dwf_message_waiting"),)
        constraints = (models.UniqueConstraint(fields=("handler", "run", "key"), name="dwf_message_once"),)

    def __str__(self) -> str:
        return f"{self.kind} for {self.handler_id}"
