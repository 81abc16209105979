"""Workers in the admin: which processes live, and what they run."""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from django_workflows import database
from django_workflows.admin import labels
from django_workflows.admin.records import ReadOnlyAdmin, UncountedList
from django_workflows.models import Handler


class WorkerList(UncountedList):
    """A page of workers with the runs that they hold, counted for all of them in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        workers: Any = self.result_list
        held: dict[int, list[tuple[str, int]]] = defaultdict(list)
        rows = (
            Handler.objects.using(database.alias())
            .running()
            .filter(worker__in=[worker.pk for worker in workers])
            .values_list("worker", "workflow_name")
            .annotate(number=Count("pk"))
            .order_by("workflow_name")
        )
        for worker, workflow, number in rows:
            held[worker].append((workflow, number))
        handlers = reverse(
            "admin:django_workflows_handler_changelist", current_app=self.model_admin.admin_site.name
        )
        for worker in workers:
            worker.held = held[worker.pk]
            worker.handlers_url = handlers


class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("process", "life", "heartbeat", "runs", "started_at")
    list_display_links = None
    # Few rows: the living first.
    ordering = ("-heartbeat_at", "-id")
    sortable_by = ()
    change_list_template = "admin/django_workflows/worker/list.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[WorkerList]:
        return WorkerList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        timeout = labels.lease_timeout()
        context = {
            "title": _("Workers"),
            "lease_timeout": labels.span(timeout),
            "handlers_url": reverse("admin:django_workflows_handler_changelist", current_app=self.admin_site.name),
            # Looked for, not counted: one is enough to say so.
            "has_orphans": Handler.objects.using(database.alias()).orphaned(timeout).order_by().exists(),
            "has_unclaimed": Handler.objects.using(database.alias()).runnable().order_by().exists(),
        }
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A worker has no page: the list says all."""
        return HttpResponseRedirect(self.address("changelist"))

    @admin.display(description=_("process"))
    def process(self, worker: Any) -> str:
        return str(worker)

    @admin.display(description=_("state"))
    def life(self, worker: Any) -> str:
        return labels.life(worker)

    @admin.display(description=_("last heartbeat"))
    def heartbeat(self, worker: Any) -> str:
        return str(_("%(age)s ago")) % {"age": labels.age(worker.heartbeat_at)}

    @admin.display(description=_("runs"), empty_value="-")
    def runs(self, worker: Any) -> str | None:
        """Each workflow with the number of its runs, as a link to them."""
        if not worker.held:
            return None
        kind = "wf-orphans" if labels.is_silent(worker) else ""
        links = format_html_join(
            ", ",
            '<a href="{}?{}">{} {}</a>',
            (
                (worker.handlers_url, urlencode({"worker": worker.pk, "workflow": name}), number, name)
                for name, number in worker.held
            ),
        )
        return format_html('<span class="{}">{}</span>', kind, links)
