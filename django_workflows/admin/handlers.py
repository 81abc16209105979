"""Handlers in the admin: the list, one handler's page, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_user_model
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import formats
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_workflows import database
from django_workflows.admin import dates, detail, filters, inbox, labels, purging, questions, starting, verbs
from django_workflows.admin.records import ReadOnlyAdmin, UncountedList
from django_workflows.models import Handler, Tick

# Handlers that a search finds at most by each of the two ids.
FOUND = 100


class HandlerList(UncountedList):
    """A page of handlers with what they wait for."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        found: QuerySet[Any] = super().get_queryset(request, *args, **kwargs)
        # Owners and workers are looked up for the page: a join could lead the database to another index.
        page: QuerySet[Any] = found.defer("start_event", "result", "error").prefetch_related("owner", "worker")
        return page

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        handlers: Any = self.result_list
        waiting = [handler for handler in handlers if not handler.has_ended and handler.idle_since is not None]
        asked = questions.of(waiting)
        for handler in handlers:
            handler.question = asked.get(handler.pk)
            handler.owner_url = owner_url(request, handler, self.model_admin.admin_site.name)


def owner_url(request: HttpRequest, handler: Handler, site: str) -> str | None:
    """Return the page of a handler's owner; None where there is none, or the person may not see it."""
    meta = get_user_model()._meta
    person: Any = request.user
    if handler.owner_id is None or not person.has_perm(f"{meta.app_label}.view_{meta.model_name}"):
        return None
    return labels.url(f"admin:{meta.app_label}_{meta.model_name}_change", handler.owner_id, site=site)


class HandlerAdmin(ReadOnlyAdmin):
    list_display = ("id_", "status_", "workflow", "owner_", "started", "duration")
    list_display_links = ("id_",)
    list_filter = (
        filters.StatusFilter,
        filters.AttentionFilter,
        filters.WorkflowFilter,
        filters.OwnerFilter,
        filters.WorkerFilter,
    )
    list_select_related = False
    list_per_page = verbs.AT_ONCE
    # Only by what has an index.
    sortable_by = ("started",)
    ordering = ("-started_at", "-id")
    search_fields = ("handler_id", "run_id")
    search_help_text = _("The beginning of a handler's or run's id.")
    date_hierarchy = "started_at"
    actions = ("cancel_selected", "run_again_selected", "purge_selected")
    change_list_template = "admin/django_workflows/handler/list.html"

    # --- who may ------------------------------------------------------------------------------------------

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return verbs.may(request, "cancel")

    def has_run_permission(self, request: HttpRequest) -> bool:
        return verbs.may(request, "run")

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return verbs.may(request, "purge")

    # --- the list -----------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[HandlerList]:
        return HandlerList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response = super().changelist_view(
            request,
            {
                **(extra_context or {}),
                "title": self.opts.verbose_name_plural.capitalize(),  # type: ignore[union-attr]
                "waiting_count": inbox.count(request) if request.method == "GET" else "",
                "inbox_url": self.address("inbox"),
                "start_url": self.address("choose") if verbs.may(request, "run") else None,
            },
        )
        if isinstance(response, TemplateResponse) and "cl" in (response.context_data or {}):
            assert response.context_data is not None
            response.context_data["dates"] = dates.choices(response.context_data["cl"])
        return response

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        prefix = search_term.strip()
        if not prefix:
            return queryset, False
        # As keys, so that the database uses the ids' indexes and not that of the order.
        handlers = Handler.objects.using(database.alias())
        keys: set[int] = set()
        for field in self.search_fields:
            found = handlers.filter(database.starts_with(field, prefix)).order_by()
            keys.update(found.values_list("pk", flat=True)[:FOUND])
        return queryset.filter(pk__in=keys), False

    @admin.display(description=_("handler"))
    def id_(self, handler: Any) -> str:
        return str(handler.handler_id)

    @admin.display(description=_("status, waits for"))
    def status_(self, handler: Any) -> str:
        status = labels.status(handler)
        if handler.has_ended or handler.idle_since is None:
            return status
        text = _("an event") if handler.question is None else handler.question.text
        return format_html('{} <span class="wf-question" title="{}">{}</span>', status, text, text)

    @admin.display(description=_("workflow"))
    def workflow(self, handler: Any) -> str:
        return str(handler.workflow_name)

    @admin.display(description=_("started"), ordering="started_at")
    def started(self, handler: Any) -> str:
        at = labels.local(handler.started_at)
        return format_html(
            "{} <span>{}</span>", formats.date_format(at, "SHORT_DATE_FORMAT"), formats.time_format(at)
        )

    @admin.display(description=_("owner"), empty_value="-")
    def owner_(self, handler: Any) -> str | None:
        if handler.owner is None:
            return None
        if handler.owner_url is None:
            return str(handler.owner)
        return format_html('<a href="{}">{}</a>', handler.owner_url, handler.owner)

    @admin.display(description=_("duration"))
    def duration(self, handler: Any) -> str:
        return labels.duration(handler)

    # --- actions on the list ------------------------------------------------------------------------------

    @admin.action(description=_("Cancel the selected runs"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        verbs.cancel_all(request, queryset[: verbs.AT_ONCE])

    @admin.action(description=_("Run again with the same input"), permissions=["run"])
    def run_again_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        verbs.repeat_all(request, queryset.defer(None)[: verbs.AT_ONCE])

    @admin.action(description=_("Delete the selected runs …"), permissions=["purge"])
    def purge_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return purging.purge(self, request, queryset[: verbs.AT_ONCE])

    # --- one handler --------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def view(name: str, route: str, function: Callable[..., HttpResponse]) -> URLPattern:
            wrapped = self.admin_site.admin_view(function)
            return path(route, wrapped, name=f"{self.opts.app_label}_{self.opts.model_name}_{name}")

        return [
            view("inbox", "inbox/", lambda request: inbox.inbox(self, request)),
            view("choose", "start/", lambda request: starting.choose(self, request)),
            view(
                "start", "start/<str:workflow>/", lambda request, workflow: starting.start(self, request, workflow)
            ),
            view("answer", "<path:key>/answer/", self._of_one(inbox.answer)),
            view("again", "<path:key>/again/", self._of_one(starting.again)),
            view("purge", "<path:key>/purge/", self._of_one(purging.purge_one)),
            view("cancel", "<path:key>/cancel/", self._of_one(_cancel)),
            *super().get_urls(),
        ]

    def _of_one(self, function: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        def call(request: HttpRequest, key: str) -> HttpResponse:
            handler = self._find(request, key)
            if handler is None:
                # Deleted while somebody looked at it.
                return self._get_obj_does_not_exist_redirect(request, self.opts, key)  # type: ignore[attr-defined,no-any-return]
            return function(self, request, handler)

        return call

    def _find(self, request: HttpRequest, key: str) -> Handler | None:
        verbs.require(request, "view")
        found: Any = self.get_object(request, unquote(key))
        return found  # type: ignore[no-any-return]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        handler = self._find(request, object_id)
        if handler is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        return self.page(
            request,
            "handler/detail",
            detail.title(handler),
            handler=handler,
            original=handler,
            status=labels.status(handler),
            owner_url=owner_url(request, handler, self.admin_site.name),
            worker_url=handler.worker_id and f"{self.address('changelist')}?worker={handler.worker_id}",
            may={verb: verbs.may(request, verb) for verb in verbs.PERMISSIONS},
            ticks_url=self._rows(request, handler, Tick),
            **detail.context(request, handler),
            **(extra_context or {}),
        )

    def _rows(self, request: HttpRequest, handler: Handler, model: type[Model]) -> str | None:
        """Return where the rows of a handler are listed, for who may see them."""
        person: Any = request.user
        name = model._meta.model_name
        if not person.has_perm(f"django_workflows.view_{name}"):
            return None
        page = reverse(f"admin:django_workflows_{name}_changelist", current_app=self.admin_site.name)
        return f"{page}?handler__id__exact={handler.pk}"


def _cancel(model_admin: ReadOnlyAdmin, request: HttpRequest, handler: Handler) -> HttpResponse:
    verbs.require(request, "cancel")
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    verbs.cancel_all(request, [handler])
    return HttpResponseRedirect(model_admin.address("change", handler.pk))
