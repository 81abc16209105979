"""Deleting runs from the admin: first a page that says what would be gone, then through ``service``.

Django's own deletion would collect every row of every run in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from django_workflows import database
from django_workflows.admin import verbs
from django_workflows.admin.records import ReadOnlyAdmin
from django_workflows.models import Event, Handler

# What the button on the page sends along.
CONFIRMED = "confirmed"


def purge(model_admin: ReadOnlyAdmin, request: HttpRequest, handlers: Iterable[Handler]) -> HttpResponse | None:
    """Ask, or delete these runs when the person has confirmed; None leads back to the list."""
    if request.POST.get(CONFIRMED):
        verbs.purge_all(request, handlers)
        return None
    return _ask(model_admin, request, list(handlers), model_admin.address("changelist"))


def purge_one(model_admin: ReadOnlyAdmin, request: HttpRequest, handler: Handler) -> HttpResponse:
    verbs.require(request, "purge")
    if request.method == "POST" and request.POST.get(CONFIRMED):
        verbs.purge_all(request, [handler])
        return HttpResponseRedirect(model_admin.address("changelist"))
    return _ask(model_admin, request, [handler], model_admin.address("change", handler.pk))


def _ask(model_admin: ReadOnlyAdmin, request: HttpRequest, handlers: list[Handler], back: str) -> HttpResponse:
    context: dict[str, Any] = {
        "handlers": handlers,
        "running": sum(not handler.has_ended for handler in handlers),
        "events": _events(handlers),
        "back": back,
        # The list's action comes back with what was selected.
        "action": request.POST.get("action", ""),
        "checkbox": ACTION_CHECKBOX_NAME,
    }
    return model_admin.page(request, "handler/purge", _("Delete runs"), **context)


def _events(handlers: list[Handler]) -> int:
    """Return the number of events of the present runs, from their last positions."""
    rows = Event.objects.filter(handler=OuterRef("pk"), run=OuterRef("run")).order_by("-sequence")
    found = (
        Handler.objects.using(database.alias())
        .filter(pk__in=[handler.pk for handler in handlers])
        .annotate(last=Subquery(rows.values("sequence")[:1]))
        .values_list("last", flat=True)
    )
    return sum(last + 1 for last in found if last is not None)
