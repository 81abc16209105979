"""People at the admin, and runs for them to look at."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from django_workflows import contexts, eventlog, journal, leases
from django_workflows.eventlog import EventEntry
from django_workflows.journal import TickEntry
from django_workflows.models import Handler
from tests.storage import a_run

PLACE = "/admin/django_workflows/handler/"
ORDER = json.dumps(
    {
        "__is_pydantic": True,
        "value": {"title": "Invitation", "signed": True, "copies": 3},
        "qualified_name": "tests.browser.admin_workflows.Order",
    }
)


def a_user(name: str, *permissions: str, **fields: Any) -> Any:
    user = get_user_model().objects.create_user(name, is_staff=True, **fields)
    for permission in permissions:
        user.user_permissions.add(
            Permission.objects.get(codename=permission, content_type__app_label="django_workflows")
        )
    return user


def somebody(name: str, *permissions: str) -> Client:
    """Return a browser in which a member of the staff with these permissions is logged in."""
    client = Client()
    client.force_login(a_user(name, *permissions))
    return client


def everything(name: str = "ada") -> Client:
    """Return a browser of somebody who may do everything here, without being a superuser."""
    return somebody(
        name, "view_handler", "delete_handler", "run_workflow", "answer_handler", "cancel_handler", "view_worker"
    )


def a_printing(handler_id: str | None = None, **fields: Any) -> Handler:
    return a_run(handler_id, **{"workflow_name": "print", "start_event": ORDER, **fields})


def an_event(handler: Handler, sequence: int, type: str, *, internal: bool = False, **value: Any) -> None:
    envelope = {"value": value, "qualified_name": f"x.{type}", "type": type, "types": None}
    entry = EventEntry(sequence, internal, json.dumps(envelope), type, timezone.now())
    eventlog.append([(leases.of(handler), entry)])


def a_question(handler_id: str, prompt: str = "Shall it be printed?", *, ago: int = 60, **fields: Any) -> Handler:
    """Return a run that waits for an answer to a question that it asked so many seconds ago."""
    handler = a_printing(handler_id, **fields)
    an_event(handler, 0, "Approval", prompt=prompt, draft="a draft")
    journal.append([(leases.of(handler), TickEntry(0, "{}"))])
    since = timezone.now() - timedelta(seconds=ago)
    Handler.objects.filter(pk=handler.pk).update(idle_since=since, started_at=since)
    handler.refresh_from_db()
    return handler


def a_state(handler: Handler, state: str) -> None:
    contexts.save([(leases.of(handler), state)])


def texts(response: Any) -> list[str]:
    """Return what the messages say that a request leaves behind."""
    from django.contrib.messages import get_messages

    return [str(message) for message in get_messages(response.wsgi_request)]
