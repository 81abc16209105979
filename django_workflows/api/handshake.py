"""The opening of a WebSocket, seen as the HTTP request that it is.

Who may open one, and who may command over it, is decided by the same middleware, authentication and permission
classes as over REST: a handshake is sent through Django as a GET of its path, and a command as the POST that it
stands for.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterable
from io import BytesIO
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.utils.http import is_same_domain

from django_workflows.api.handoff import Scope
from django_workflows.exceptions import InvalidRequest

Headers = Iterable[tuple[bytes, bytes]]

logger = logging.getLogger("django_workflows.api")

# The subprotocol that is chosen when a client offers it; one that offers any expects one to be chosen.
SUBPROTOCOL = "django-workflows"
# What a browser's script cannot say in a header it says in a subprotocol: this and the value of an
# Authorization header in base64url.
AUTHORIZATION = "authorization."

# The end of every socket's path, before the handler's id.
_PLACE = "ws/events/"
_OF_THE_CONNECTION = {b"connection", b"upgrade", b"content-length", b"transfer-encoding"}


def as_get(scope: Scope) -> Scope:
    """Return a handshake as a GET request, with the same path, query and cookies, and with its credentials.

    Raises:
        InvalidRequest: the credentials among the subprotocols cannot be read.
    """
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in _OF_THE_CONNECTION and not name.startswith(b"sec-websocket")
    ]
    authorization = _authorization(scope)
    if authorization is not None:
        # It was given for this connection; a browser adds the other one by itself.
        headers = [header for header in headers if header[0] != b"authorization"]
        headers.append((b"authorization", authorization))
    scheme = scope.get("scheme", "http")
    kept = {key: value for key, value in scope.items() if key not in ("subprotocols", "extensions")}
    return {
        **kept,
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": {"ws": "http", "wss": "https"}.get(scheme, scheme),
        "headers": headers,
    }


def as_post(request: Scope, path: str, body: bytes, headers: Headers = ()) -> Scope:
    """Return a POST request to another path of the API, by whoever has made the handshake.

    Args:
        request: the handshake as :func:`as_get` returns it.
        path: the path below the ``include()`` prefix.
        body: JSON.
        headers: more of them.
    """
    path = request["path"].rpartition(_PLACE)[0] + path
    return {
        **request,
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            *(header for header in request["headers"] if header[0] != b"content-type"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *headers,
        ],
    }


def subprotocol(scope: Scope) -> str | None:
    """Return the subprotocol to choose; never the one that carries credentials."""
    return SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None


def _authorization(scope: Scope) -> bytes | None:
    offered = [one for one in scope.get("subprotocols", ()) if one.startswith(AUTHORIZATION)]
    if not offered:
        return None
    if len(offered) > 1:
        raise InvalidRequest(f"More than one subprotocol begins with {AUTHORIZATION!r}")
    text = offered[0].removeprefix(AUTHORIZATION)
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        value = b""
    if not value or not value.decode("latin1").isprintable():
        raise InvalidRequest(
            f"The subprotocol {AUTHORIZATION}... must carry the value of an Authorization header in base64url"
        )
    return value


def comes_from_here(scope: Scope) -> bool:
    """Tell whether a handshake may act with the cookies that its browser has added.

    Browsers let every page open a WebSocket to every site, with the site's cookies, and say in ``Origin`` what
    page it is: it must be of the same host, or of one in CSRF_TRUSTED_ORIGINS. Whoever sends no Origin is no
    browser and has no cookies but its own.
    """
    origins = [value.decode("latin1") for name, value in scope["headers"] if name == b"origin"]
    if not origins:
        return True
    if len(origins) > 1:
        return False
    try:
        origin = urlsplit(origins[0])
        request = ASGIRequest(as_get({**scope, "subprotocols": []}), BytesIO())
        same_host = origin.netloc.lower() == request.get_host().lower()
        # A proxy need not have said that the connection is secure; where it is, a page that was not must not join.
        same_scheme = origin.scheme == "https" or (origin.scheme == "http" and not request.is_secure())
    except (ValueError, DisallowedHost):
        return False
    trusted = (same_host and same_scheme) or any(_covers(one, origin) for one in settings.CSRF_TRUSTED_ORIGINS)
    if not trusted:
        logger.warning("a WebSocket was refused: its origin %r is not in CSRF_TRUSTED_ORIGINS", origins[0])
    return trusted


def _covers(trusted: str, origin: SplitResult) -> bool:
    """Tell whether an entry of CSRF_TRUSTED_ORIGINS means an origin."""
    one = urlsplit(trusted)
    if one.scheme != origin.scheme:
        return False
    return is_same_domain(origin.netloc.lower(), one.netloc.lower().removeprefix("*"))
