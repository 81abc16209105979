"""The list of runs, and two of them side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests import servers
from tests.browser import ADA, site
from tests.browser.conftest import Watch, log_in

Start = Callable[..., str]
PAGE = 50


def table(page: Page) -> Any:
    return page.get_by_role("table", name="Runs, newest first")


def row(page: Page, handler_id: str) -> Any:
    return table(page).get_by_role("row").filter(has=page.get_by_role("link", name=handler_id, exact=True))


def test_runs_are_listed_newest_first_and_live(page: Page, start: Start, finish: Start, api: httpx.Client) -> None:
    finish("notes", "listed-1", words=["a"])
    start("desk", "listed-2", title="Tea")
    page.goto("?view=runs")

    ids = table(page).locator(".cell-id")
    expect(ids.nth(0)).to_have_text("listed-2")
    expect(ids.nth(1)).to_have_text("listed-1")
    expect(row(page, "listed-2")).to_contain_text("waiting")
    api.post("/events/listed-2", json={"event": {"type": "Decision", "value": {"approve": False}}})

    expect(row(page, "listed-2")).to_contain_text("completed")
    start("sleep", "listed-3")
    expect(row(page, "listed-3")).to_contain_text("running")


def test_they_are_filtered_and_the_filter_is_in_the_link(page: Page, start: Start, finish: Start) -> None:
    finish("notes", "kept-1", words=["a"])
    finish("order", "kept-2", name="Nobody", address={"street": "Here"})
    start("sleep", "kept-3")
    page.goto("?view=runs")
    page.get_by_role("checkbox", name="failed", exact=True).check()
    expect(row(page, "kept-2")).to_be_visible()
    expect(row(page, "kept-1")).to_have_count(0)
    page.get_by_role("checkbox", name="completed", exact=True).check()
    expect(row(page, "kept-1")).to_be_visible()
    page.get_by_label("Workflow", exact=True).select_option("notes")
    expect(row(page, "kept-2")).to_have_count(0)
    assert page.url.endswith("?view=runs&workflow=notes&status=completed&status=failed")

    page.reload()

    expect(row(page, "kept-1")).to_be_visible()
    expect(row(page, "kept-2")).to_have_count(0)
    expect(page.get_by_role("checkbox", name="failed", exact=True)).to_be_checked()


def test_those_that_wait_for_an_answer_are_one_filter(page: Page, start: Start) -> None:
    start("desk", "asking-1", title="Tea")
    start("sleep", "asking-2")
    page.goto("?view=runs&q=asking")
    expect(row(page, "asking-1")).to_contain_text("waiting")
    expect(row(page, "asking-2")).to_contain_text("running")

    page.get_by_role("checkbox", name="running", exact=True).check()
    page.get_by_role("checkbox", name="waiting", exact=True).check()

    expect(page.get_by_role("checkbox", name="running", exact=True)).not_to_be_checked()
    expect(row(page, "asking-2")).to_have_count(0)
    expect(row(page, "asking-1")).to_contain_text("waiting")
    assert page.url.endswith("?view=runs&status=waiting&q=asking")
    page.get_by_role("link", name="asking-1").click()
    expect(page.locator(".run-facts")).to_contain_text("waiting for an answer")


def test_they_are_found_by_the_beginning_of_their_id(page: Page, finish: Start) -> None:
    for handler in ("needle-1", "needle-2", "haystack"):
        finish("notes", handler, words=["a"])
    page.goto("?view=runs")
    page.get_by_label("Id begins with").fill("needle")

    expect(row(page, "haystack")).to_have_count(0)
    expect(table(page).locator("tbody tr")).to_have_count(2)
    assert "q=needle" in page.url


def test_what_no_id_can_be_is_said(page: Page, finish: Start, watch: Watch) -> None:
    watch.allow("400")
    finish("notes", "some-id", words=["a"])
    page.goto("?view=runs")
    page.get_by_label("Id begins with").fill("a b")

    expect(page.get_by_role("alert")).to_contain_text("white space")


def test_a_filter_that_nothing_fits_says_so(page: Page) -> None:
    page.goto("?view=runs&workflow=ask&status=cancelled")

    expect(page.get_by_role("heading", name="No run fits")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="All runs").click()
    expect(page).to_have_url(re.compile(r"\?view=runs$"))


def test_runs_are_deleted_after_asking(page: Page, finish: Start, api: httpx.Client) -> None:
    for handler in ("gone-1", "gone-2"):
        finish("notes", handler, words=["a"])
    page.goto("?view=runs")
    page.get_by_label("Select gone-1").check()
    page.get_by_label("Select gone-2").check()
    page.get_by_role("button", name="Delete 2…").click()
    page.get_by_role("dialog", name="Delete 2 runs?").get_by_role("button", name="Delete the runs").click()

    expect(row(page, "gone-1")).to_have_count(0)
    expect(row(page, "gone-2")).to_have_count(0)
    assert api.get("/handlers/gone-1").status_code == 404


def test_two_runs_are_compared(page: Page, finish: Start) -> None:
    finish("fan", "pair-1", parts=2, delay=0)
    finish("fan", "pair-2", parts=3, delay=0)
    page.goto("?view=runs")
    page.get_by_label("Select pair-1").check()
    expect(page.get_by_role("button", name="Compare")).to_be_disabled()
    page.get_by_label("Select pair-2").check()
    page.get_by_role("button", name="Compare").click()

    expect(page.get_by_role("region", name="Run pair-1", exact=True)).to_contain_text("completed")
    expect(page.get_by_role("region", name="Inputs")).to_contain_text("parts")
    expect(page.get_by_role("region", name="First difference of the event logs")).to_contain_text("part 2")
    coverage = page.get_by_role("region", name="Where they went")
    expect(coverage.get_by_role("row").filter(has_text="work")).to_have_text(re.compile("2 .*3 "))
    expect(page.get_by_role("region", name="Where the time went")).to_contain_text("collect")
    for run in ("pair-1", "pair-2"):
        course = page.get_by_role("region", name=f"Course of {run}")
        expect(course.locator(".wf-node.is-done").first).to_be_visible()
        expect(course.get_by_role("button", name=re.compile("^work ·")).first).to_be_visible()


def test_runs_that_did_the_same_are_said_to(page: Page, finish: Start) -> None:
    for handler in ("same-1", "same-2"):
        finish("notes", handler, words=["a"])
    page.goto("?view=compare&a=same-1&b=same-2")

    expect(page.get_by_role("region", name="First difference of the event logs")).to_contain_text("None")
    expect(page.get_by_role("region", name="Inputs")).to_contain_text("The same")


def test_the_other_run_is_picked_from_a_runs_page(page: Page, finish: Start) -> None:
    for handler in ("picked-1", "picked-2"):
        finish("notes", handler, words=["a"])
    page.goto("?run=picked-1")
    page.get_by_role("link", name="Compare…").click()
    expect(page.get_by_label("The one run")).to_have_value("picked-1")
    page.get_by_label("The other run").fill("picked-2")
    page.get_by_role("button", name="Compare").click()

    expect(page.get_by_role("region", name="Run picked-2", exact=True)).to_be_visible()


def test_a_run_to_compare_with_that_is_not_there_is_said(page: Page, finish: Start, watch: Watch) -> None:
    watch.allow("404")
    finish("notes", "lonely", words=["a"])
    page.goto("?view=compare&a=lonely&b=nobody")

    expect(page.get_by_role("alert")).to_contain_text("There is no run nobody")


# --- many runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded() -> Iterator[servers.Server]:
    """A site with 10,000 runs that have ended."""
    with servers.Database() as database:
        running = site(database)
        servers.manage("shell", "--command", _MANY, environment=database.environment, site="tests.browser.site")
        with servers.terminating(running) as server:
            yield server


_MANY = """
from datetime import UTC, datetime, timedelta
from django_workflows.models import Handler
moment = datetime(2026, 1, 1, tzinfo=UTC)
Handler.objects.bulk_create(
    [
        Handler(
            handler_id=f"old-{number:05}",
            run_id=f"run-{number}",
            workflow_name="notes",
            status="completed",
            start_event="{}",
            result='{"value": {}, "type": "StopEvent", "qualified_name": "workflows.events.StopEvent"}',
            started_at=moment + timedelta(minutes=number),
            updated_at=moment,
            completed_at=moment + timedelta(minutes=number, seconds=2),
        )
        for number in range(10_000)
    ],
    batch_size=500,
)
"""


@pytest.fixture
def at_the_crowded(browser: Browser, crowded: servers.Server, watch: Watch) -> Iterator[Page]:
    """A page of somebody who has yet to log in there: cookies are a host's, whatever its port."""
    context = browser.new_context()
    page = context.new_page()
    watch.on(page)
    yield page
    context.close()
    assert watch.unexpected == []


def test_ten_thousand_runs_need_one_page_of_them(at_the_crowded: Page, crowded: servers.Server) -> None:
    page = at_the_crowded
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/handlers?" in request.url else None)
    page.goto(crowded.url + "/?view=runs")
    log_in(page)

    expect(table(page).locator("tbody tr")).to_have_count(PAGE)
    expect(row(page, "old-09999")).to_be_visible()
    assert len(asked) == 1
    assert httpx.get(asked[0], auth=ADA).json()["next_cursor"]

    page.get_by_role("button", name="Older").click()
    expect(row(page, "old-09949")).to_be_visible()
    assert "cursor=" in page.url
    expect(row(page, "old-09999")).to_have_count(0)
    page.get_by_role("button", name="Newer").click()
    expect(row(page, "old-09999")).to_be_visible()


def test_runs_of_long_ago_are_left_out(at_the_crowded: Page, crowded: servers.Server) -> None:
    page = at_the_crowded
    httpx.post(
        crowded.url + "/workflows/notes/run",
        json={"handler_id": "of-today", "start_event": {"words": ["a"]}},
        auth=ADA,
    ).raise_for_status()
    page.goto(crowded.url + "/?view=runs")
    log_in(page)
    expect(table(page).locator("tbody tr")).to_have_count(PAGE)
    page.get_by_label("Started in").select_option("the last hour")

    expect(table(page).locator("tbody tr")).to_have_count(1)
    expect(row(page, "of-today")).to_be_visible()
    assert "since=1h" in page.url
