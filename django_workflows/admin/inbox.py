"""The inbox: the runs that wait for a person, and the forms to answer them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from django_workflows.admin import labels, questions, verbs
from django_workflows.admin.forms import EventForm
from django_workflows.admin.questions import Question
from django_workflows.admin.records import ReadOnlyAdmin
from django_workflows.models import Handler

# Runs on a page, and the number that the count on the index goes up to.
PAGE, COUNTED = 20, 99
# Where an answer leads back to.
INBOX, DETAIL = "inbox", "change"


@dataclass(frozen=True)
class Entry:
    """A run in the inbox; ``form`` is None where it cannot be answered here, or with one of several events."""

    handler: Handler
    question: Question | None
    waits: str
    url: str
    answer_url: str
    position: str
    form: EventForm | None
    event: str
    others: bool


def count(request: HttpRequest) -> str:
    """Return how many runs wait, "99+" for more; empty for none, and for who may not see them."""
    if not verbs.may(request, "view"):
        return ""
    number = questions.waiting().order_by()[: COUNTED + 1].count()
    return "" if not number else f"{COUNTED}+" if number > COUNTED else str(number)


def inbox(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """List the runs that wait for an answer, the oldest first."""
    verbs.require(request, "view")
    number = request.GET.get("p", "")
    page = min(int(number), 500) if number.isascii() and number.isdecimal() and len(number) < 6 else 1
    page = max(page, 1)
    runs = questions.waiting().prefetch_related("owner").defer("start_event", "result", "error")
    found: list[Handler] = list(runs[(page - 1) * PAGE : page * PAGE + 1])
    asked = questions.of(found[:PAGE])
    positions = questions.positions(found[:PAGE])
    may_answer = verbs.may(request, "answer")
    entries = [
        _entry(model_admin, handler, asked.get(handler.pk), positions[handler.pk], may_answer)
        for handler in found[:PAGE]
    ]
    return model_admin.page(
        request,
        "handler/inbox",
        _("Inbox"),
        entries=entries,
        may_answer=may_answer,
        earlier=f"?p={page - 1}" if page > 1 else "",
        later=f"?p={page + 1}" if len(found) > PAGE else "",
    )


def _entry(
    model_admin: ReadOnlyAdmin, handler: Handler, question: Question | None, position: str, may_answer: bool
) -> Entry:
    offered = questions.answers(handler.workflow_name) if may_answer else []
    assert handler.idle_since is not None
    return Entry(
        handler,
        question,
        labels.age(handler.idle_since),
        model_admin.address("change", handler.pk),
        model_admin.address("answer", handler.pk),
        position,
        # Several forms may stand on one page.
        EventForm(offered[0], auto_id=f"run{handler.pk}_%s") if offered else None,
        offered[0].__name__ if offered else "",
        len(offered) > 1,
    )


def answer(model_admin: ReadOnlyAdmin, request: HttpRequest, handler: Handler) -> HttpResponse:
    """Show what a run asks, with a form for each event that answers it; or send the answer."""
    verbs.require(request, "view", "answer")
    came_from = INBOX if request.GET.get("from") == INBOX else DETAIL
    back = model_admin.address(INBOX) if came_from == INBOX else model_admin.address(DETAIL, handler.pk)
    offered = {event.__name__: event for event in questions.answers(handler.workflow_name)}
    chosen = (request.POST if request.method == "POST" else request.GET).get("event", "")
    event_class = offered.get(chosen) or next(iter(offered.values()), None)
    if handler.has_ended or event_class is None:
        why = _("The run has ended meanwhile.") if handler.has_ended else _("This run takes no event from people.")
        messages.warning(request, why)
        return HttpResponseRedirect(back)
    is_post = request.method == "POST" and chosen == event_class.__name__
    form = EventForm(event_class, request.POST if is_post else None)
    position = request.POST.get("position", "") if is_post else questions.position(handler)
    if is_post and form.is_valid():
        assert form.event is not None
        try:
            verbs.answer(request, handler, form.event, position)
        except verbs.Answered as refusal:
            # What was written stays there to be read; to send it anyway, it has to be decided anew.
            messages.error(request, str(refusal))
            position = questions.position(handler)
        except verbs.REFUSALS as refusal:
            messages.error(request, verbs.reason(refusal))
            return HttpResponseRedirect(back)
        else:
            said = _("Your answer to %(id)s is sent.") % {"id": handler.handler_id}
            messages.success(request, said)
            return HttpResponseRedirect(back)
    choices: list[dict[str, Any]] = [{"name": name, "is_chosen": name == event_class.__name__} for name in offered]
    return model_admin.page(
        request,
        "handler/answer",
        _("Answer"),
        handler=handler,
        question=questions.of([handler]).get(handler.pk),
        waits=labels.age(handler.idle_since) if handler.idle_since else "",
        form=form,
        event=event_class.__name__,
        choices=choices,
        position=position,
        came_from=came_from,
        back=back,
    )
