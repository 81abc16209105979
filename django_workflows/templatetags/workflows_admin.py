"""What the admin's templates ask for."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse

from django_workflows.admin import inbox

register = template.Library()


@register.inclusion_tag("admin/django_workflows/waiting_count.html", takes_context=True)
def waiting_runs(context: Any) -> dict[str, Any]:
    """Say how many runs wait for an answer, with a link to the inbox; nothing when none does."""
    request = context["request"]
    number = inbox.count(request)
    try:
        url = reverse("admin:django_workflows_handler_inbox", current_app=getattr(request, "current_app", None))
    except NoReverseMatch:
        # This site does not have the runs.
        url, number = "", ""
    return {"number": number, "url": url}
