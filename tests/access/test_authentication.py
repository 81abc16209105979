"""Whoever is known by session, token, password or a third party's class is known everywhere; and throttling."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.core.cache import cache
from django.test import Client
from rest_framework.throttling import AnonRateThrottle

from tests.access import people
from tests.access.conftest import Site, serving
from tests.access.people import OTHER, OWNER
from tests.storage import a_run

ANSWER = {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}}


def log_in(site: Site) -> httpx.Client:
    """Return a client with the session of the owner, as a login page gives it."""
    client = httpx.Client(base_url=site.server.origin, timeout=20, verify=False, follow_redirects=True)
    page = client.get("/login/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None, page.text
    form = {
        "username": "owner",
        "password": people.PASSWORD,
        "csrfmiddlewaretoken": token[1],
        "next": "/workflows/health",
    }
    client.post("/login/login/", data=form, headers={"Referer": site.server.origin})
    assert "sessionid" in client.cookies
    return client


@pytest.fixture(scope="module")
def session(owners: Site) -> Iterator[httpx.Client]:
    client = log_in(owners)
    client.base_url = httpx.URL(owners.server.url)
    yield client
    client.close()


def ways(site: Site, session: httpx.Client) -> dict[str, dict[str, Any]]:
    """Return what httpx needs for each way to say that one is the owner."""
    return {
        "token": {"headers": {"Authorization": f"Token {site.tokens['owner']}"}},
        "basic": {"auth": ("owner", people.PASSWORD)},
        "third party": {"headers": {"X-Badge": "owner"}},
        "session": {
            "cookies": dict(session.cookies),
            "headers": {"X-CSRFToken": session.cookies["csrftoken"]},
        },
    }


@pytest.mark.parametrize("way", ["token", "basic", "third party", "session"])
def test_every_way_to_be_known_works_everywhere(owners: Site, session: httpx.Client, way: str) -> None:
    known = ways(owners, session)[way]
    with httpx.Client(base_url=owners.server.url, timeout=20, verify=False, **known) as client:
        started = client.post("/workflows/ask/run-nowait", json={})
        assert started.status_code == 200, started.text
        handler_id = started.json()["handler_id"]
        assert handler_id in client.get("/handlers?owner=me").text
        assert client.get(f"/handlers/{handler_id}").status_code == 202
        for query in ("sse=true", "sse=false"):
            with client.stream("GET", f"/events/{handler_id}?after_sequence=-1&{query}") as stream:
                assert b"InputRequiredEvent" in next(part for part in stream.iter_bytes() if part)
        assert client.post(f"/events/{handler_id}", json=ANSWER).json() == {"status": "sent"}
        assert client.post(f"/handlers/{handler_id}/cancel?purge=true").json() == {"status": "deleted"}
        assert client.get("/openapi.json").status_code == 200
    assert owners.as_(OTHER).get(f"/handlers/{handler_id}").status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"Authorization": "Token 0123"}},
        {"auth": ("owner", "wrong")},
        {"headers": {"X-Badge": "nobody"}},
        {"headers": {b"Authorization": b"Token \xff"}},
        {"headers": {"Authorization": "Basic ???"}},
    ],
    ids=str,
)
def test_wrong_credentials_are_answered_401_everywhere(owners: Site, wrong: dict[str, Any]) -> None:
    handler_id = owners.start(OWNER)
    with httpx.Client(base_url=owners.server.url, timeout=20, verify=False, **wrong) as client:
        for answer in (
            client.get(f"/events/{handler_id}"),
            client.get(f"/events/{handler_id}?sse=false"),
            client.get("/handlers"),
            client.post("/workflows/ask/run", json={}),
        ):
            assert answer.status_code == 401
            assert set(answer.json()) == {"detail"}
            assert "WWW-Authenticate" in answer.headers


def test_a_session_posts_only_with_its_csrf_token(owners: Site, session: httpx.Client) -> None:
    handler_id = owners.start(OWNER)
    for path, body in (
        ("/workflows/ask/run", {}),
        ("/workflows/ask/run-nowait", {}),
        (f"/events/{handler_id}", ANSWER),
        (f"/handlers/{handler_id}/cancel", None),
        (f"/handlers/{handler_id}/cancel?purge=true", None),
    ):
        for headers in ({}, {"X-CSRFToken": "0" * 64}, {"Content-Type": "text/plain"}):
            answer = session.post(path, json=body, headers=headers)
            assert answer.status_code == 403
            assert answer.json()["detail"].startswith("CSRF Failed: CSRF ")
    assert session.get(f"/handlers/{handler_id}").status_code == 202


@pytest.mark.parametrize(
    "content_type",
    # Daphne itself reads multipart/form-data.
    ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"],
)
def test_a_session_may_send_what_others_may(owners: Site, session: httpx.Client, content_type: str) -> None:
    """A body of 4 MB too, whatever it says that it is."""
    headers = {"Content-Type": content_type, "X-CSRFToken": session.cookies["csrftoken"]}
    content = b'{"start_event": {"text": "' + b"x" * 4_000_000 + b'"}}'
    answer = session.post("/workflows/echo/run", content=content, headers=headers)
    assert answer.status_code == 200, answer.text[:200]
    assert len(answer.json()["result"]["value"]["result"]["text"]) == 4_000_000


# --- throttling --------------------------------------------------------------------------------------------


class TwoAMinute(AnonRateThrottle):
    rate = "2/min"


def test_throttling_counts_every_entrance() -> None:
    with (
        serving(
            PERMISSION_CLASSES=["rest_framework.permissions.AllowAny"],
            THROTTLE_CLASSES=[f"{__name__}.TwoAMinute"],
        ) as site,
        httpx.Client(base_url=site.server.url, timeout=20, verify=False) as client,
    ):
        run = client.post("/workflows/echo/run", json={}).json()["handler_id"]
        with client.stream("GET", f"/events/{run}?after_sequence=-1") as stream:
            assert stream.status_code == 200
        for answer in (
            client.get(f"/events/{run}?after_sequence=-1"),
            client.get(f"/events/{run}?after_sequence=-1&sse=false"),
            client.post("/workflows/echo/run", json={}),
            client.get("/handlers"),
            client.get("/openapi.json"),
        ):
            assert answer.status_code == 429
            assert set(answer.json()) == {"detail"}
            assert 0 < int(answer.headers["Retry-After"]) <= 60
        # Whoever balances the load is not turned away.
        assert client.get("/health").status_code == 200


class ThreeAMinute(AnonRateThrottle):
    rate = "3/min"


@pytest.mark.django_db
def test_the_sites_own_throttling_applies_by_default(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from django_workflows.api.views import WorkflowsView

    settings.DJANGO_WORKFLOWS = {"PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"]}
    # What REST_FRAMEWORK["DEFAULT_THROTTLE_CLASSES"] has become when the views were imported.
    monkeypatch.setattr(WorkflowsView, "throttle_classes", [ThreeAMinute])
    cache.clear()
    a_run("h")
    statuses = [Client().get("/workflows/handlers/h").status_code for _ in range(5)]
    cache.clear()
    assert statuses == [202, 202, 202, 429, 429]
