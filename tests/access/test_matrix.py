"""Every entrance, for everybody: who gets in, who is turned away, and who is not told that there is anything.

The entrances are held against the URL tables, so a new one without an entry here fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from django_workflows import urls
from django_workflows.models import Handler
from tests.access import people
from tests.access.conftest import Site
from tests.access.people import ANONYMOUS, OWNER, PEOPLE, STAFF, Person

ROOT = Path(__file__).resolve().parent.parent.parent

# What an entrance asks for that asks nothing.
OPEN = "open"


@dataclass(frozen=True)
class Entrance:
    """One way in.

    Attributes:
        name: of the URL.
        method: of the request.
        path: below the prefix; ``{id}`` stands for a run of the owner's.
        action: what it asks for.
        workflow: whose run is meant: of "ask" (it waits) or of "echo" (it has ended).
        body: of the request, where ``{id}`` stands for the run as well.
        answer: the status of those who get in.
    """

    name: str
    method: str
    path: str
    action: str
    workflow: str = "ask"
    body: dict[str, Any] = field(default_factory=dict)
    answer: int = 200

    @property
    def concerns_a_run(self) -> bool:
        return "{id}" in self.path or "{id}" in str(self.body)

    def __str__(self) -> str:
        return f"{self.method} {self.path}{' of a run' if '{id}' in str(self.body) else ''}"


_ANSWER = {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}}
_FROM_START = "after_sequence=-1"

ENTRANCES = [
    Entrance("health", "GET", "/health", OPEN),
    Entrance("not-found", "GET", "/nonsense", OPEN, answer=404),
    Entrance("not-found", "POST", "/nonsense", OPEN, answer=404),
    Entrance("workflows", "GET", "/workflows", "describe"),
    Entrance("schema", "GET", "/workflows/echo/schema", "describe"),
    Entrance("workflow-events", "GET", "/workflows/echo/events", "describe"),
    Entrance("representation", "GET", "/workflows/echo/representation", "describe"),
    Entrance("layout", "GET", "/workflows/echo/layout", "describe"),
    Entrance("accepted-events", "GET", "/workflows/echo/accepted-events", "describe"),
    Entrance("openapi", "GET", "/openapi.json", "describe"),
    Entrance("run", "POST", "/workflows/echo/run", "start"),
    Entrance("run", "POST", "/workflows/echo/run", "start", "echo", {"handler_id": "{id}"}),
    Entrance("run-nowait", "POST", "/workflows/echo/run-nowait", "start"),
    Entrance("run-nowait", "POST", "/workflows/echo/run-nowait", "start", "echo", {"handler_id": "{id}"}),
    Entrance("handlers", "GET", "/handlers", "read"),
    Entrance("handler", "GET", "/handlers/{id}", "read", "echo"),
    Entrance("handler-context", "GET", "/handlers/{id}/context", "read", "echo"),
    Entrance("handler-events", "GET", "/handlers/{id}/events?after=-1", "read", "echo"),
    Entrance("result", "GET", "/results/{id}", "read", "echo"),
    Entrance("cancel", "POST", "/handlers/{id}/cancel", "cancel"),
    Entrance("cancel", "POST", "/handlers/{id}/cancel?purge=true", "purge"),
    Entrance("events", "GET", f"/events/{{id}}?{_FROM_START}", "read", "echo"),
    Entrance("events", "GET", f"/events/{{id}}?{_FROM_START}&sse=false", "read", "echo"),
    Entrance("events", "POST", "/events/{id}", "answer", body=_ANSWER),
]

# Entrances that are not asked here, and the test that asks them in the same way.
ELSEWHERE: dict[str, str] = {
    # And each command over it is the POST request that it stands for.
    "debugger": "tests/test_debugger.py::test_who_lacks_a_permission_is_told_which",
    "socket": "tests/wire/test_sockets.py::test_who_may_open_it",
}


# --- the tables ------------------------------------------------------------------------------------------


def patterns(table: list[Any]) -> Iterator[URLPattern]:
    for entry in table:
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns)
        else:
            yield entry


def methods(callback: Any) -> set[str]:
    cls = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    if cls is None:
        return {"GET"}
    return {method.upper() for method in ("get", "post", "put", "patch", "delete") if hasattr(cls, method)}


def test_every_url_has_an_entry() -> None:
    """What a page adds to the URLs below the prefix must say who gets in: in ENTRANCES, or ELSEWHERE by name."""
    entrances = {(entrance.name, entrance.method) for entrance in ENTRANCES if entrance.name != "not-found"}
    found = {
        (str(pattern.name), method)
        for pattern in patterns(urls.urlpatterns)
        if str(pattern.name) not in ELSEWHERE
        for method in methods(pattern.callback)
    }
    assert found == entrances


def test_what_is_asked_elsewhere_is_asked() -> None:
    for test in ELSEWHERE.values():
        path, _, name = test.partition("::")
        assert re.search(rf"def {name}\b", (ROOT / path).read_text()), test


# --- the API ---------------------------------------------------------------------------------------------


def run_of_the_owner(site: Site, entrance: Entrance, starter: Person) -> str:
    return site.start(starter, entrance.workflow) if entrance.concerns_a_run else ""


def ask(site: Site, person: Person, entrance: Entrance, handler_id: str) -> tuple[int, str]:
    """Return status and body of the answer."""
    path = entrance.path.replace("{id}", handler_id)
    body = {key: handler_id if value == "{id}" else value for key, value in entrance.body.items()}
    content = {"json": body} if entrance.method == "POST" else {}
    answer = site.as_(person).request(entrance.method, path, **content)
    return answer.status_code, answer.text


def expected_of_owners(person: Person, entrance: Entrance) -> int:
    """What IsOwner says, in the words of its documentation."""
    if entrance.action == OPEN:
        return entrance.answer
    if person == ANONYMOUS:
        return 401
    if not entrance.concerns_a_run or person == OWNER:
        return entrance.answer
    if person.is_staff and entrance.action in person.actions:
        return entrance.answer
    return 403 if person.is_staff and "read" in person.actions else 404


def expected_of_supervisors(person: Person, entrance: Entrance) -> int:
    """What HasModelPermission says."""
    if entrance.action == OPEN:
        return entrance.answer
    if person == ANONYMOUS:
        return 401
    return entrance.answer if entrance.action in person.actions else 403


@pytest.mark.parametrize("entrance", ENTRANCES, ids=str)
@pytest.mark.parametrize("person", PEOPLE, ids=str)
def test_where_users_have_their_own_runs(owners: Site, person: Person, entrance: Entrance) -> None:
    handler_id = run_of_the_owner(owners, entrance, OWNER)
    status, text = ask(owners, person, entrance, handler_id)
    assert status == expected_of_owners(person, entrance), text
    check_that_nothing_happened(owners, OWNER, entrance, handler_id, status)


@pytest.mark.parametrize("entrance", ENTRANCES, ids=str)
@pytest.mark.parametrize("person", PEOPLE, ids=str)
def test_where_model_permissions_decide(supervisors: Site, person: Person, entrance: Entrance) -> None:
    handler_id = run_of_the_owner(supervisors, entrance, STAFF)
    status, text = ask(supervisors, person, entrance, handler_id)
    assert status == expected_of_supervisors(person, entrance), text
    check_that_nothing_happened(supervisors, STAFF, entrance, handler_id, status)


def check_that_nothing_happened(
    site: Site, starter: Person, entrance: Entrance, handler_id: str, status: int
) -> None:
    """Whoever was turned away has changed nothing."""
    if status < 400 or not handler_id:
        return
    found = site.as_(starter).get(f"/handlers/{handler_id}").json()
    assert found["status"] == ("running" if entrance.workflow == "ask" else "completed")


@pytest.mark.parametrize("entrance", [one for one in ENTRANCES if one.concerns_a_run], ids=str)
def test_anothers_run_is_answered_as_one_that_is_not_there(owners: Site, entrance: Entrance) -> None:
    """Word for word, apart from the start of a new run: there, what is not there is started."""
    theirs = ask(owners, people.OTHER, entrance, run_of_the_owner(owners, entrance, OWNER))
    assert theirs == (404, '{"detail":"Handler not found"}')
    if "{id}" in entrance.path:
        assert ask(owners, people.OTHER, entrance, "0123456789abcdefghijkl") == theirs


@pytest.mark.parametrize("person", PEOPLE, ids=str)
def test_a_list_shows_what_its_rows_would(owners: Site, person: Person) -> None:
    mine, theirs = owners.start(OWNER), owners.start(people.OTHER)
    if person == ANONYMOUS:
        return
    listed = {one["handler_id"] for one in owners.as_(person).get("/handlers?limit=50").json()["handlers"]}
    for handler_id in (mine, theirs):
        is_readable = owners.as_(person).get(f"/handlers/{handler_id}").status_code == 202
        assert (handler_id in listed) == is_readable


# --- the admin -------------------------------------------------------------------------------------------


def admin_urls(key: int) -> Iterator[str]:
    """Yield every URL of our models' admin pages."""
    for model, pages in admin.site._registry.items():
        if model._meta.app_label != "django_workflows":
            continue
        for pattern in patterns(pages.get_urls()):
            if pattern.name:
                arguments = [key] * pattern.pattern.regex.groups
                yield reverse(f"admin:{pattern.name}", args=arguments)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["", "owner", "only-view_handler", "idle-staff"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_admin_is_for_staff_with_permissions(name: str, method: str) -> None:
    people.create()
    now = timezone.now()
    fields = {"handler_id": "h", "run_id": "r", "workflow_name": "echo", "start_event": "{}"}
    key = Handler.objects.create(**fields, started_at=now, updated_at=now).pk
    client = Client()
    if name:
        client.force_login(User.objects.get(username=name))
    found = list(admin_urls(key))
    assert found
    for url in found:
        answer = getattr(client, method)(url)
        if name == "idle-staff":
            # Or a redirect to the index or the list, from the page of what is not there.
            elsewhere = [reverse("admin:index"), reverse("admin:django_workflows_worker_changelist")]
            assert answer.status_code == 403 or answer.headers["Location"] in elsewhere, url
        else:
            assert answer.status_code == 302, url
            assert answer.headers["Location"].startswith(reverse("admin:login")), url
