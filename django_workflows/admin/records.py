"""Tables that the admin only reads, however large they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from django_workflows import database

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
else:
    # Generic for type checkers alone.
    _ModelAdmin = admin.ModelAdmin


class UncountedList(ChangeList):
    """A page of a list that may have a million rows: one row more is read, and nothing counted."""

    # Further on, filters and dates lead there faster: the database walks over all that a page skips.
    LAST_PAGE = 1000

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        if not 1 <= self.page_num <= self.LAST_PAGE:
            raise IncorrectLookupParameters
        first = (self.page_num - 1) * size
        rows: list[Any] = list(self.queryset[first : first + size + 1])
        self.has_next = len(rows) > size and self.page_num < self.LAST_PAGE
        self.result_list = rows[:size]
        # What the admin's templates ask of a list.
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.can_show_all = False
        self.show_admin_actions = bool(self.result_list)
        self.multi_page = self.has_next or self.page_num > 1
        self.paginator = self.model_admin.get_paginator(request, self.queryset, size)

    @property
    def previous_page(self) -> str | None:
        """The query string of the page before, None on the first."""
        return self.get_query_string({PAGE_VAR: self.page_num - 1}) if self.page_num > 1 else None

    @property
    def next_page(self) -> str | None:
        return self.get_query_string({PAGE_VAR: self.page_num + 1}) if self.has_next else None


class ReadOnlyAdmin(_ModelAdmin):
    # Both would count.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions: Any = ()

    class Media:
        css = {"all": ("django_workflows/admin/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UncountedList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        return super().get_queryset(request).using(database.alias())

    def page(self, request: HttpRequest, name: str, title: str, **context: Any) -> TemplateResponse:
        """Return a page of our own in the site's frame, from ``admin/django_workflows/<name>.html``."""
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/django_workflows/{name}.html",
            {
                **self.admin_site.each_context(request),
                "title": title,
                "opts": self.opts,
                "media": self.media,
                **context,
            },
        )

    def address(self, name: str, *args: Any) -> str:
        """Return the address of a view of this admin in this site: ``changelist``, ``change``, ``inbox`` …"""
        info = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        return reverse(f"admin:{info}", args=args, current_app=self.admin_site.name)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RowsOfOne(admin.RelatedFieldListFilter):
    """Lets a link narrow the list to one handler, and offers none by itself."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        return []

    def has_output(self) -> bool:
        return False


class RecordAdmin(ReadOnlyAdmin):
    """What belongs to handlers, as it is stored; the handler's page shows the same for people."""

    raw_id_fields = ("handler",)
    list_display = ("__str__", "handler")
    list_select_related = ("handler",)
    list_filter = (("handler", RowsOfOne),)
    ordering = ("-id",)

    def has_module_permission(self, request: HttpRequest) -> bool:
        # Not on the index: who looks for a row begins at its handler.
        return False
