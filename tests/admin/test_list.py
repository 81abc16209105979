"""The list of handlers: what it shows, what it finds, and what it costs with many rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_workflows import mailbox
from django_workflows.admin import labels
from django_workflows.mailbox import Letter
from django_workflows.models import Event, Handler, Message, Worker
from tests.admin.people import PLACE, a_printing, a_question, a_user, everything, somebody
from tests.storage import a_run, a_worker, end

MANY = 20_000


def found(response: Any) -> list[str]:
    return [handler.handler_id for handler in response.context["cl"].result_list]


def listed(query: str = "", client: Any = None) -> list[str]:
    response = (client or everything()).get(PLACE + query)
    assert response.status_code == 200, query
    return found(response)


# --- what it shows -----------------------------------------------------------------------------------------


def test_each_status_has_its_label() -> None:
    worker, silent = a_worker(), a_worker(silent_for=timedelta(minutes=5))
    a_run("busy", worker=worker.pk)
    a_run("lost", worker=silent.pk)
    a_question("asking")
    for status in ("completed", "failed", "cancelled"):
        end(a_run(status), status=Handler.Status(status))

    text = everything().get(PLACE).content.decode()

    for kind, label in [
        *(("running", "running"), ("orphaned", "orphaned"), ("waiting", "waiting")),
        *((status, status) for status in ("completed", "failed", "cancelled")),
    ]:
        assert text.count(f'<span class="wf-label wf-{kind}">{label}</span>') == 1, kind
    assert "Shall it be printed?" in text


def test_text_from_outside_is_text() -> None:
    a_question("asking", prompt="<script>alert(1)</script>")

    for page in (PLACE, PLACE + "inbox/", f"{PLACE}{Handler.objects.get().pk}/change/"):
        text = everything(page[-8:]).get(page).content.decode()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text


def test_the_owner_is_a_link_for_who_may_see_users() -> None:
    ada = a_user("ada lovelace")
    a_run("hers", owner=ada.pk)
    link = f'href="/admin/auth/user/{ada.pk}/change/"'
    client = everything("bob")
    assert link not in client.get(PLACE).content.decode()
    assert "ada lovelace" in client.get(PLACE).content.decode()

    from django.contrib.auth.models import Permission

    Permission.objects.get(codename="view_user").user_set.add(a_user("eve", "view_handler"))
    from django.test import Client

    eve = Client()
    eve.force_login(type(ada).objects.get(username="eve"))
    assert link in eve.get(PLACE).content.decode()
    assert link in eve.get(f"{PLACE}{Handler.objects.get().pk}/change/").content.decode()


def test_the_last_question_counts_and_is_looked_for_near_the_end() -> None:
    recent, early, nothing = a_question("recent"), a_question("early"), a_run("nothing")
    now = timezone.now()
    Handler.objects.filter(pk=nothing.pk).update(idle_since=now)
    data = '{"value": {"prompt": "And now?"}, "qualified_name": "x", "type": "Approval"}'
    Event.objects.bulk_create(
        Event(handler=run, run=1, sequence=n, type="Progress", internal=False, data=data, created_at=now)
        for run in (recent, early)
        for n in range(1, 1500)
    )
    Event.objects.filter(handler=recent, sequence=1400).update(type="Approval")

    asked = {run.handler_id: run.question for run in everything().get(PLACE).context["cl"].result_list}

    assert asked["recent"].text == "And now?"
    assert asked["early"] is None
    assert asked["nothing"] is None


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(milliseconds=7.4), "7 ms"),
        (timedelta(seconds=2.34), "2.3 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(hours=3, minutes=4), "3 h 4 min"),
        (timedelta(days=1, hours=2), "1 day 2 h"),
        (timedelta(days=8), "8 days"),
        (timedelta(seconds=-3), "0 ms"),
    ],
)
def test_lengths_of_time(length: timedelta, text: str) -> None:
    assert labels.span(length) == text


# --- what it finds -----------------------------------------------------------------------------------------


def test_search_by_the_beginning_of_an_id() -> None:
    one, other = a_run("order-1"), a_run("Order-2")
    a_run("reorder-3")
    a_run("order%4")
    client = everything()

    assert set(listed("?q=order-", client)) == {"order-1"}
    assert set(listed("?q=Order", client)) == {"Order-2"}
    assert set(listed("?q=order%25", client)) == {"order%4"}
    assert set(listed(f"?q={one.run_id[:15]}", client)) == {"order-1"}
    assert set(listed(f"?q=%20{other.handler_id}%20", client)) == {"Order-2"}
    assert listed("?q=nothing", client) == []


def test_filters() -> None:
    worker, silent = a_worker(), a_worker(silent_for=timedelta(minutes=5))
    ada = a_user("countess")
    a_run("busy", worker=worker.pk, workflow_name="sleep")
    a_run("lost", worker=silent.pk)
    a_question("asking", worker=worker.pk)
    answered = a_question("answered", worker=worker.pk)
    mailbox.post(Letter(answered.pk, answered.run, Message.Kind.EVENT, "{}"))
    a_run("unclaimed", owner=ada.pk)
    end(a_run("done"))
    client = everything()

    assert set(listed("?status=completed", client)) == {"done"}
    assert set(listed("?workflow=print", client)) == {"asking", "answered"}
    assert set(listed("?workflow=greet", client)) == {"lost", "unclaimed", "done"}
    assert set(listed("?needs=answer", client)) == {"asking"}
    assert set(listed("?needs=worker", client)) == {"lost"}
    assert set(listed("?needs=claim", client)) == {"unclaimed"}
    assert set(listed(f"?owner={ada.pk}", client)) == {"unclaimed"}
    assert set(listed("?owner=me", client)) == set()
    assert "unclaimed" not in listed("?owner=nobody", client)
    assert set(listed(f"?worker={silent.pk}", client)) == {"lost"}
    assert set(listed(f"?worker={worker.pk}&workflow=sleep", client)) == {"busy"}
    # Choices that nobody offered.
    for query in (
        "status=%00",
        "workflow=a%00b",
        "owner=%00",
        "worker=9999999999999999999999",
        "owner=9999999999999999999999",
        "q=%00",
        "p=-1",
    ):
        assert client.get(f"{PLACE}?{query}").status_code in (200, 302), query
    for query in ("status=x", "workflow=x", "needs=x", "owner=x", "worker=x", "worker=99999"):
        assert client.get(f"{PLACE}?{query}").status_code == 200, query


def test_a_filter_that_a_link_has_chosen_can_be_seen_and_cleared() -> None:
    ada = a_user("countess")
    text = everything().get(f"{PLACE}?owner={ada.pk}&workflow=old").content.decode()
    assert "countess" in text
    assert "Clear all filters" in text
    assert ">old<" in " ".join(text.split()).replace("> ", ">").replace(" <", "<")


def test_dates_lead_from_years_to_days() -> None:
    for number, day in enumerate([(2024, 2, 3), (2025, 12, 31), (2026, 1, 1)]):
        run = a_run(f"run{number}")
        Handler.objects.filter(pk=run.pk).update(started_at=datetime(*day, 12, tzinfo=UTC))
    client = everything()

    def choices(query: str) -> list[str]:
        return [choice.title for choice in client.get(PLACE + query).context["dates"].choices]

    assert choices("") == ["2024", "2025", "2026"]
    assert choices("?started_at__year=2024")[:2] == ["February 2024", "March 2024"]
    assert choices("?started_at__year=2026") == ["January 2026"]
    assert choices("?started_at__year=2024&started_at__month=2")[0] == "February 3"
    assert listed("?started_at__year=2024&started_at__month=2&started_at__day=3", client) == ["run0"]
    assert listed("?started_at__year=2025", client) == ["run1"]
    assert client.get(f"{PLACE}?started_at__year=2025&started_at__month=13").status_code == 302
    assert client.get(f"{PLACE}?started_at__year=x").status_code == 302


def test_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_workflows.admin.handlers import HandlerAdmin

    monkeypatch.setattr(HandlerAdmin, "list_per_page", 2)
    for number in range(5):
        a_run(f"run{number}")
    client = everything()

    first, last = client.get(PLACE), client.get(f"{PLACE}?p=3")
    assert found(first) == ["run4", "run3"]
    assert found(last) == ["run0"]
    assert 'rel="next"' in first.content.decode()
    assert 'rel="prev"' not in first.content.decode()
    assert 'rel="next"' not in last.content.decode()
    assert found(client.get(f"{PLACE}?p=4")) == []
    assert client.get(f"{PLACE}?p=100000").status_code == 302
    assert listed("?o=5", client) == ["run0", "run1"], "the oldest first"


# --- what it costs -----------------------------------------------------------------------------------------


@pytest.fixture
def many() -> None:
    """Many handlers, of which some wait, some are orphaned, and few are of one kind."""
    now = timezone.now()
    workers = [a_worker(), a_worker(silent_for=timedelta(hours=1))]
    user = a_user("owner")
    statuses = ["completed"] * 16 + ["failed", "cancelled", "running", "running"]

    def row(number: int) -> Handler:
        status = statuses[number % len(statuses)]
        waits = status == "running" and number % 3 == 0
        return Handler(
            handler_id=f"handler-{number * 7919 % MANY:06}",
            run_id=f"run-{number:06}",
            workflow_name=["print", "bake", "digest"][number % 3],
            status=status,
            start_event="{}" * 50,
            result=None if status == "running" else "{}" * 50,
            owner=user if number % 50 == 0 else None,
            worker=workers[number % 2] if status == "running" and not waits else None,
            started_at=now - timedelta(minutes=number),
            updated_at=now,
            completed_at=None if status == "running" else now,
            idle_since=now - timedelta(minutes=number) if waits else None,
        )

    Handler.objects.bulk_create([row(number) for number in range(MANY)], batch_size=500)
    waiting = Handler.objects.filter(idle_since__isnull=False)[:500]
    Event.objects.bulk_create(
        [
            Event(
                handler=handler,
                run=1,
                sequence=sequence,
                type="Approval" if sequence == 0 else "StepStateChanged",
                internal=sequence > 0,
                data='{"value": {"prompt": "May I?"}, "qualified_name": "x", "type": "Approval"}',
                created_at=now,
            )
            for handler in waiting
            for sequence in range(20)
        ]
    )
    with connection.cursor() as cursor:
        tables = "TABLE django_workflows_handler, django_workflows_event" if connection.vendor == "mysql" else ""
        cursor.execute(f"ANALYZE {tables}")


def plans(queries: CaptureQueriesContext) -> Iterator[tuple[str, str]]:
    """Yield the statements on our tables, each with how the database goes about it."""
    statements = [query["sql"] for query in queries.captured_queries]
    ours = connection.ops.quote_name("django_workflows_")[:-1]
    for statement in statements:
        if ours not in statement or not statement.startswith("SELECT"):
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"{connection.ops.explain_query_prefix()} {statement}")
            yield statement, "\n".join(str(row[-1]) for row in cursor.fetchall())


# What a page of the list asks of our tables: the rows, what they wait for (the position and the event), the
# first and the last date, their workers, those of the filter, and the count of the inbox.
PAGE_QUERIES = 8
SEARCH_QUERIES = 2


def test_a_page_of_many_costs_few_queries_that_use_an_index(many: None) -> None:
    client = everything()
    client.get(PLACE)
    for query in [
        *("", "?p=3", "?o=5", "?status=failed", "?status=running", "?workflow=bake", "?owner=me"),
        *(
            "?needs=answer",
            "?needs=worker",
            "?started_at__year=2026",
            "?q=handler-0001",
            "?q=run-0123&status=failed",
        ),
    ]:
        with CaptureQueriesContext(connection) as queries:
            response = client.get(PLACE + query)

        assert response.status_code == 200
        ours = list(plans(queries))
        allowed = PAGE_QUERIES + (SEARCH_QUERIES if "q=" in query else 0)
        assert len(ours) <= allowed, (query, [statement for statement, _ in ours])
        for statement, plan in ours:
            assert "COUNT(" not in statement or "LIMIT 100" in statement, f"no bound: {statement}"
            _check(statement, plan)


def _check(statement: str, plan: str) -> None:
    if connection.vendor == "sqlite":
        for line in plan.splitlines():
            assert not re.match(r"SCAN (django_workflows_(handler|event|message)|[UV]\d)\b(?!.*USING)", line), (
                f"{statement}\n{plan}"
            )
            # What was found by its key is sorted; of what has an index, at most the last column.
            is_found = '"django_workflows_handler"."id" IN (' in statement
            assert "TEMP B-TREE FOR ORDER BY" not in line or is_found, f"{statement}\n{plan}"
    elif connection.vendor == "postgresql":
        assert not re.search(r"Seq Scan on django_workflows_(handler|event)", plan), f"{statement}\n{plan}"


def test_the_number_of_queries_does_not_grow_with_the_rows() -> None:
    client = everything()
    numbers = []
    for more in (2, 20):
        for number in range(more):
            a_question(f"q{more}-{number}", owner=a_user(f"user{more}-{number}").pk)
            a_printing(f"r{more}-{number}")
        for page in (PLACE, PLACE + "inbox/", "/admin/django_workflows/worker/"):
            client.get(page)
            with CaptureQueriesContext(connection) as queries:
                assert client.get(page).status_code == 200
            numbers.append(len(queries))
    assert numbers[:3] == numbers[3:]


def test_the_inbox_of_many_is_served_by_its_index(many: None) -> None:
    client = everything()
    with CaptureQueriesContext(connection) as queries:
        response = client.get(PLACE + "inbox/")
    assert response.status_code == 200
    assert len(response.context["entries"]) == 20
    for statement, plan in plans(queries):
        assert "COUNT(" not in statement
        _check(statement, plan)

    text = client.get("/admin/").content.decode()
    assert "<strong>99+</strong>" in text


def test_the_page_of_one_run_reads_a_bounded_part_of_it() -> None:
    handler = a_question("long")
    now = timezone.now()
    Event.objects.bulk_create(
        [
            Event(
                handler=handler,
                run=1,
                sequence=sequence,
                type="Progress",
                internal=False,
                data='{"value": {"n": 1}, "qualified_name": "x.Progress", "type": "Progress"}',
                created_at=now,
            )
            for sequence in range(1, 8000)
        ],
        batch_size=500,
    )
    client = somebody("bob", "view_handler")

    with CaptureQueriesContext(connection) as queries:
        page = client.get(f"{PLACE}{handler.pk}/change/")

    assert len(queries) <= 16
    events = page.context["events"]
    assert [row.sequence for row in events.rows] == list(range(50))
    assert len(page.content) < 100_000

    later = client.get(f"{PLACE}{handler.pk}/change/{events.later.split('#')[0]}").context["events"]
    assert [row.sequence for row in later.rows] == list(range(50, 100))
    back = client.get(f"{PLACE}{handler.pk}/change/{later.earlier.split('#')[0]}").context["events"]
    assert [row.sequence for row in back.rows] == list(range(50))
    assert not back.earlier
    last = client.get(f"{PLACE}{handler.pk}/change/?after=7990").context["events"]
    assert not last.later
    assert Worker.objects.count() == 0
