"""Who may see and do what: the same for every page, button and action."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.test import Client

from django_workflows.admin import verbs
from django_workflows.models import Handler, Message
from tests.admin.people import PLACE, a_question, a_user, everything, somebody

PAGES = ["", "inbox/", "{key}/change/", "{key}/history/"]
# What takes a permission beside that to look: the page, and what is posted to it.
DOORS = {
    "run_workflow": ["start/", "start/print/", "{key}/again/"],
    "answer_handler": ["{key}/answer/"],
    "delete_handler": ["{key}/purge/"],
}
BUTTONS = {
    "run_workflow": "/again/",
    "answer_handler": "/answer/",
    "cancel_handler": "/cancel/",
    "delete_handler": "/purge/",
}
ACTIONS = {
    "run_workflow": "run_again_selected",
    "cancel_handler": "cancel_selected",
    "delete_handler": "purge_selected",
}


@pytest.fixture
def key() -> int:
    return a_question("q").pk


def status(client: Client, where: str, key: int, data: Any = None) -> int:
    url = PLACE + where.format(key=key)
    return (client.get(url) if data is None else client.post(url, data)).status_code


def test_who_is_not_of_the_staff_is_sent_to_log_in(key: int) -> None:
    doors = [*PAGES, *(page for pages in DOORS.values() for page in pages), "{key}/cancel/"]
    client = Client()
    assert {status(client, page, key) for page in doors} == {302}
    client.force_login(get_user_model().objects.create_user("guest"))
    assert {status(client, page, key) for page in doors} == {302}


def test_staff_without_permissions_sees_nothing(key: int) -> None:
    client = somebody("bob")
    for page in [*PAGES, *(page for pages in DOORS.values() for page in pages)]:
        assert status(client, page, key) == 403, page
    for verb in ("cancel", "purge", "answer", "again"):
        assert status(client, f"{{key}}/{verb}/", key, {"confirmed": "1"}) == 403, verb
    assert "handler" not in client.get("/admin/").content.decode()
    assert Handler.objects.filter(status="running").exists()


@pytest.mark.parametrize("permission", [*BUTTONS, None])
def test_each_permission_opens_its_own_doors_and_no_other(permission: str | None, key: int) -> None:
    client = somebody("bob", "view_handler", *filter(None, [permission]))

    for page in PAGES:
        assert status(client, page, key) == 200, page
    for needed, pages in DOORS.items():
        for page in pages:
            assert status(client, page, key) == (200 if needed == permission else 403), page
    detail = client.get(f"{PLACE}{key}/change/").content.decode()
    assert {p for p, button in BUTTONS.items() if f"{key}{button}" in detail} == set(filter(None, [permission]))
    listed = client.get(PLACE).content.decode()
    assert {p for p, action in ACTIONS.items() if f'value="{action}"' in listed} == ({permission} & set(ACTIONS))
    assert ("wf-form" in client.get(PLACE + "inbox/").content.decode()) == (permission == "answer_handler")


@pytest.mark.parametrize("permission", [*BUTTONS, "view_handler"])
def test_what_is_posted_without_the_permission_changes_nothing(permission: str, key: int) -> None:
    allowed = {"run_workflow", "answer_handler", "cancel_handler", "delete_handler", "view_handler"} - {permission}
    client = somebody("bob", *allowed)
    posts = {
        "run_workflow": [("start/print/", {}), ("{key}/again/", {})],
        "answer_handler": [
            ("{key}/answer/", {"event": "Decision", "Decision-approve": "true", "position": "1.0"})
        ],
        "cancel_handler": [("{key}/cancel/", {})],
        "delete_handler": [("{key}/purge/", {"confirmed": "1"})],
    }
    posts["view_handler"] = [post for some in posts.values() for post in some]
    for where, data in posts[permission]:
        assert status(client, where, key, data) == 403, where
    if permission in ACTIONS:
        data = {"action": ACTIONS[permission], "_selected_action": [key], "confirmed": "1"}
        assert client.post(PLACE, data).status_code == 302
    assert Handler.objects.count() == 1
    assert not Message.objects.exists()


def test_djangos_own_deleting_adding_and_changing_are_closed(key: int) -> None:
    root = Client()
    root.force_login(a_user("root", is_superuser=True))

    assert status(root, "{key}/delete/", key, {"post": "yes"}) == 403
    assert status(root, "add/", key) == 403
    data = {"action": "delete_selected", "_selected_action": [key], "post": "yes"}
    root.post(PLACE, data)
    assert Handler.objects.count() == 1
    root.post(f"{PLACE}{key}/change/", {"status": "completed"})
    assert Handler.objects.get().status == "running"


def test_what_changes_something_takes_a_post_with_a_token(key: int) -> None:
    client = everything()
    assert status(client, "{key}/cancel/", key) == 405
    assert status(client, "{key}/purge/", key) == 200
    assert Handler.objects.get().status == "running"
    assert not Message.objects.exists()

    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    for where, data in (("cancel", {}), ("purge", {"confirmed": "1"}), ("answer", {}), ("again", {})):
        assert status(strict, f"{{key}}/{where}/", key, data) == 403, where


def test_every_permission_that_is_asked_for_exists() -> None:
    from django.contrib.auth.models import Permission

    found = set(
        Permission.objects.filter(content_type__app_label="django_workflows").values_list("codename", flat=True)
    )
    assert set(verbs.PERMISSIONS.values()) <= found


def test_a_site_of_your_own_has_it_all(key: int, rf: Any, settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.admin.own_site"
    client = Client()
    client.force_login(a_user("root", is_superuser=True))

    place = "/backoffice/django_workflows/handler/"
    assert "1</strong> run waits" in client.get("/backoffice/").content.decode()
    for page in ("", "inbox/", "start/", "start/print/", f"{key}/change/", f"{key}/answer/", f"{key}/purge/"):
        response = client.get(place + page)
        assert response.status_code == 200, page
        assert 'href="/admin/' not in response.content.decode(), page
    assert client.get("/backoffice/django_workflows/worker/").status_code == 200
    assert client.post(f"{place}{key}/cancel/").headers["Location"] == f"{place}{key}/change/"


def test_an_index_template_of_ones_own_stays() -> None:
    from django_workflows.admin import register

    class Site(admin.AdminSite):
        index_template = "mine.html"

    site = Site("mine")
    register(site)
    assert site.index_template == "mine.html"
    assert site.is_registered(Handler)
