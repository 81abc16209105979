"""What permission classes are asked, and what comes of it: the site's, the workflow's, a third party's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Q
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission, IsAdminUser, IsAuthenticated

from django_workflows import handlers, registry
from django_workflows.exceptions import HandlerRunning
from django_workflows.models import Handler
from django_workflows.permissions import HasModelPermission, IsOwner
from tests.storage import a_run, a_start, end

pytestmark = pytest.mark.django_db(transaction=True)

HERE = __name__
OWN = "django_workflows.permissions.IsOwner"


# --- classes as a site would write them --------------------------------------------------------------------


class OnlyEcho(BasePermission):
    """Says nothing of lists, and knows objects only."""

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.workflow_name == "echo"


class IsOwnerOfEven(IsOwner):
    """Decides otherwise about objects than its base, and forgets lists."""

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return super().has_object_permission(request, view, obj) and int(obj.handler_id) % 2 == 0


class ReadOnly(BasePermission):
    """Looks at the method, as third parties do."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.method in ("GET", "HEAD", "OPTIONS")

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return self.has_permission(request, view)


class StartsWithA(BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.handler_id.startswith("a")

    def visible_handlers(self, request: Any, view: Any) -> Q:
        return Q(handler_id__startswith="a")


class Hidden(StartsWithA):
    """To be negated, as the REST framework does it: what is asked without an object must say no."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return False


class NobodyCancels(BasePermission):
    message = "This workflow is not to be interrupted."

    def has_permission(self, request: Any, view: Any) -> bool:
        return view.action != "cancel"


asked: list[tuple[str, str | None]] = []


class Recorder(BasePermission):
    """Lets everybody in, and remembers what was asked."""

    def has_permission(self, request: Any, view: Any) -> bool:
        asked.append((view.action, view.workflow_name))
        return True


class Known(BaseAuthentication):
    """Knows the user without a look at the database."""

    user: User

    def authenticate(self, request: Any) -> Any:
        return self.user, None


OwnerOrStaff = IsOwner | IsAdminUser
OwnerAndA = IsOwner & StartsWithA
NotHidden = ~Hidden
OwnerOrEcho = IsOwner | OnlyEcho


@pytest.fixture
def serve(settings: Any) -> Any:
    """Serve the workflows with these permission classes, and with some of a workflow's own."""

    def serve(*classes: str, own: dict[str, list[str]] | None = None, **more: Any) -> None:
        names = [path if "." in path else f"{HERE}.{path}" for path in classes]
        entries = {
            name: {
                "workflow": f"tests.access.workflows.{name}",
                "permission_classes": [f"{HERE}.{path}" for path in (own or {}).get(name, [])],
            }
            for name in ("echo", "ask", "shop")
        }
        settings.DJANGO_WORKFLOWS = {"WORKFLOWS": entries, "PERMISSION_CLASSES": names, **more}

    return serve


def a_user(name: str, *permissions: str, is_staff: bool = False) -> User:
    user = User.objects.create(username=name, is_staff=is_staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def client(user: User | None = None) -> Client:
    found = Client()
    if user is not None:
        found.force_login(user)
    return found


def post(who: Client, path: str, body: Any = None) -> Any:
    return who.post(f"/workflows{path}", json.dumps(body or {}), content_type="application/json")


def listed(who: Client, query: str = "") -> list[str]:
    answer = who.get(f"/workflows/handlers?{query}")
    assert answer.status_code == 200, answer.content
    return [one["handler_id"] for one in answer.json()["handlers"]]


def readable(who: Client) -> list[str]:
    """Return which of all runs are answered when they are asked for one by one, newest first."""
    names = Handler.objects.newest_first().values_list("handler_id", flat=True)
    return [name for name in names if who.get(f"/workflows/handlers/{name}").status_code == 202]


# --- lists -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("django_workflows.permissions.IsOwner", 1),
        ("rest_framework.permissions.IsAuthenticated", 1),
        ("OwnerOrStaff", 1),
        ("OwnerAndA", 1),
        ("NotHidden", 1),
        ("StartsWithA", 1),
        ("OnlyEcho", 1),
        ("OwnerOrEcho", 1),
        ("ReadOnly", 1),
    ],
)
@pytest.mark.parametrize("is_staff", [False, True])
def test_a_list_shows_what_is_readable_one_by_one(serve: Any, name: str, queries: int, is_staff: bool) -> None:
    serve(name)
    user, other = a_user("user", is_staff=is_staff), a_user("other")
    for number, (owner, workflow) in enumerate(
        [(user, "echo"), (user, "ask"), (other, "echo"), (other, "ask"), (None, "echo"), (None, "ask")]
    ):
        for letter in "ab":
            owner_key = None if owner is None else owner.pk
            a_run(f"{letter}{number}", workflow_name=workflow, owner=owner_key)
    who = client(user)
    expected = readable(who)
    assert listed(who) == expected
    assert len(expected) > 0
    with CaptureQueriesContext(connection) as captured:
        listed(who)
    about_handlers = [query for query in captured if 'FROM "django_workflows_handler"' in query["sql"]]
    assert len(about_handlers) == queries


def test_a_class_that_decides_otherwise_than_its_base_is_asked_for_each_row(serve: Any) -> None:
    serve("IsOwnerOfEven")
    user = a_user("user")
    for number in range(4):
        a_run(str(number), owner=user.pk)
    assert listed(client(user)) == ["2", "0"]


def test_a_list_that_asks_for_each_row_leads_on_to_its_end(serve: Any) -> None:
    serve("OnlyEcho")
    for number in range(10):
        a_run(str(number), workflow_name="echo" if number in (0, 5) else "ask")
    who, found, cursor, pages = client(a_user("user")), [], "", 0
    while cursor is not None:
        answer = who.get(f"/workflows/handlers?limit=2&cursor={cursor}").json()
        found += [one["handler_id"] for one in answer["handlers"]]
        cursor, pages = answer["next_cursor"], pages + 1
    assert (found, pages) == (["5", "0"], 5)


# --- a workflow's own classes --------------------------------------------------------------------------------


def test_a_workflows_classes_are_asked_about_it_and_its_runs(serve: Any) -> None:
    serve("Recorder", own={"echo": ["Recorder"]})
    user = a_user("user")
    a_run("e", workflow_name="echo")
    a_run("a", workflow_name="ask")
    who = client(user)

    def questions(ask: Any) -> list[tuple[str, str | None]]:
        asked.clear()
        ask()
        return list(asked)

    assert questions(lambda: who.get("/workflows/workflows/ask/schema")) == [("describe", "ask")]
    assert questions(lambda: who.get("/workflows/workflows/echo/schema")) == [("describe", "echo")] * 2
    assert questions(lambda: post(who, "/workflows/echo/run-nowait")) == [("start", "echo")] * 2
    assert questions(lambda: who.get("/workflows/handlers/a")) == [("read", None)]
    assert questions(lambda: who.get("/workflows/handlers/e")) == [("read", None), ("read", "echo")]
    assert questions(lambda: who.get("/workflows/handlers")) == [("read", None), ("read", "echo")]
    assert questions(lambda: post(who, "/events/e", {"event": 1})) == [("answer", None), ("answer", "echo")]
    assert questions(lambda: post(who, "/handlers/e/cancel?purge=true")) == [("purge", None), ("purge", "echo")]


def test_a_hidden_workflow_and_its_runs_do_not_exist(serve: Any) -> None:
    serve("rest_framework.permissions.AllowAny", own={"shop": ["IsAdminUser"], "ask": ["NobodyCancels"]})
    a_run("s", workflow_name="shop")
    who, chief = client(a_user("user")), client(a_user("chief", is_staff=True))
    assert who.get("/workflows/workflows").json()["workflows"][:2] == ["echo", "ask"]
    assert "shop" not in who.get("/workflows/workflows").json()["workflows"]
    assert chief.get("/workflows/workflows").json()["workflows"][:3] == ["echo", "ask", "shop"]
    for path in ("/workflows/{}/schema", "/workflows/{}/events", "/workflows/{}/representation"):
        there, nowhere = (who.get("/workflows" + path.format(name)) for name in ("shop", "nowhere"))
        assert (there.status_code, there.content) == (404, nowhere.content.replace(b"nowhere", b"shop"))
        assert chief.get("/workflows" + path.format("shop")).status_code == 200
    for way in ("run", "run-nowait"):
        there, nowhere = (post(who, f"/workflows/{name}/{way}") for name in ("shop", "nowhere"))
        assert (there.status_code, there.content) == (404, nowhere.content)
    assert who.get("/workflows/handlers/s").status_code == 404
    assert listed(who) == []
    assert listed(chief) == ["s"]
    for path in ("/events/s", "/handlers/s/cancel", "/handlers/s/cancel?purge=true"):
        assert post(who, path, {"event": {"type": "StopEvent"}}).status_code == 404
    assert Handler.objects.get().status == "running"


def test_the_api_is_described_as_far_as_the_user_may_know(serve: Any) -> None:
    serve("rest_framework.permissions.AllowAny", own={"shop": ["IsAdminUser"]})
    who, chief = client(a_user("user")), client(a_user("chief", is_staff=True))
    for _ in range(2):
        text = who.get("/workflows/openapi.json").content.decode()
        assert "/workflows/echo/run" in text
        assert "shop" not in text.replace("shop.workflows.Progress", "")
        assert "Receipt" not in text
        assert "/workflows/shop/run" in chief.get("/workflows/openapi.json").content.decode()


def test_what_may_be_read_but_not_done_is_refused_with_a_reason(serve: Any) -> None:
    serve("rest_framework.permissions.AllowAny", own={"ask": ["NobodyCancels"]})
    a_run("a", workflow_name="ask")
    answer = post(client(a_user("user")), "/handlers/a/cancel")
    assert (answer.status_code, answer.json()) == (403, {"detail": NobodyCancels.message})


def test_a_class_that_looks_at_the_method_is_understood(serve: Any) -> None:
    """403, not 404: it would let the run be read."""
    serve("rest_framework.permissions.AllowAny", own={"ask": ["ReadOnly"]})
    a_run("a", workflow_name="ask")
    who = client(a_user("user"))
    assert who.get("/workflows/handlers/a").status_code == 202
    assert post(who, "/handlers/a/cancel").status_code == 403
    assert post(who, "/workflows/ask/run").status_code == 403
    assert post(who, "/workflows/echo/run-nowait").status_code == 200


def test_a_registered_workflow_has_classes_as_well(serve: Any, settings: Any) -> None:
    from tests.access.workflows import Echo

    settings.DJANGO_WORKFLOWS = {"PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"]}
    before = dict(registry._registrations)
    registry.register("closed", permission_classes=[IsAdminUser])(Echo)
    try:
        assert "closed" not in client(a_user("user")).get("/workflows/workflows").json()["workflows"]
        chief = client(a_user("chief", is_staff=True))
        assert "closed" in chief.get("/workflows/workflows").json()["workflows"]
    finally:
        registry._registrations.clear()
        registry._registrations.update(before)
        registry.forget()


# --- starts under an id --------------------------------------------------------------------------------------


def test_a_start_never_continues_somebody_elses_run(serve: Any) -> None:
    serve(OWN)
    user, other = a_user("user"), a_user("other")
    for name, has_ended in (("running", False), ("ended", True)):
        run = a_run(name, workflow_name="echo", owner=other.pk)
        if has_ended:
            end(run)
        for way in ("run", "run-nowait"):
            answer = post(client(user), f"/workflows/echo/{way}", {"handler_id": name})
            assert (answer.status_code, answer.json()) == (404, {"detail": "Handler not found"})
    assert set(Handler.objects.values_list("owner", "run")) == {(other.pk, 1)}


def test_an_id_that_somebody_takes_meanwhile_is_not_continued() -> None:
    """Between the look of the view and the start, somebody else may have started, and ended, a run of that id."""
    theirs = a_run("same", owner=a_user("other").pk)
    end(theirs)
    mine = a_start("same", owner=a_user("user").pk)
    with pytest.raises(HandlerRunning):
        handlers.start(replace(mine, continues=handlers.NEW))
    with pytest.raises(HandlerRunning):
        handlers.start(replace(mine, continues=theirs.pk + 1))
    assert handlers.start(replace(mine, continues=theirs.pk)).run == 2


def test_whoever_continues_a_run_does_not_take_it_away(serve: Any) -> None:
    serve(OWN)
    user, chief = a_user("user"), a_user("chief", "run_workflow", is_staff=True)
    end(a_run("h", workflow_name="echo", owner=user.pk))
    assert post(client(chief), "/workflows/echo/run-nowait", {"handler_id": "h"}).status_code == 200
    assert client(user).get("/workflows/handlers/h").status_code == 202


# --- cost ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [[], ["rest_framework.permissions.IsAuthenticated"], [OWN]])
def test_a_start_asks_the_database_nothing_about_permissions(serve: Any, classes: list[str]) -> None:
    serve(*classes, AUTHENTICATION_CLASSES=["tests.access.test_permissions.Known"])
    Known.user = a_user("known")
    post(client(), "/workflows/echo/run-nowait")
    with CaptureQueriesContext(connection) as captured:
        assert post(client(), "/workflows/echo/run-nowait").status_code == 200
    # The start itself is written in another thread.
    assert len(captured) == 0


def test_the_public_names() -> None:
    import django_workflows.permissions as public

    assert set(public.__all__) == {"ACTIONS", "HasModelPermission", "IsOwner"}
    assert issubclass(HasModelPermission, BasePermission)
    assert issubclass(IsAuthenticated, BasePermission)
