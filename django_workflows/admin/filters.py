"""What the list of handlers can be narrowed to; no filter asks the large table for its choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_workflows import database, registry
from django_workflows.admin import labels
from django_workflows.models import Handler, Worker
from django_workflows.querysets import HandlerQuerySet

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
else:
    _ModelAdmin = admin.ModelAdmin

# Workers among which the filter lets choose.
WORKERS = 50


class ChoiceFilter(admin.SimpleListFilter):
    """A filter that is there with a single choice too, and that keeps a choice which is not offered."""

    def offered(self, request: HttpRequest) -> list[tuple[str, Any]]:
        raise NotImplementedError

    def value(self) -> str | None:
        value = super().value()
        # PostgreSQL refuses it.
        return None if value is None or "\x00" in value else value

    def lookups(self, request: HttpRequest, model_admin: _ModelAdmin) -> list[tuple[str, Any]]:
        found = self.offered(request)
        value = self.value()
        if value and value not in (key for key, _ in found):
            found.append((value, self.name_of(value)))
        return found

    def name_of(self, value: str) -> str:
        """Name a choice that is not among the offered, as a link may bring it."""
        return value


class StatusFilter(ChoiceFilter):
    title = _("status")
    parameter_name = "status"

    def offered(self, request: HttpRequest) -> list[tuple[str, Any]]:
        return list(Handler.Status.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.with_status([self.value()]) if self.value() else queryset


class AttentionFilter(ChoiceFilter):
    """Runs that somebody should look after."""

    title = _("needs")
    parameter_name = "needs"

    CHOICES: dict[str, tuple[Any, Callable[[HandlerQuerySet], HandlerQuerySet]]] = {
        "answer": (_("an answer"), lambda runs: runs.unanswered()),
        "worker": (_("a worker: its own is silent"), lambda runs: runs.orphaned(labels.lease_timeout())),
        "claim": (_("a worker: it has none"), lambda runs: runs.runnable()),
    }

    def offered(self, request: HttpRequest) -> list[tuple[str, Any]]:
        return [(key, name) for key, (name, _) in self.CHOICES.items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        chosen = self.CHOICES.get(self.value() or "")
        return queryset if chosen is None else chosen[1](queryset)


class WorkflowFilter(ChoiceFilter):
    title = _("workflow")
    parameter_name = "workflow"

    def offered(self, request: HttpRequest) -> list[tuple[str, Any]]:
        return [(name, name) for name in registry.names()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.of_workflows([self.value()]) if self.value() else queryset


class OwnerFilter(ChoiceFilter):
    """Mine, nobody's, or those of the user in a link."""

    title = _("owner")
    parameter_name = "owner"

    def offered(self, request: HttpRequest) -> list[tuple[str, Any]]:
        return [("me", _("me")), ("nobody", _("nobody"))]

    def name_of(self, value: str) -> str:
        key = _key(get_user_model(), value)
        found = None if key is None else get_user_model()._default_manager.filter(pk=key).first()
        return value if found is None else str(found)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if not value:
            return queryset
        if value == "me":
            assert not isinstance(request.user, AnonymousUser)
            return queryset.filter(owner=request.user)
        if value == "nobody":
            return queryset.filter(owner=None)
        key = _key(get_user_model(), value)
        return queryset.none() if key is None else queryset.filter(owner=key)


class WorkerFilter(ChoiceFilter):
    title = _("worker")
    parameter_name = "worker"

    def offered(self, request: HttpRequest) -> list[tuple[str, Any]]:
        return [(str(worker.pk), str(worker)) for worker in self._workers()]

    def _workers(self) -> Iterator[Worker]:
        yield from Worker.objects.using(database.alias()).order_by("-heartbeat_at")[:WORKERS]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if not value:
            return queryset
        key = _key(Worker, value)
        return queryset.none() if key is None else queryset.filter(worker=key)


def _key(model: type[Model], value: str) -> Any:
    """Return a primary key from an address, None when it cannot be one."""
    field = model._meta.pk
    try:
        key = field.to_python(value)
        field.run_validators(key)
    except ValidationError:
        return None
    return key
