"""What the admin does with runs, all of it through ``service``; and what it says of it, and keeps.

A run may end, or be deleted, while somebody looks at it: that is told, and is no error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from workflows.events import Event, StartEvent

from django_workflows import database, registry, serialization, service
from django_workflows.admin import forms, labels, questions
from django_workflows.exceptions import Conflict, HandlerFinished, HandlerNotFound, WorkflowsError
from django_workflows.models import Handler

# Characters of an answer that the log keeps.
KEPT = 1000
# Runs that one action takes.
AT_ONCE = 100
# What a verb may say instead of doing it.
REFUSALS = (WorkflowsError, ImproperlyConfigured)


# What a person may do with runs -> the model permission that it takes.
PERMISSIONS = {
    "view": "view_handler",
    "run": "run_workflow",
    "answer": "answer_handler",
    "cancel": "cancel_handler",
    "purge": "delete_handler",
}


def may(request: HttpRequest, verb: str) -> bool:
    """Tell whether the person at the admin has the permission for a verb of :data:`PERMISSIONS`."""
    user: Any = request.user
    allowed: bool = user.has_perm(f"django_workflows.{PERMISSIONS[verb]}")
    return allowed


def require(request: HttpRequest, *verbs: str) -> None:
    """Raise PermissionDenied unless the person at the admin may do all of these."""
    if not all(may(request, verb) for verb in verbs):
        raise PermissionDenied


class Answered(Conflict):
    """Somebody else has answered the question, or the run has gone on without an answer."""

    def __init__(self) -> None:
        super().__init__(_("Somebody has answered this question meanwhile; your answer was not sent."))


# --- one run ---------------------------------------------------------------------------------------------


def cancel(request: HttpRequest, handler: Handler) -> None:
    """Cancel a run; the run's process ends it.

    Raises:
        HandlerNotFound, HandlerFinished: it is gone, or has ended.
    """
    with database.atomic():
        service.cancel(handler.handler_id)
        _keep(request, handler, CHANGE, _("Cancelled."))


def purge(request: HttpRequest, handler: Handler) -> None:
    """End a run and delete it with all that belongs to it.

    Raises:
        HandlerNotFound: it is gone.
    """
    with database.atomic():
        service.purge(handler.handler_id)
        _keep(request, handler, DELETION, "")


def start(
    request: HttpRequest, workflow: str, event: StartEvent, *, handler_id: str | None = None, note: str = ""
) -> Handler:
    """Start a run whose owner is the person at the admin."""
    owner: Any = request.user
    with database.atomic():
        handler = service.start(workflow, event, handler_id=handler_id, owner=owner)
        _keep(request, handler, ADDITION, note or _("Started."))
    return handler


def repeat(request: HttpRequest, handler: Handler) -> Handler:
    """Start another run with the input of a handler's.

    Raises:
        WorkflowsError: its workflow is not served, or does not take the input any more.
    """
    note = _("Started with the input of %(id)s.") % {"id": handler.handler_id}
    return start(request, handler.workflow_name, start_event(handler), note=note)


def start_event(handler: Handler) -> StartEvent:
    """Return what a run was started with.

    Raises:
        WorkflowsError: its workflow is not served, or does not know the input any more.
    """
    served = registry.get(handler.workflow_name)
    try:
        event = serialization.load_event(handler.start_event, serialization.serializer(served))
    except Exception as error:
        raise Conflict(_("Its input cannot be read: %(problem)s") % {"problem": error}) from None
    if not isinstance(event, StartEvent):
        raise Conflict(_("Its input cannot be read: it is no start event."))
    return event


def answer(request: HttpRequest, handler: Handler, event: Event, position: str) -> None:
    """Send an answer to a run, unless somebody has answered since the question was shown.

    Args:
        position: where the run was when the question was shown.

    Raises:
        Answered: it has gone on, or an answer is on its way.
        HandlerNotFound, HandlerFinished: it is gone, or has ended.
    """
    with database.atomic():
        # Two people who answer at the same time come one after the other through this lock.
        rows = Handler.objects.using(database.alias()).filter(pk=handler.pk)
        found = database.locked(rows).first()
        if found is None:
            raise HandlerNotFound
        if found.has_ended:
            raise HandlerFinished
        if questions.position(found) != position or questions.has_mail(found):
            raise Answered
        service.send_event(found.handler_id, event)
        _keep(request, found, CHANGE, _said(event))


def _said(event: Event) -> str:
    content = labels.as_json(forms.fields_of(event), indent=None)
    return _("Answered %(type)s: %(content)s") % {
        "type": type(event).__name__,
        "content": Truncator(content).chars(KEPT),
    }


def _keep(request: HttpRequest, handler: Handler, flag: int, message: str) -> None:
    """Note in the admin's log who did it."""
    person: Any = request.user
    LogEntry.objects.create(
        user_id=person.pk,
        content_type_id=ContentType.objects.get_for_model(Handler).pk,
        object_id=str(handler.pk),
        object_repr=handler.handler_id[:200],
        action_flag=flag,
        change_message=message,
    )


# --- many runs -------------------------------------------------------------------------------------------


def cancel_all(request: HttpRequest, handlers: Iterable[Handler]) -> None:
    def said(number: int) -> str:
        return ngettext("%(number)d run is being cancelled.", "%(number)d runs are being cancelled.", number)

    _each(request, handlers, cancel, said)


def repeat_all(request: HttpRequest, handlers: Iterable[Handler]) -> None:
    def said(number: int) -> str:
        return ngettext("%(number)d run was started.", "%(number)d runs were started.", number)

    _each(request, handlers, repeat, said)


def purge_all(request: HttpRequest, handlers: Iterable[Handler]) -> None:
    def said(number: int) -> str:
        return ngettext("%(number)d run was deleted.", "%(number)d runs were deleted.", number)

    _each(request, handlers, purge, said)


def _each(
    request: HttpRequest,
    handlers: Iterable[Handler],
    verb: Callable[[HttpRequest, Handler], object],
    said: Callable[[int], str],
) -> None:
    """Do it to each run in a transaction of its own, and tell to how many, and why not to the others."""
    done = 0
    refused: dict[str, list[str]] = {}
    for handler in handlers:
        try:
            verb(request, handler)
        except REFUSALS as refusal:
            refused.setdefault(reason(refusal), []).append(handler.handler_id)
        else:
            done += 1
    if done:
        messages.success(request, said(done) % {"number": done})
    for why, ids in refused.items():
        shown = ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
        text = ngettext(
            "%(number)d run was left as it is: %(why)s (%(ids)s)",
            "%(number)d runs were left as they are: %(why)s (%(ids)s)",
            len(ids),
        )
        messages.warning(request, text % {"number": len(ids), "why": why, "ids": shown})


def reason(refusal: Exception) -> str:
    """Return why something was not done, as people at the admin read it."""
    if isinstance(refusal, HandlerFinished):
        return _("The run has ended meanwhile.")
    if isinstance(refusal, HandlerNotFound):
        return _("The run has been deleted meanwhile.")
    return str(refusal)
