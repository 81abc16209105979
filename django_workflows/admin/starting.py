"""Starting runs from the admin: choose a workflow, fill in the form of its start event."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html
from django.utils.translation import gettext as _
from workflows.events import StartEvent

from django_workflows import handlers, registry
from django_workflows.admin import verbs
from django_workflows.admin.forms import EventForm, fields_of
from django_workflows.admin.records import ReadOnlyAdmin
from django_workflows.exceptions import HandlerNotFound, WorkflowNotFound
from django_workflows.models import Handler
from django_workflows.registry import Served


def choose(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """List the workflows that can be started."""
    verbs.require(request, "view", "run")
    offered = [
        {"name": served.name, "about": _about(served), "url": model_admin.address("start", served.name)}
        for served in registry.all_served()
    ]
    return model_admin.page(request, "handler/choose", _("Start a run"), workflows=offered)


def _about(served: Served) -> str:
    text = (type(served.workflow).__doc__ or "").strip()
    return text.split("\n\n")[0]


def start(model_admin: ReadOnlyAdmin, request: HttpRequest, workflow: str) -> HttpResponse:
    """Show the form of a workflow's start event, or start a run with it."""
    verbs.require(request, "view", "run")
    try:
        served = registry.get(workflow)
    except (WorkflowNotFound, ImproperlyConfigured) as error:
        raise Http404(str(error)) from None
    title = _("Start %(workflow)s") % {"workflow": workflow}
    return _form(model_admin, request, served, None, title, _("Started."))


def again(model_admin: ReadOnlyAdmin, request: HttpRequest, handler: Handler) -> HttpResponse:
    """Show the form with a handler's input, or start another run with what it was changed to."""
    verbs.require(request, "view", "run")
    begin = None
    try:
        served = registry.get(handler.workflow_name)
        begin = fields_of(verbs.start_event(handler))
    except verbs.REFUSALS as refusal:
        messages.warning(request, verbs.reason(refusal))
        if isinstance(refusal, WorkflowNotFound | ImproperlyConfigured):
            return HttpResponseRedirect(model_admin.address("change", handler.pk))
    title = _("Run %(workflow)s again") % {"workflow": handler.workflow_name}
    note = _("Started from the input of %(id)s.") % {"id": handler.handler_id}
    return _form(model_admin, request, served, begin, title, note)


def _started(handler_id: str | None) -> Handler | None:
    try:
        return handlers.find(handler_id or "")
    except HandlerNotFound:
        return None


def _form(
    model_admin: ReadOnlyAdmin,
    request: HttpRequest,
    served: Served,
    begin: dict[str, Any] | None,
    title: str,
    note: str,
) -> HttpResponse:
    is_post = request.method == "POST"
    form = EventForm(served.start_event_class, request.POST if is_post else None, initial=begin)
    # The run's id is chosen when the form is shown, so that a form that is sent twice starts one run.
    handler_id = request.POST.get("handler_id") if is_post else None
    if is_post and form.is_valid():
        started = _started(handler_id)
        if started is not None:
            messages.info(request, _("This run was started already."))
            return HttpResponseRedirect(model_admin.address("change", started.pk))
        try:
            assert isinstance(form.event, StartEvent)
            handler = verbs.start(request, served.name, form.event, handler_id=handler_id, note=note)
        except verbs.REFUSALS as refusal:
            form.add_error(None, verbs.reason(refusal))
        else:
            where = model_admin.address("change", handler.pk)
            said = _("The run {} of {} was started.")
            messages.success(request, format_html(said, handler.handler_id, served.name))
            return HttpResponseRedirect(where)
    return model_admin.page(
        request,
        "handler/start",
        title,
        form=form,
        workflow=served.name,
        about=_about(served),
        handler_id=handler_id or handlers.new_id(),
    )
