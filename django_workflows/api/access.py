"""Who may do what: the site's classes and the workflow's are asked, for a request, a run, and a list of runs.

A workflow's own permission classes are asked in addition to the site's, so they can only forbid more. Whoever
may not read a run is told that it does not exist; whoever may read it but not do what is asked is told so.
The same goes for a workflow and ``describe``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import Q
from django.utils.module_loading import import_string
from rest_framework.authentication import BaseAuthentication
from rest_framework.parsers import BaseParser
from rest_framework.permissions import AND, NOT, OR, BasePermission
from rest_framework.request import Request, clone_request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from django_workflows import conf, registry
from django_workflows.api.permissions import EVERY_HANDLER, NO_HANDLER
from django_workflows.exceptions import HandlerNotFound, WorkflowNotFound
from django_workflows.models import Handler
from django_workflows.registry import Served


class Unread(BaseParser):
    """Leaves a request's body to the view.

    Who authenticates by session looks for a CSRF token in forms; what it would read there, a view could not any
    more, and Django's limit for forms is below that of our bodies. The token comes in a header.
    """

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        return {}


class AuthorisedView(APIView):
    """A view that says what is asked for (``action``), and asks the classes of the settings whether it may be.

    Attributes:
        actions: method -> what it does, one of ``permissions.ACTIONS``; any other method reads.
        action: what is asked for now.
        workflow_name: the workflow that is asked about, None where none is known.
    """

    parser_classes = [Unread]

    actions: dict[str, str] = {}
    action: str
    workflow_name: str | None

    # --- the classes ----------------------------------------------------------------------------------

    def get_authenticators(self) -> list[BaseAuthentication]:
        paths = conf.get().AUTHENTICATION_CLASSES
        if paths is None:
            return super().get_authenticators()
        return [import_string(path)() for path in paths]

    def get_permissions(self) -> list[Any]:
        paths = conf.get().PERMISSION_CLASSES
        if paths is None:
            return list(super().get_permissions())
        return [import_string(path)() for path in paths]

    def get_throttles(self) -> list[BaseThrottle]:
        paths = conf.get().THROTTLE_CLASSES
        if paths is None:
            return super().get_throttles()
        return [import_string(path)() for path in paths]

    # --- a request ------------------------------------------------------------------------------------

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        found = super().initialize_request(request, *args, **kwargs)
        # Our parser needs nothing of it, and what it refers to would be in memory until garbage is collected.
        found.parser_context.clear()
        self.action = self.action_of(found)
        self.workflow_name = self.kwargs.get("name")
        return found

    def action_of(self, request: Request) -> str:
        """Return what a request asks for."""
        method = request.method or ""
        return self.actions.get("GET" if method == "HEAD" else method, "read")

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if self.workflow_name is None:
            return
        refusing = _refusing(_own(self.workflow_name), request, self)
        if refusing is not None:
            if self.action == "describe" or not self.may_describe(self.workflow_name):
                raise self.workflow_not_found(self.workflow_name)
            self._deny(request, refusing)

    def workflow_not_found(self, name: str) -> WorkflowNotFound:
        """Return what says that there is no such workflow, or none that the user may know of."""
        return WorkflowNotFound()

    def may_describe(self, name: str) -> bool:
        """Tell whether the user may know that a workflow is served."""
        with self._asking("describe", name) as request:
            return _refusing([*self.get_permissions(), *_own(name)], request, self) is None

    def visible_workflows(self) -> Iterator[Served]:
        """Yield the workflows that the user may know of."""
        hidden = {name for name in registry.guarded() if not self.may_describe(name)}
        for served in registry.all_served():
            if served.name not in hidden:
                yield served

    def _deny(self, request: Request, permission: Any) -> None:
        message, code = getattr(permission, "message", None), getattr(permission, "code", None)
        self.permission_denied(request, message=message, code=code)

    # --- a run ----------------------------------------------------------------------------------------

    def check_object_permissions(self, request: Request, obj: Handler) -> None:
        """Raise unless the user may do with a run what is asked for.

        Raises:
            HandlerNotFound: the user may not know that it exists.
            PermissionDenied: the user may read it, and no more.
        """
        self.check_action(self.action, obj)

    def check_action(self, action: str, handler: Handler) -> None:
        """Raise unless the user may do something with a run, be it what this request asks for or not.

        For whoever does several things with one connection: each is a question of its own.

        Raises:
            HandlerNotFound: the user may not know that it exists.
            PermissionDenied: the user may read it, and no more.
        """
        with self._asking(action, handler.workflow_name) as request:
            # What the view was entered for, the site's classes have been asked already.
            is_new = request is not self.request
            refusing = self._refusing(request, handler, entering=is_new)
        if refusing is None:
            return
        if action != "read":
            with self._asking("read", handler.workflow_name) as request:
                may_read = self._refusing(request, handler, entering=True) is None
            if may_read:
                self._deny(self.request, refusing)
        raise HandlerNotFound

    def _refusing(self, request: Request, handler: Handler, *, entering: bool) -> Any:
        """Return the permission that refuses what is asked for with a run, None when none does."""
        site, own = self.get_permissions(), _own(handler.workflow_name)
        asked = [*site, *own] if entering else own
        refusing = _refusing(asked, request, self)
        if refusing is not None:
            return refusing
        for permission in (*site, *own):
            if not permission.has_object_permission(request, self, handler):
                return permission
        return None

    @contextmanager
    def _asking(self, action: str, workflow_name: str | None) -> Iterator[Request]:
        """Ask for an action; what only reads is asked for with GET, for classes that look at the method."""
        before = self.action, self.workflow_name
        request = self.request
        if action != self.action:
            method = "GET" if action in ("describe", "read") else "POST"
            request = clone_request(request, method)
        self.action, self.workflow_name = action, workflow_name
        try:
            yield request
        finally:
            self.action, self.workflow_name = before

    # --- a list ---------------------------------------------------------------------------------------

    def visible_handlers(self) -> tuple[Q, bool]:
        """Return which handlers the user may read, and whether that is all there is to ask.

        Otherwise each handler that it lets through has to be asked about (:meth:`may_read`).
        """
        condition, is_exact = _visible(self.get_permissions(), self.request, self)
        for name in registry.guarded():
            with self._asking("read", name) as request:
                own = _own(name)
                if _refusing(own, request, self) is not None:
                    condition &= ~Q(workflow_name=name)
                    continue
                through, exact = _visible(own, request, self)
            condition &= ~Q(workflow_name=name) | through
            is_exact = is_exact and exact
        return condition, is_exact

    def may_read(self, handler: Handler) -> bool:
        try:
            self.check_action("read", handler)
        except HandlerNotFound:
            return False
        return True


def _own(name: str) -> list[Any]:
    """Return a workflow's own permissions."""
    classes = registry.permission_classes(name)
    return [cls() for cls in classes] if classes else []


def _refusing(permissions: Iterable[Any], request: Request, view: AuthorisedView) -> Any:
    return next((one for one in permissions if not one.has_permission(request, view)), None)


def _visible(permissions: Iterable[Any], request: Request, view: AuthorisedView) -> tuple[Q, bool]:
    """Return which handlers permissions let through together, at most, and whether these are exactly they."""
    condition, is_exact = EVERY_HANDLER, True
    for permission in permissions:
        through, exact = _through(permission, request, view)
        condition, is_exact = condition & through, is_exact and exact
    return condition, is_exact


def _through(permission: Any, request: Request, view: AuthorisedView) -> tuple[Q, bool]:
    operator = type(permission)
    if operator is AND:
        return _visible((permission.op1, permission.op2), request, view)
    if operator is OR:
        condition, is_exact = NO_HANDLER, True
        for one in (permission.op1, permission.op2):
            if one.has_permission(request, view):
                through, exact = _through(one, request, view)
                condition, is_exact = condition | through, is_exact and exact
        return condition, is_exact
    if operator is NOT:
        through, exact = _through(permission.op1, request, view)
        return (~through, True) if exact else (EVERY_HANDLER, False)
    of_objects, of_lists = (_home(permission, name) for name in ("has_object_permission", "visible_handlers"))
    if of_objects is BasePermission and of_lists is None:
        return EVERY_HANDLER, True
    # A subclass that decides otherwise about objects has not said so of lists.
    if of_lists is not None and of_objects is not None and issubclass(of_lists, of_objects):
        return permission.visible_handlers(request, view), True
    return EVERY_HANDLER, False


def _home(permission: Any, name: str) -> type | None:
    """Return the class that an object has a method from."""
    return next((cls for cls in type(permission).__mro__ if name in vars(cls)), None)
