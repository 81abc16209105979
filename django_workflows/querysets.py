"""Questions about handlers in the words of the domain."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.apps import apps
from django.db import models
from django.db.models import Exists, F, OuterRef, Q

from django_workflows.database import DatabaseNow, starts_with

if TYPE_CHECKING:
    from django_workflows.models import Handler  # noqa: F401


def _has_mail() -> Exists:
    """Whether a message for a handler's present run has not been consumed yet."""
    messages = apps.get_model("django_workflows", "Message").objects
    return Exists(messages.filter(handler=OuterRef("pk"), run=OuterRef("run"), consumed_at=None))


def has_messages() -> Exists:
    """Whether a handler has messages, be they consumed or not."""
    return Exists(apps.get_model("django_workflows", "Message").objects.filter(handler=OuterRef("pk")))


class HandlerQuerySet(models.QuerySet["Handler"]):
    def running(self) -> HandlerQuerySet:
        """Runs that have not ended."""
        return self.filter(status="running")

    def runnable(self) -> HandlerQuerySet:
        """Runs that no worker executes and that have something to do: it is time, or mail has come."""
        return self.running().filter(worker=None).filter(Q(wake_at__lte=DatabaseNow()) | _has_mail())

    def due(self) -> HandlerQuerySet:
        """Runs that no worker executes and that have something to do by themselves."""
        return self.running().filter(worker=None, wake_at__lte=DatabaseNow())

    def with_mail(self) -> HandlerQuerySet:
        """Runs that no worker executes and for which mail has come.

        Asked from the side of the mail, since a hundred thousand runs may wait for some.
        """
        messages = apps.get_model("django_workflows", "Message").objects.using(self.db)
        addressed = messages.filter(
            consumed_at=None, handler__status="running", handler__worker=None, run=F("handler__run")
        )
        return self.running().filter(worker=None, pk__in=addressed.values("handler"))

    def unanswered(self) -> HandlerQuerySet:
        """Runs that wait for an event from outside, and for which none is on its way."""
        return self.waiting().exclude(_has_mail())

    def orphaned(self, lease_timeout: timedelta) -> HandlerQuerySet:
        """Runs whose worker has sent no heartbeat for ``lease_timeout``."""
        return self.running().filter(worker__heartbeat_at__lt=DatabaseNow() - lease_timeout)

    def waiting(self, is_waiting: bool = True) -> HandlerQuerySet:
        """Runs that wait for an event from outside, or the others. Whatever has ended waits for nothing."""
        if not is_waiting:
            return self.filter(idle_since=None)
        # SQLite does not see that it might use the index of those that wait: to put all of them in another order
        # would take longer than to read the newest runs and leave out the others.
        return self.running().exclude(idle_since=None)

    def longest_waiting_first(self) -> HandlerQuerySet:
        """Of runs that wait for an event from outside."""
        return self.filter(idle_since__isnull=False).order_by("idle_since", "pk")

    def newest_first(self) -> HandlerQuerySet:
        return self.in_order("started_at", True)

    def in_order(self, column: str, is_descending: bool) -> HandlerQuerySet:
        """By a moment of the handler, and by id where several share it."""
        sign = "-" if is_descending else ""
        return self.order_by(f"{sign}{column}", f"{sign}id")

    def beyond(self, column: str, is_descending: bool, moment: datetime, id: int) -> HandlerQuerySet:
        """What follows a position of :meth:`in_order`."""
        beyond = "lt" if is_descending else "gt"
        # The bound by itself lets every database begin in the index where the page begins.
        bound = Q(**{f"{column}__{beyond}e": moment})
        return self.filter(bound & (Q(**{f"{column}__{beyond}": moment}) | Q(**{f"id__{beyond}": id})))

    def with_id_from(self, prefix: str) -> HandlerQuerySet:
        """Those whose id begins with a text."""
        return self.filter(starts_with("handler_id", prefix))

    def with_status(self, statuses: Iterable[str]) -> HandlerQuerySet:
        return self.filter(status__in=list(statuses))

    def of_workflows(self, names: Iterable[str]) -> HandlerQuerySet:
        return self.filter(workflow_name__in=list(names))
