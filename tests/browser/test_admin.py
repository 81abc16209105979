"""The admin as a person uses it: a real server, real runs, a real browser; an error in its console fails the test.

What the pages looked like is kept as pictures (``admin_person.PICTURES``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, expect

from tests.browser.admin_person import SCHEMES, SIZES, Person, a_browser, a_server, make_user
from tests.browser.admin_pictures import make_runs, start, wait_until_asking
from tests.browser.barriers import barriers
from tests.conftest import require
from tests.servers import Server, pytest_runtest_makereport  # noqa: F401

# Parts of the pages that Django makes.
DJANGOS = ["#changelist-search"]

Enter = Callable[..., Person]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    require("chromium")
    with a_server() as (server, database):
        make_user(database, "bob")
        make_runs(server)
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require("chromium")
    with a_browser() as browser:
        yield browser


@pytest.fixture
def enter(browser: Browser, server: Server) -> Iterator[Enter]:
    """Let somebody in; everybody leaves at the end of the test, without errors in their consoles."""
    people: list[Person] = []

    def person(name: str = "ada", **looks: str) -> Person:
        people.append(Person(browser, server.origin, name, **looks))
        return people[-1]

    yield person
    for one in people:
        one.leave()


def test_a_run_is_started_asks_and_is_answered(enter: Enter) -> None:
    ada = enter()
    page = ada.page
    ada.go("handler/")
    page.get_by_role("link", name="Start a run").click()
    page.get_by_role("link", name="print", exact=True).click()

    page.get_by_label("Title").fill("lower case")
    page.get_by_label("Yes").check()
    page.get_by_label("Tags").fill('["a"]')
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".wf-field.errors")).to_contain_text("a title begins with a capital letter")
    expect(page.get_by_label("Tags")).to_have_value(re.compile('"a"'))

    page.get_by_label("Title").fill("A poster")
    page.get_by_label("Urgent").check()
    page.get_by_label("Paper").select_option("Letter")
    page.get_by_label("On", exact=True).fill("2026-12-24")
    page.get_by_role("button", name="Start").click()
    assert "was started" in ada.said
    expect(page.locator(".wf-title")).to_contain_text("print")
    handler = page.locator(".wf-title span").inner_text()
    expect(page.locator("#content")).to_contain_text('"on": "2026-12-24"')

    ada.wait_for("wf-waiting")
    ada.go("handler/inbox/")
    entry = page.locator(".wf-entry", has_text=handler)
    expect(entry.locator(".wf-asked")).to_have_text("Shall “A poster” be printed?")
    entry.locator(".wf-answer > summary").click()
    entry.get_by_role("button", name="Send answer").click()
    expect(page.locator(".wf-field.errors")).to_contain_text("This field is required.")
    page.get_by_label("Yes").check()
    page.get_by_label("Note").fill("In colour, please.")
    page.get_by_role("button", name="Send answer").click()
    assert f"Your answer to {handler} is sent." in ada.said
    ada.wait_until_gone(f"{handler}</a></h2>")

    ada.open(handler)
    expect(page.locator(".wf-summary .wf-completed")).to_be_visible()
    expect(page.locator("#content")).to_contain_text('"note": "In colour, please."')
    expect(page.locator(".wf-log")).to_contain_text("Answered Decision")
    expect(page.locator(".wf-log")).to_contain_text("ada")


def test_the_second_of_two_answers_is_told(enter: Enter, server: Server) -> None:
    handler = start(server, "print", {"title": "Race", "signed": False}, "race-1")
    wait_until_asking(server, handler)
    people = [enter("ada"), enter("bob")]
    for one in people:
        one.open(handler)
        one.page.get_by_role("link", name="Answer", exact=True).click()
        one.page.get_by_label("No", exact=True).check()
        one.page.get_by_label("Note").fill("I was first.")
    for one in people:
        one.page.get_by_role("button", name="Send answer").click()
        one.page.wait_for_selector(".messagelist")

    assert "is sent" in people[0].said
    assert "Somebody has answered" in people[1].said or "has ended" in people[1].said


def test_a_run_is_cancelled_repeated_and_deleted(enter: Enter, server: Server) -> None:
    start(server, "bake", {"reason": "no flour"}, "doomed-1")
    start(server, "sleep", {}, "sleepy-1")
    ada = enter()
    page = ada.page

    ada.open("sleepy-1")
    page.get_by_role("button", name="Cancel").click()
    assert "1 run is being cancelled." in ada.said
    ada.wait_for("wf-cancelled")
    page.reload()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)

    ada.open("doomed-1")
    ada.wait_for("wf-failed")
    page.reload()
    expect(page.locator(".wf-error pre")).to_have_text("no flour")
    expect(page.locator(".wf-bar.wf-is-failed")).to_have_count(1)
    page.get_by_role("link", name="Run again").click()
    expect(page.get_by_label("Reason")).to_have_value("no flour")
    page.get_by_label("Reason").fill("no sugar")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#content")).to_contain_text('"reason": "no sugar"')
    again = page.locator(".wf-title span").inner_text()

    ada.go("handler/?q=sleepy-1")
    page.locator("tr", has_text="sleepy-1").get_by_role("checkbox").check()
    page.locator("select[name=action]").select_option("purge_selected")
    page.get_by_role("button", name="Go").click()
    expect(page.locator("#content")).to_contain_text("This run will be deleted")
    page.get_by_role("link", name="No, take me back").click()
    ada.open(again)
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Yes, delete").click()
    assert "1 run was deleted." in ada.said
    ada.go(f"handler/?q={again}")
    expect(page.locator("#changelist-form")).to_contain_text("Nothing here.")


def test_the_list_is_narrowed_and_the_page_of_a_run_read(enter: Enter) -> None:
    ada = enter()
    page = ada.page
    ada.go("handler/")
    page.locator("#changelist-filter").get_by_role("link", name="an answer").click()
    expect(page.locator("#result_list tbody tr")).not_to_have_count(0)
    for row in page.locator("#result_list tbody tr").all():
        expect(row.locator(".wf-label")).to_have_text("waiting")
    page.locator("#changelist-filter").get_by_role("link", name="digest").click()
    page.get_by_role("link", name="digest-1").click()

    expect(page.locator(".wf-graph .wf-step")).to_have_count(5)
    expect(page.locator(".wf-graph .wf-is-done")).to_have_count(4)
    expect(page.locator(".wf-timeline tbody tr")).to_have_count(4)
    events = page.locator(".wf-logged")
    shown = events.count()
    events.first.locator("summary").click()
    expect(events.first.locator("pre")).to_contain_text('"done": 1')
    page.get_by_role("link", name="Show the engine's own too").click()
    assert events.count() > shown
    page.get_by_role("link", name="Later").click()
    expect(events.first.locator(".wf-sequence")).to_have_text("50")

    page.locator(".wf-section", has_text="Execution").get_by_role("link", name="rows").click()
    expect(page.locator("#result_list tbody tr")).not_to_have_count(0)


def test_what_a_run_says_is_text_and_never_markup(enter: Enter, server: Server) -> None:
    hostile = "A<img src=x onerror=alert(1)></pre>"
    start(server, "print", {"title": hostile, "signed": True, "note": hostile, "tags": [hostile]}, "hostile-1")
    wait_until_asking(server, "hostile-1")
    ada = enter()
    page = ada.page
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    ada.open("hostile-1")
    expect(page.locator("#content")).to_contain_text(f"Shall “{hostile}” be printed?")
    page.locator(".wf-logged").last.locator("summary").click()
    assert page.locator("#content img, #content script").count() == 0
    for where in ("handler/?q=hostile-1", "handler/inbox/"):
        ada.go(where)
        expect(page.locator("#content").get_by_text("<img src=x onerror=alert(1)>").first).to_be_attached()
        assert page.locator("#content img[src=x], #content script[src='']").count() == 0


def test_workers_and_the_count_on_the_index(enter: Enter) -> None:
    ada = enter()
    page = ada.page
    page.goto("/admin/")
    page.get_by_role("link", name="wait for an answer").click()
    expect(page).to_have_title("Inbox | Django site admin")
    ada.go("worker/")
    expect(page.locator(".wf-living")).to_have_text("living")
    page.get_by_role("link", name="1 sleep").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)


@pytest.mark.parametrize("size", SIZES)
def test_pictures_in_which_nothing_sticks_out_and_nothing_is_in_the_way(enter: Enter, size: str) -> None:
    ada = enter(size=size)
    ada.page.goto("/admin/")
    _look(ada, "index")
    for name, where in {
        "list": "handler/",
        "inbox": "handler/inbox/",
        "choose": "handler/start/",
        "start": "handler/start/print/",
        "workers": "worker/",
    }.items():
        ada.go(where)
        _look(ada, name)
    for handler in ("digest-1", "print-2", "bake-1", "sleep-1"):
        ada.open(handler)
        _look(ada, f"run-{handler}")
    ada.open("print-1")
    for link, name in (("Answer", "answer"), ("Delete …", "purge")):
        ada.page.locator(".wf-verbs").get_by_role("link", name=link).click()
        _look(ada, name)
        ada.page.go_back()


def _look(person: Person, name: str) -> None:
    for scheme in SCHEMES:
        person.page.emulate_media(color_scheme=scheme)
        person.picture(name, suffix=f"-{person.size}-{scheme}")
        # Colours are the same at every size.
        if scheme == "light" or person.size == "desktop":
            assert barriers(person.page, without=DJANGOS) == [], person.page.url
    wide = person.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{person.page.url} is {wide} px too wide"


def test_no_column_of_the_list_is_cut_off_between_two_sidebars(enter: Enter, server: Server) -> None:
    start(server, "print", {"title": "A poster", "signed": True}, "Wm4keUzacWsiXr7rBOzaQW")
    ada = enter()
    for width in (1280, 1400):
        ada.page.set_viewport_size({"width": width, "height": 900})
        ada.go("handler/")
        expect(ada.page.locator("#nav-sidebar")).to_be_visible()
        expect(ada.page.locator("#changelist-filter")).to_be_visible()
        hidden = ada.page.locator(".results").evaluate("one => one.scrollWidth - one.clientWidth")
        assert hidden <= 0, f"{hidden} px are hidden at {width}"


@pytest.mark.parametrize("theme", SCHEMES)
def test_the_admins_own_switch_of_the_theme_changes_the_labels(enter: Enter, theme: str) -> None:
    """The system says one, the person the other."""
    ada = enter(scheme=SCHEMES[1 - SCHEMES.index(theme)])
    ada.page.evaluate(f"localStorage.setItem('theme', '{theme}')")
    ada.go("handler/?q=bake-1")
    colour = ada.page.locator(".wf-failed").evaluate("one => getComputedStyle(one).backgroundColor")
    assert colour == {"light": "rgb(254, 226, 226)", "dark": "rgb(87, 21, 21)"}[theme]
