"""The debugger's page: its shell in HTML, for whom the permission classes let in.

Everything that it shows comes from the API, under the user's own permissions.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render, resolve_url
from django.urls import NoReverseMatch, Resolver404, resolve, reverse
from django.utils.cache import patch_vary_headers
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied
from rest_framework.request import Request

from django_workflows import conf
from django_workflows.api.views import WorkflowsView

_REFUSALS = (NotAuthenticated, AuthenticationFailed, PermissionDenied, DjangoPermissionDenied)


class DebuggerView(WorkflowsView):
    """The page, at the root of the include prefix."""

    actions = {"GET": "describe"}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not conf.get().DEBUGGER:
            raise Http404
        super().initial(request, *args, **kwargs)

    def get(self, request: Request) -> HttpResponse:
        context = {
            "csrf_token_value": get_token(request._request),
            # As a client sends it, from how WSGI names it.
            "csrf_header": settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-").title(),
            "user": request.user,
        }
        return self.page("debugger.html", context)

    def handle_exception(self, error: Exception) -> Any:
        return self.refuse(error) if isinstance(error, _REFUSALS) else super().handle_exception(error)

    def refuse(self, error: Exception) -> Any:
        """Answer who may not see the page: with the way in where there is one, and what is missing."""
        # Whom the session knows, whether or not the API listens to that; the API's answer has replaced it in user.
        known = get_user(self.request._request) if hasattr(self.request._request, "session") else AnonymousUser()
        by_session = any(isinstance(one, SessionAuthentication) for one in self.request.authenticators or ())
        challenge = self.get_authenticate_header(self.request)
        if not known.is_authenticated and not by_session and challenge and challenge.startswith("Basic"):
            response = self.page("debugger_refused.html", {"reason": "credentials"}, status=401)
            response["WWW-Authenticate"] = challenge
            return response
        if not known.is_authenticated:
            return redirect_to_login(self.request.get_full_path(), _login_url())
        reason = "permission" if by_session else "session"
        return self.page("debugger_refused.html", {"reason": reason, "detail": error, "user": known}, status=403)

    def page(self, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
        response = render(self.request._request, f"django_workflows/{template}", context, status=status)
        response["Content-Security-Policy"] = content_security_policy()
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "same-origin"
        # Who is let in, and as whom, is in the session.
        patch_vary_headers(response, ["Cookie"])
        return response


def content_security_policy() -> str:
    """Return the page's policy: its own origin, and that of the static files where they have another."""
    static = urlsplit(settings.STATIC_URL or "")
    origin = f" {static.scheme or 'https'}://{static.netloc}" if static.netloc else ""
    frames = "'self'" if getattr(settings, "X_FRAME_OPTIONS", "DENY").upper() == "SAMEORIGIN" else "'none'"
    return (
        f"default-src 'self'{origin}; connect-src 'self'; object-src 'none'; base-uri 'none'; "
        f"form-action 'self'; frame-ancestors {frames}"
    )


def _login_url() -> str:
    """Return the site's login page; the admin's where LOGIN_URL, as in a new project, leads nowhere."""
    url = resolve_url(settings.LOGIN_URL)
    try:
        # Included at the root of the site, our own pattern for what is not there would match.
        leads_somewhere = resolve(urlsplit(url).path).url_name != "not-found"
    except Resolver404:
        leads_somewhere = False
    if not leads_somewhere:
        with suppress(NoReverseMatch):
            return reverse("admin:login")
    return url
