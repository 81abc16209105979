"""Permission classes for the API: for PERMISSION_CLASSES, a workflow's "permission_classes", and to build on.

They are ordinary classes of the REST framework, joined by ``&``, ``|`` and ``~``. What is asked for stands in
``view.action``:

=========== ==========================================================================================
describe    list the workflows, get a workflow's schemas and graph, and ``openapi.json``
start       start a run; with the handler as object when it continues one
read        list runs, get a run and its result, stream its events
answer      send an event to a run
cancel      cancel a run
purge       delete a run
=========== ==========================================================================================

and ``view.workflow_name`` is the workflow that is asked about, None where it is not known (yet).

A class with ``has_object_permission`` decides about lists as well. So that a list is a single query, it may say
which handlers it lets through::

    def visible_handlers(self, request, view) -> Q: ...

Without it, a list asks ``has_object_permission`` for each row of a page, and the page comes out shorter.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

ACTIONS = ("describe", "start", "read", "answer", "cancel", "purge")

# Action -> the model permissions of which one is needed.
MODEL_PERMISSIONS = {
    "describe": ("view_handler", "run_workflow"),
    "start": ("run_workflow",),
    "read": ("view_handler",),
    "answer": ("answer_handler",),
    "cancel": ("cancel_handler",),
    "purge": ("delete_handler",),
}

NO_HANDLER = Q(pk__in=())
EVERY_HANDLER = ~NO_HANDLER


class HasModelPermission(BasePermission):
    """Whoever has the action's model permission may do it with every run.

    The permissions are those of the admin: ``view_handler`` to read, ``run_workflow`` to start,
    ``answer_handler``, ``cancel_handler``, and ``delete_handler`` to purge.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        return has_model_permission(request.user, view.action)


class IsOwner(BasePermission):
    """Users start runs, and see, answer, cancel and purge their own; staff with the model permission do all.

    Nobody else's run exists for them (404). Runs without an owner are for staff.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated)

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        user: Any = request.user
        if not (user and user.is_authenticated):
            return False
        return obj.owner_id == user.pk or _is_supervisor(user, view.action)

    def visible_handlers(self, request: Request, view: Any) -> Q:
        user: Any = request.user
        if not (user and user.is_authenticated):
            return NO_HANDLER
        return EVERY_HANDLER if _is_supervisor(user, view.action) else Q(owner=user.pk)


def has_model_permission(user: Any, action: str) -> bool:
    """Tell whether a user has the model permission of an action."""
    if not (user and user.is_authenticated):
        return False
    return any(user.has_perm(f"django_workflows.{name}") for name in MODEL_PERMISSIONS[action])


def _is_supervisor(user: Any, action: str) -> bool:
    return bool(user.is_staff) and has_model_permission(user, action)
