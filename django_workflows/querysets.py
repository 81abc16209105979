"""Questions about handlers in the words of the domain."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.apps import apps
from django.db import models
from django.db.models import Exists, OuterRef, Q

from django_workflows.database import DatabaseNow

if TYPE_CHECKING:
    from django_workflows.models import Handler  # noqa: F401


class HandlerQuerySet(models.QuerySet["Handler"]):
    def running(self) -> HandlerQuerySet:
        """Runs that have not ended."""
        return self.filter(status="running")

    def runnable(self) -> HandlerQuerySet:
        """Runs that no worker executes and that have something to do now.

        A run that was released while it waited (``idle_since`` set, no worker) has something to do when
        mail has come or its deadline is due; any other without a worker has at once.
        """
        mail = apps.get_model("django_workflows", "Message").objects.filter(
            handler=OuterRef("pk"), run=OuterRef("run")
        )
        return (
            self.running()
            .filter(worker=None)
            .filter(Q(idle_since=None) | Q(wake_at__lte=DatabaseNow()) | Exists(mail))
        )

    def orphaned(self, lease_timeout: timedelta) -> HandlerQuerySet:
        """Runs whose worker has sent no heartbeat for ``lease_timeout``."""
        return self.running().filter(worker__heartbeat_at__lt=DatabaseNow() - lease_timeout)

    def newest_first(self) -> HandlerQuerySet:
        return self.order_by("-started_at", "-id")

    def after_cursor(self, started_at: datetime, id: int) -> HandlerQuerySet:
        """What follows a position of :meth:`newest_first`."""
        return self.filter(Q(started_at__lt=started_at) | Q(started_at=started_at, id__lt=id))

    def with_status(self, statuses: Iterable[str]) -> HandlerQuerySet:
        return self.filter(status__in=list(statuses))

    def of_workflows(self, names: Iterable[str]) -> HandlerQuerySet:
        return self.filter(workflow_name__in=list(names))
