"""The runs in the Django admin: look at them, start, answer, cancel and purge them.

The default site has it all; a site of your own gets it by :func:`register`.
"""

from __future__ import annotations

from django.contrib import admin

from django_workflows.admin.handlers import HandlerAdmin
from django_workflows.admin.records import RecordAdmin
from django_workflows.admin.workers import WorkerAdmin
from django_workflows.models import Context, Event, Handler, Message, Tick, Worker

INDEX_TEMPLATE = "admin/django_workflows/index.html"


def register(site: admin.AdminSite) -> None:
    """Add handlers, inbox and workers to an admin site.

    The site's index says how many runs wait for an answer, unless it has an ``index_template`` of its own;
    that one may include ``admin/django_workflows/waiting.html``.
    """
    site.register(Handler, HandlerAdmin)
    site.register(Worker, WorkerAdmin)
    site.register((Context, Event, Message, Tick), RecordAdmin)
    if site.index_template is None:
        site.index_template = INDEX_TEMPLATE


register(admin.site)

__all__ = ["HandlerAdmin", "RecordAdmin", "WorkerAdmin", "register"]
