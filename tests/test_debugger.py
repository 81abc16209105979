"""The debugger's page and its data, without a browser: who is let in, and what the page may load."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path
from django.utils import timezone
from rest_framework.permissions import BasePermission

from django_workflows.models import Context, Handler
from tests import browser, servers
from tests.servers import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/workflows/"
SESSION = "rest_framework.authentication.SessionAuthentication"
BASIC = "rest_framework.authentication.BasicAuthentication"
TOKEN = "rest_framework.authentication.TokenAuthentication"
LOGGED_IN = "rest_framework.permissions.IsAuthenticated"


class MaySeeHandlers(BasePermission):
    message = "You need the permission to view handlers."

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.user.has_perm("django_workflows.view_handler"))


def configure(settings: Any, *permissions: str, authentication: tuple[str, ...] = (SESSION,), **more: Any) -> None:
    settings.DJANGO_WORKFLOWS = {
        "AUTHENTICATION_CLASSES": authentication,
        "PERMISSION_CLASSES": permissions or (LOGGED_IN,),
        **more,
    }


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="secret")


def policy(response: Any) -> dict[str, str]:
    parts = response["Content-Security-Policy"].split("; ")
    return dict(part.split(" ", 1) for part in parts)


# --- who is let in -----------------------------------------------------------------------------------------


def test_who_is_not_logged_in_gets_the_login_page_and_comes_back_to_the_very_same_state(settings: Any) -> None:
    configure(settings)

    response = Client().get(PAGE + "?run=r-1&tab=state")

    assert response.status_code == 302
    assert response["Location"] == "/admin/login/?next=/workflows/%3Frun%3Dr-1%26tab%3Dstate"


def test_the_sites_own_login_page_is_taken_where_it_has_one(settings: Any) -> None:
    configure(settings)
    settings.ROOT_URLCONF = __name__
    settings.LOGIN_URL = "/enter/"

    assert Client().get(PAGE)["Location"].startswith("/enter/?next=")


@pytest.mark.parametrize("path", ["//evil.example/", "/workflows//evil.example/"])
def test_the_way_back_never_leads_to_another_site(settings: Any, path: str) -> None:
    configure(settings)

    assert "evil.example" not in Client().get(path).headers.get("Location", "").partition("next=")[0]


def test_who_is_logged_in_gets_the_page(settings: Any, ada: User) -> None:
    configure(settings)
    client = Client()
    client.force_login(ada)

    response = client.get(PAGE)

    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")
    assert 'data-user="ada"' in response.text
    assert 'data-base="/workflows/"' in response.text
    assert "Cookie" in response["Vary"]
    assert response["Cache-Control"] == "no-store"


def test_who_lacks_a_permission_is_told_which(settings: Any, ada: User) -> None:
    configure(settings, f"{__name__}.MaySeeHandlers")
    client = Client()
    client.force_login(ada)

    refused = client.get(PAGE)
    ada.user_permissions.add(Permission.objects.get(codename="view_handler"))

    assert refused.status_code == 403
    assert "ada" in refused.text
    assert MaySeeHandlers.message in refused.text
    assert policy(refused)["default-src"] == "'self'"
    assert client.get(PAGE).status_code == 200


def test_a_login_that_the_api_does_not_listen_to_is_explained_and_not_asked_for_again(
    settings: Any, ada: User
) -> None:
    configure(settings, authentication=(TOKEN,))
    client = Client()
    client.force_login(ada)

    response = client.get(PAGE)

    assert response.status_code == 403
    assert SESSION in response.text


def test_basic_authentication_alone_lets_the_browser_ask(settings: Any, ada: User) -> None:
    configure(settings, authentication=(BASIC,))
    client = Client()

    asked = client.get(PAGE)
    let_in = client.get(PAGE, headers={"authorization": httpx.BasicAuth("ada", "secret")._auth_header})

    assert asked.status_code == 401
    assert asked["WWW-Authenticate"].startswith("Basic")
    assert let_in.status_code == 200


def test_the_page_can_be_switched_off(settings: Any, ada: User) -> None:
    configure(settings, "rest_framework.permissions.AllowAny", DEBUGGER=False)

    response = Client().get(PAGE)

    assert response.status_code == 404
    assert response.json() == {"detail": "Not Found"}
    assert Client().get("/workflows/workflows").status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_it_is_only_read(settings: Any, method: str) -> None:
    configure(settings, "rest_framework.permissions.AllowAny")

    assert getattr(Client(), method)(PAGE).status_code == 405


# --- what it may load --------------------------------------------------------------------------------------


def everybody(settings: Any) -> Any:
    configure(settings, "rest_framework.permissions.AllowAny")
    return Client().get(PAGE)


def test_its_policy_lets_in_what_is_the_sites_own_alone(settings: Any) -> None:
    assert policy(everybody(settings)) == {
        "default-src": "'self'",
        "connect-src": "'self'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://cdn.example.com/static/", "'self' https://cdn.example.com"),
        ("//cdn.example.com/s/", "'self' https://cdn.example.com"),
        ("/files/", "'self'"),
    ],
)
def test_static_files_may_come_from_another_host(settings: Any, url: str, allowed: str) -> None:
    settings.STATIC_URL = url

    assert policy(everybody(settings))["default-src"] == allowed


def test_it_may_be_framed_where_the_sites_other_pages_may(settings: Any) -> None:
    settings.X_FRAME_OPTIONS = "SAMEORIGIN"

    assert policy(everybody(settings))["frame-ancestors"] == "'self'"


def test_nothing_is_inline_and_everything_it_names_is_there(settings: Any) -> None:
    html = everybody(settings).text

    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:", html)
    named = re.findall(r'(?:src|href)="/static/([^"]+)"', html)
    assert len(named) >= 4
    for name in named:
        assert finders.find(name), name


@pytest.mark.parametrize(("sessions", "http_only"), [(False, False), (False, True), (True, False)])
def test_the_csrf_token_is_in_the_page_however_the_site_keeps_it(
    settings: Any, ada: User, sessions: bool, http_only: bool
) -> None:
    configure(settings)
    settings.CSRF_USE_SESSIONS = sessions
    settings.CSRF_COOKIE_HTTPONLY = http_only
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    html = client.get(PAGE).text
    (token,) = re.findall(r'data-csrf="(\w+)"', html)
    (header,) = re.findall(r'data-csrf-header="([\w-]+)"', html)

    def post(**headers: str) -> int:
        url = "/workflows/workflows/nothing/run-nowait"
        return client.post(url, b"{}", content_type="application/json", headers=headers).status_code

    assert header == "X-Csrftoken"
    assert post() == 403
    # Past the token, there is no such workflow.
    assert post(**{header: token}) == 404


def test_names_with_markup_are_text(settings: Any) -> None:
    configure(settings)
    client = Client()
    client.force_login(User.objects.create_user('"><script>alert(1)</script>'))

    assert "<script>alert" not in client.get(PAGE).text


# --- a run from inside -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api() -> Iterator[httpx.Client]:
    with (
        servers.Database() as database,
        servers.terminating(browser.site(database)) as server,
        httpx.Client(base_url=server.url, timeout=30, auth=browser.ADA) as client,
    ):
        yield client


def start(api: httpx.Client, workflow: str, handler_id: str, **fields: Any) -> None:
    body = {"handler_id": handler_id, "start_event": fields}
    api.post(f"/workflows/{workflow}/run-nowait", json=body).raise_for_status()


def test_events_come_in_pages_with_their_times_and_the_engines_own(api: httpx.Client) -> None:
    start(api, "fan", "pages", parts=3, delay=0)
    wait_for(lambda: api.get("/handlers/pages").status_code == 200)
    whole = api.get("/handlers/pages/events").json()
    found: list[Any] = []
    while found == [] or found[-1]["sequence"] < whole["last_sequence"]:
        after = found[-1]["sequence"] if found else -1
        found += api.get("/handlers/pages/events", params={"after": after, "limit": 4}).json()["events"]

    assert found == whole["events"]
    assert [one["sequence"] for one in found] == list(range(whole["last_sequence"] + 1))
    assert {one["internal"] for one in found} == {True, False}
    assert [one["time"] for one in found] == sorted(one["time"] for one in found)
    assert found[-1]["time"] <= whole["now"]
    stream = api.get("/events/pages", params={"after_sequence": -1, "include_internal": "true", "sse": "false"})
    assert [one["event"] for one in found] == [
        httpx.Response(200, text=line).json() for line in stream.text.splitlines()
    ]


@pytest.mark.parametrize(
    "query", [{"after": "x"}, {"after": -2}, {"after": "9" * 30}, {"limit": 0}, {"limit": 1001}]
)
def test_a_page_that_there_cannot_be_is_refused(api: httpx.Client, query: dict[str, Any]) -> None:
    start(api, "fan", "refused-" + str(abs(hash(str(query)))), parts=1, delay=0)
    handler = "refused-" + str(abs(hash(str(query))))

    response = api.get(f"/handlers/{handler}/events", params=query)

    assert response.status_code == 400
    assert next(iter(query)) in response.json()["detail"]


def test_the_context_says_what_the_run_began_from_and_what_it_has_saved(api: httpx.Client) -> None:
    start(api, "desk", "context-1", title="Tea", tags=["a", "b"])
    wait_for(lambda: api.get("/handlers/context-1/context").json()["idle_since"])

    found = api.get("/handlers/context-1/context").json()

    assert found["start_event"]["type"] == "Draft"
    assert found["start_event"]["value"]["title"] == "Tea"
    assert found["state"]["title"] == "Tea"
    assert found["state_type"] == "Desk"
    assert found["run"] == 1
    assert found["handler"] == api.get("/handlers/context-1").json()


def test_a_state_without_a_class_is_shown_as_values(api: httpx.Client) -> None:
    start(api, "notes", "context-2", words=["one", "two"])
    wait_for(lambda: api.get("/handlers/context-2").status_code == 200)

    found = api.get("/handlers/context-2/context").json()

    assert found["start_event"] == {"type": "StartEvent", "value": {"words": ["one", "two"]}}
    assert found["state"] == {"count": 2, "last": {"text": "two"}}
    assert found["state_type"] is None


def test_the_context_of_a_run_that_failed_is_answered_as_any_other(api: httpx.Client) -> None:
    start(api, "order", "context-3", name="Nobody", address={"street": "Here"})
    wait_for(lambda: api.get("/handlers/context-3").status_code == 500)

    response = api.get("/handlers/context-3/context")

    assert response.status_code == 200
    assert response.json()["handler"]["error"]


@pytest.mark.parametrize(
    ("is_staff", "permissions", "sees_run", "sees_person"),
    [
        (False, ["view_handler", "view_user"], False, False),
        (True, [], False, False),
        (True, ["view_handler"], True, False),
        (True, ["view_user"], False, False),
        (True, ["view_handler", "view_user"], True, True),
    ],
)
def test_staff_who_may_see_them_are_led_to_the_admin(
    settings: Any, ada: User, is_staff: bool, permissions: list[str], sees_run: bool, sees_person: bool
) -> None:
    settings.ROOT_URLCONF = "tests.browser.urls"
    settings.SITE_PREFIX = "workflows/"
    configure(settings)
    owner, now = User.objects.create_user("grace"), timezone.now()
    handler = Handler.objects.create(
        handler_id="led", workflow_name="notes", owner=owner, start_event="{}", started_at=now, updated_at=now
    )
    ada.is_staff = is_staff
    ada.save()
    ada.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(ada)

    found = client.get("/workflows/handlers/led/context").json()

    assert found["admin_url"] == (f"/admin/django_workflows/handler/{handler.pk}/change/" if sees_run else None)
    url = f"/admin/auth/user/{owner.pk}/change/" if sees_person else None
    assert found["owner"] == ({"name": "grace", "url": url} if sees_run else None)


def test_the_context_is_json_that_browsers_read(settings: Any, ada: User) -> None:
    """Python reads and writes NaN and the infinities; JSON has none of them."""
    settings.ROOT_URLCONF = "tests.browser.urls"
    settings.SITE_PREFIX = "workflows/"
    configure(settings)
    now = timezone.now()
    handler = Handler.objects.create(
        handler_id="endless", workflow_name="notes", start_event='{"a": Infinity}', started_at=now, updated_at=now
    )
    Context.objects.create(handler=handler, state='{"b": [NaN]}', updated_at=now)
    client = Client()
    client.force_login(ada)

    answer = client.get("/workflows/handlers/endless/context")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(answer.content, parse_constant=refuse)
    assert (found["start_event"]["value"], found["state"]) == ({"a": None}, {"b": [None]})


def test_accepted_events_begin_with_those_that_come_from_outside(api: httpx.Client) -> None:
    events = api.get("/workflows/desk/accepted-events").json()["events"]

    assert (events[0]["type"], events[0]["expected"]) == ("Decision", True)
    assert events[0]["schema"]["properties"]["approve"]["type"] == "boolean"
    assert {one["type"] for one in events} >= {"Decision", "Written"}
    # Neither what starts a run nor what ends it is sent into it.
    assert not {one["type"] for one in events} & {"Draft", "Published"}


@pytest.mark.parametrize("what", ["events", "context"])
def test_a_handler_that_is_not_there_is_not_found(api: httpx.Client, what: str) -> None:
    assert api.get(f"/handlers/nothing/{what}").status_code == 404
    assert api.get("/workflows/nothing/accepted-events").status_code == 404


@pytest.mark.parametrize("path", ["/handlers/x/events", "/handlers/x/context", "/workflows/fan/accepted-events"])
def test_they_are_for_those_alone_whom_the_permission_classes_let_in(api: httpx.Client, path: str) -> None:
    assert httpx.get(str(api.base_url).rstrip("/") + path).status_code in (401, 403)


urlpatterns = [
    path("enter/", lambda request: HttpResponse("the way in")),
    path("workflows/", include("django_workflows.urls")),
]
