"""``GET /handlers``: filters, orders and pages, each against the same question asked of all rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_workflows.models import Handler
from tests.storage import a_run, end

pytestmark = pytest.mark.django_db

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def open_site(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = {
        "WORKFLOWS": {"echo": "tests.access.workflows.echo", "ask": "tests.access.workflows.ask"},
        "PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    }


def populate() -> list[Handler]:
    """Make twenty handlers that differ in everything; some share a moment."""
    users = [User.objects.create(username=name) for name in ("ada", "bob")]
    for number in range(20):
        handler = a_run(
            f"{'ABab'[number % 4]}-{number}",
            workflow_name=("echo", "ask")[number % 2],
            owner=(None, users[0].pk, users[1].pk)[number % 3],
        )
        if number % 5 == 0:
            end(handler, status=Handler.Status.FAILED if number % 2 else Handler.Status.COMPLETED)
        elif number % 3 == 0:
            Handler.objects.filter(pk=handler.pk).update(idle_since=START)
        Handler.objects.filter(pk=handler.pk).update(
            started_at=START + timedelta(minutes=number // 2),
            updated_at=START + timedelta(hours=(number * 7) % 20 // 2),
        )
    return list(Handler.objects.all())


def ask(query: str, who: Client | None = None) -> Any:
    return (who or Client()).get(f"/workflows/handlers?{query}")


def listed(query: str, who: Client | None = None) -> list[str]:
    answer = ask(query, who)
    assert answer.status_code == 200, answer.content
    return [one["handler_id"] for one in answer.json()["handlers"]]


def ada() -> User:
    return User.objects.get(username="ada")


FILTERS: list[tuple[str, Callable[[Handler], bool]]] = [
    ("", lambda one: True),
    ("status=running", lambda one: one.status == "running"),
    ("status=completed&status=failed", lambda one: one.has_ended),
    ("status=nonsense", lambda one: False),
    ("workflow_name=ask", lambda one: one.workflow_name == "ask"),
    ("workflow_name=ask&workflow_name=echo&status=running", lambda one: not one.has_ended),
    ("workflow_name=%00", lambda one: False),
    ("idle=true", lambda one: one.idle_since is not None),
    ("idle=TRUE", lambda one: one.idle_since is not None),
    ("idle=false", lambda one: one.idle_since is None),
    ("owner={ada}", lambda one: one.owner_id == ada().pk),
    ("owner=me", lambda one: one.owner_id == ada().pk),
    ("owner=4711", lambda one: False),
    ("handler_id=a", lambda one: one.handler_id[0] == "a"),
    ("handler_id=A-1", lambda one: one.handler_id.startswith("A-1")),
    ("handler_id=a-1_", lambda one: False),
    ("handler_id=*", lambda one: False),
    (
        f"started_since={quote((START + timedelta(minutes=3)).isoformat())}",
        lambda one: one.started_at >= START + timedelta(minutes=3),
    ),
    # A plus sign that nobody escaped, and no offset at all.
    ("started_since=2026-05-01T12:03:00+00:00", lambda one: one.started_at >= START + timedelta(minutes=3)),
    ("started_since=2026-05-01T14:03:00+02:00", lambda one: one.started_at >= START + timedelta(minutes=3)),
    ("started_since=2026-05-01T12:03:00", lambda one: one.started_at >= START + timedelta(minutes=3)),
    ("started_until=2026-05-01T12:03:00Z", lambda one: one.started_at < START + timedelta(minutes=3)),
    ("started_until=2026-05-01", lambda one: False),
    (
        "started_since=2026-05-01T12:02:00Z&started_until=2026-05-01T12:04:00Z&owner={ada}",
        lambda one: one.owner_id == ada().pk and one.started_at.minute in (2, 3),
    ),
    ("status=&workflow_name=&owner=&idle=&handler_id=&started_since=&order=&cursor=&limit=", lambda one: True),
]
ORDERS = ["-started_at", "started_at", "-updated_at", "updated_at"]


@pytest.mark.parametrize(
    ("query", "matches", "order"),
    [
        *((*question, "") for question in FILTERS),
        *((*question, order) for question in FILTERS[:2] for order in ORDERS),
    ],
)
def test_pages_together_are_what_was_asked_for(query: str, matches: Callable[[Handler], bool], order: str) -> None:
    everything = populate()
    who = Client()
    who.force_login(ada())
    query = query.replace("{ada}", str(ada().pk))
    if order:
        query = f"{query.replace('&order=', '')}&order={order}"
    column = order.lstrip("-") or "started_at"
    expected = sorted(
        filter(matches, everything),
        key=lambda one: (getattr(one, column), one.pk),
        reverse=order.startswith("-") or not order,
    )
    names = [one.handler_id for one in expected]
    assert listed(query, who) == names
    found, cursor = [], ""
    plain = query.replace("&cursor=", "").replace("&limit=", "")
    while cursor is not None:
        answer = ask(f"{plain}&limit=3&cursor={cursor}", who).json()
        assert len(answer["handlers"]) <= 3
        found += [one["handler_id"] for one in answer["handlers"]]
        cursor = answer["next_cursor"]
    assert found == names


def cursor_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=1e3",
        "order=handler_id",
        "order=-",
        "order=started_at,updated_at",
        "idle=1",
        "idle=yes",
        "owner=nobody",
        "owner=1.5",
        "owner=%00",
        "owner=99999999999999999999999",
        "owner=" + "9" * 5000,
        "owner=me",
        "started_since=yesterday",
        "started_since=2026-13-01",
        "started_since=0001-01-01T00:00:00%2B14:00",
        "started_until=9999-12-31T23:59:59-14:00",
        "started_until=12:00",
        "started_until=%00",
        "handler_id=a/b",
        "handler_id=%25",
        "handler_id=%00",
        "handler_id=" + "a" * 201,
        "cursor=x",
        "cursor=%00",
        "cursor=" + cursor_of("-started_at|2026-05-01T12:00:00+00:00"),
        "cursor=" + cursor_of("-started_at|2026-05-01T12:00:00+00:00|x"),
        "cursor=" + cursor_of("-started_at|2026-05-01T12:00:00+00:00|-1"),
        "cursor=" + cursor_of("-started_at|2026-05-01T12:00:00+00:00|99999999999999999999"),
        "cursor=" + cursor_of("-started_at|2026-05-01T12:00:00+00:00|9999999999999999999"),
        "cursor=" + cursor_of("-started_at|0001-01-01T00:00:00+14:00|1"),
        "cursor=" + cursor_of("started_at|2026-05-01T12:00:00+00:00|1"),
        "cursor=" + cursor_of("owner__password|2026-05-01T12:00:00+00:00|1"),
    ],
    ids=lambda query: query[:60],
)
def test_what_makes_no_sense_is_said(query: str) -> None:
    answer = ask(query)
    assert answer.status_code == 400, answer.content
    assert set(answer.json()) == {"detail"}
    assert query.partition("=")[0] in answer.json()["detail"]


def test_a_site_without_time_zones_is_answered_alike(settings: Any) -> None:
    settings.USE_TZ = False
    handler = a_run("h")
    naive = START.replace(tzinfo=None)
    Handler.objects.filter(pk=handler.pk).update(started_at=naive)
    for number in range(3):
        a_run(f"later-{number}")
    assert listed("started_until=2026-05-02") == ["h"]
    found, cursor = [], ""
    while cursor is not None:
        answer = ask(f"limit=1&cursor={cursor}").json()
        found += [one["handler_id"] for one in answer["handlers"]]
        cursor = answer["next_cursor"]
    assert found == ["later-2", "later-1", "later-0", "h"]


# --- cost --------------------------------------------------------------------------------------------------


def many(count: int) -> None:
    """Make so many finished handlers, in few statements."""
    a_run("model")
    model = Handler.objects.get()
    users = [User.objects.create(username=f"user-{number}").pk for number in range(20)]
    rows = []
    for number in range(count):
        moment = START + timedelta(seconds=number)
        rows.append(
            Handler(
                handler_id=f"{number * 7919 % count:06}-h",
                run_id=f"r{number}",
                workflow_name=("echo", "ask")[number % 2],
                status="completed",
                start_event=model.start_event,
                result=json.dumps({"value": {}, "type": "StopEvent"}),
                owner_id=users[number % 20],
                started_at=moment,
                updated_at=moment,
                completed_at=moment,
            )
        )
    Handler.objects.bulk_create(rows, batch_size=1000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE django_workflows_handler" if connection.vendor != "sqlite" else "ANALYZE")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "order=started_at",
        "order=-updated_at",
        "order=updated_at",
        "status=completed",
        "workflow_name=echo",
        "owner={owner}",
        "started_since=2026-05-01T12:30:00",
        "status=running&idle=true",
    ],
)
def test_a_page_in_the_middle_is_read_from_an_index(query: str, settings: Any) -> None:
    """Neither a scan of all rows nor a sort of them."""
    if connection.vendor not in ("sqlite", "postgresql"):
        pytest.skip("reads the plans of SQLite and PostgreSQL")
    many(5_000)
    query = query.replace("{owner}", str(User.objects.get(username="user-3").pk))
    first = ask(f"limit=20&{query}").json()
    with CaptureQueriesContext(connection) as captured:
        page = ask(f"limit=20&{query}&cursor={first['next_cursor'] or ''}")
    assert page.status_code == 200
    (statement,) = [one["sql"] for one in captured if 'FROM "django_workflows_handler"' in one["sql"]]
    assert "start_event" not in statement
    assert "LIMIT 21" in statement
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {'QUERY PLAN' if connection.vendor == 'sqlite' else ''} {statement}")
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert "USING INDEX dwf_handler_" in plan or "Index Scan" in plan, plan
    assert "TEMP B-TREE" not in plan, plan


def test_the_ids_index_finds_the_beginning_of_an_id() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the others choose by the rows that they expect")
    many(2_000)
    with CaptureQueriesContext(connection) as captured:
        assert len(listed("handler_id=0019&limit=20")) == 20
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + captured[-1]["sql"].partition(" ORDER BY ")[0])
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert "handler_id>? AND handler_id<?" in plan
