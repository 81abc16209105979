"""What a WebSocket's opening says as a request, and whose page it may come from."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from hypothesis import given
from hypothesis import strategies as st

from django_workflows.api import handshake
from django_workflows.exceptions import InvalidRequest


def scope(*headers: tuple[bytes, bytes], subprotocols: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": "/app/ws/events/h",
        "root_path": "",
        "query_string": b"after_sequence=-1",
        "headers": [(b"host", b"example.org"), *headers],
        "subprotocols": list(subprotocols),
        **more,
    }


def authorization(value: bytes) -> str:
    return "authorization." + base64.urlsafe_b64encode(value).decode().rstrip("=")


@pytest.mark.parametrize(
    ("origin", "more", "allowed"),
    [
        (None, {}, True),
        ("http://example.org", {}, True),
        ("HTTP://EXAMPLE.ORG", {}, True),
        # A proxy may keep it to itself that the connection is secure.
        ("https://example.org", {}, True),
        ("https://example.org", {"scheme": "wss"}, True),
        ("http://example.org", {"scheme": "wss"}, False),
        ("ftp://example.org", {}, False),
        ("https://example.org:8443", {}, False),
        ("https://example.org.evil.example", {}, False),
        ("https://user@example.org", {}, False),
        ("https://sub.example.org", {}, False),
        ("https://trusted.example", {}, True),
        ("http://trusted.example", {}, False),
        ("https://one.many.example", {}, True),
        ("https://many.example", {}, True),
        ("https://notmany.example", {}, False),
        ("null", {}, False),
        ("", {}, False),
        ("http://[", {}, False),
    ],
)
def test_origins(origin: str | None, more: dict[str, Any], allowed: bool, settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example", "https://*.many.example"]
    headers = [] if origin is None else [(b"origin", origin.encode())]
    assert handshake.comes_from_here(scope(*headers, **more)) is allowed


def test_an_origin_at_a_host_that_is_not_ours(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["example.com"]
    assert not handshake.comes_from_here(scope((b"origin", b"http://example.org")))


def test_two_origins() -> None:
    assert not handshake.comes_from_here(scope(*[(b"origin", b"http://example.org")] * 2))


def test_the_forwarded_host_counts_where_the_site_trusts_it(settings: Any) -> None:
    found = scope((b"origin", b"http://public.example"), (b"x-forwarded-host", b"public.example"))
    assert not handshake.comes_from_here(found)
    settings.USE_X_FORWARDED_HOST = True
    assert handshake.comes_from_here(found)


def test_a_handshake_as_a_request() -> None:
    found = handshake.as_get(
        scope(
            (b"cookie", b"sessionid=1"),
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-key", b"x"),
            (b"sec-websocket-protocol", b"secret"),
            (b"authorization", b"Basic x"),
            subprotocols=("django-workflows", authorization(b"Token secret")),
            scheme="wss",
        )
    )
    request = ASGIRequest(found, BytesIO())
    assert (request.method, request.path, request.GET["after_sequence"]) == ("GET", "/app/ws/events/h", "-1")
    assert request.is_secure()
    assert request.COOKIES == {"sessionid": "1"}
    assert dict(request.headers) == {
        "Host": "example.org",
        "Cookie": "sessionid=1",
        "Authorization": "Token secret",
    }
    assert "subprotocols" not in found


def test_a_command_as_a_request() -> None:
    found = handshake.as_get(scope((b"cookie", b"sessionid=1"), (b"authorization", b"Basic x")))
    request = ASGIRequest(handshake.as_post(found, "events/h", b"{}"), BytesIO(b"{}"))
    assert (request.method, request.get_full_path(), request.read()) == ("POST", "/app/events/h", b"{}")
    assert (request.content_type, request.META["CONTENT_LENGTH"]) == ("application/json", "2")
    assert request.COOKIES == {"sessionid": "1"}
    assert request.headers["Authorization"] == "Basic x"


@given(value=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_credentials_are_read_as_they_were_written(value: str) -> None:
    found = handshake.as_get(scope(subprotocols=(authorization(value.encode()),)))
    assert (b"authorization", value.encode()) in found["headers"]


@given(text=st.text(st.characters(min_codepoint=0, max_codepoint=255)))
def test_any_subprotocol_is_read_or_refused(text: str) -> None:
    try:
        found = handshake.as_get(scope(subprotocols=(f"authorization.{text}",)))
    except InvalidRequest:
        return
    (value,) = [value for name, value in found["headers"] if name == b"authorization"]
    assert value.decode("latin1").isprintable()
