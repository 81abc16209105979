"""The tables in the Django admin, to look at; nothing can be changed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from django_workflows.models import Context, Event, Handler, Message, Tick, Worker

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
else:
    # Generic for type checkers alone.
    _ModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(_ModelAdmin):
    # Counting a large table costs more than showing a page of it.
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Handler)
class HandlerAdmin(ReadOnlyAdmin):
    list_display = ("handler_id", "status", "workflow_name", "owner", "started_at", "completed_at")
    list_filter = ("status", "workflow_name")
    list_select_related = ("owner",)
    search_fields = ("handler_id", "run_id")
    date_hierarchy = "started_at"
    ordering = ("-started_at", "-id")


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "started_at", "heartbeat_at")


@admin.register(Context, Event, Message, Tick)
class RecordAdmin(ReadOnlyAdmin):
    raw_id_fields = ("handler",)
