"""The page itself: getting in, finding one's way, links, keys, themes; and what it weighs."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests import servers
from tests.browser import ADA, site
from tests.browser.conftest import Watch, log_in

# Bytes of JavaScript that any of its pages may load.
MOST_SCRIPT = 150_000


def test_who_is_not_logged_in_logs_in_and_lands_where_the_link_leads(
    browser: Browser, server: servers.Server, finish: Any, watch: Watch
) -> None:
    finish("notes", "after-login", words=["a"])
    context = browser.new_context()
    page = context.new_page()
    watch.on(page)

    page.goto(server.url + "/?run=after-login&tab=state")
    log_in(page)

    expect(page.get_by_role("heading", name="after-login")).to_be_visible()
    expect(page.get_by_role("tab", name="State")).to_have_attribute("aria-selected", "true")
    assert page.url == server.url + "/?run=after-login&tab=state"
    assert watch.unexpected == []
    context.close()


def test_after_the_login_nobody_is_led_to_another_site(
    browser: Browser, server: servers.Server, watch: Watch
) -> None:
    context = browser.new_context()
    page = context.new_page()
    watch.on(page)
    page.goto(f"{server.origin}/admin/login/?next=//evil.example/")

    page.get_by_label("Username").fill(ADA[0])
    page.get_by_label("Password").fill(ADA[1])
    # The site has no page of its own to come back to, and says so.
    watch.allow("404")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "/login/" not in url)

    assert page.url.startswith(server.origin)
    assert watch.unexpected == []
    context.close()


def test_the_first_page_shows_the_workflows_that_are_served(page: Page) -> None:
    page.goto("")

    picker = page.get_by_role("navigation", name="Workflows")
    expect(picker.get_by_role("link")).to_have_text(
        ["fan", "desk", "ask", "notes", "flaky", "sleep", "talk", "order", "party", "survey"]
    )
    expect(page.get_by_role("heading", name="fan", level=1)).to_be_visible()
    expect(page.get_by_text("Does parts side by side").first).to_be_visible()


def test_the_way_back_leads_back(page: Page) -> None:
    page.goto("")
    page.get_by_role("navigation", name="Workflows").get_by_role("link", name="desk").click()
    expect(page.get_by_role("heading", name="desk", level=1)).to_be_visible()
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Runs").click()
    expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()

    page.go_back()
    expect(page.get_by_role("heading", name="desk", level=1)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="fan", level=1)).to_be_visible()
    page.go_forward()
    expect(page.get_by_role("heading", name="desk", level=1)).to_be_visible()


def test_the_theme_follows_the_system_until_it_is_chosen_and_is_remembered(page: Page) -> None:
    html = page.locator("html")
    page.emulate_media(color_scheme="dark")
    page.goto("")
    expect(html).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(html).to_have_attribute("data-theme", "light")

    switch = page.get_by_role("button", name="Theme")
    switch.click()
    expect(switch).to_have_accessible_name("Theme: light. Switch it")
    switch.click()
    expect(html).to_have_attribute("data-theme", "dark")
    page.reload()

    expect(html).to_have_attribute("data-theme", "dark")
    expect(switch).to_have_accessible_name("Theme: dark. Switch it")


def test_everything_can_be_done_with_keys(page: Page) -> None:
    page.goto("")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()

    page.keyboard.press("l")
    expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("Look for an id")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    expect(page.get_by_label("Id begins with")).to_be_focused()
    # In a field, a letter is a letter.
    page.keyboard.press("w")
    expect(page.get_by_label("Id begins with")).to_have_value("w")


def test_single_keys_can_be_switched_off(page: Page) -> None:
    page.goto("")
    page.keyboard.press("?")
    page.get_by_label("Single keys do something").uncheck()
    page.get_by_role("button", name="Close").click()
    page.reload()
    expect(page.get_by_role("heading", name="fan", level=1)).to_be_visible()

    page.keyboard.press("l")
    page.wait_for_timeout(200)

    expect(page.get_by_role("heading", name="fan", level=1)).to_be_visible()


def test_what_is_not_there_is_said_with_what_to_do(page: Page, watch: Watch) -> None:
    watch.allow(r"404")
    page.goto("?run=nobody-knows-it")
    expect(page.get_by_role("heading", name="This run does not exist")).to_be_visible()
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()

    page.goto("?workflow=nothing")
    expect(page.get_by_role("heading", name="This workflow does not exist")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("link", name="Its runs").click()
    expect(page.get_by_label("Workflow", exact=True)).to_have_value("nothing")
    page.go_back()
    page.get_by_role("link", name="All workflows").click()
    expect(page.get_by_role("heading", name="fan", level=1)).to_be_visible()

    page.goto("?workflow=fan&again=nobody-knows-it")
    page.get_by_role("link", name="Start a new run").click()
    expect(page.get_by_role("heading", name="Start a run")).to_be_visible()


def test_a_server_that_is_away_is_said_and_tried_again(page: Page, watch: Watch, context: BrowserContext) -> None:
    watch.allow("ERR_INTERNET_DISCONNECTED")
    page.goto("")
    expect(page.get_by_role("heading", name="fan", level=1)).to_be_visible()
    context.set_offline(True)
    page.get_by_role("navigation", name="Workflows").get_by_role("link", name="desk").click()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")

    context.set_offline(False)
    page.get_by_role("button", name="Try again").click()

    expect(page.get_by_role("heading", name="desk", level=1)).to_be_visible()


@pytest.mark.parametrize(
    ("module", "query", "key", "said"),
    [
        ("compound", "?workflow=order", None, "A part of the form could not be loaded."),
        ("keylist", "?workflow=notes", "?", "The list of keys could not be loaded."),
        ("runlist", "?view=runs", None, "A part of the page could not be loaded."),
    ],
)
def test_a_part_that_cannot_be_loaded_is_said(
    page: Page, watch: Watch, module: str, query: str, key: str | None, said: str
) -> None:
    watch.allow(f"{module}.*js|ERR_FAILED|Failed to fetch dynamically imported module")
    page.route(f"**/debugger/{module}*.js", lambda route: route.abort())
    page.goto(query)
    if key:
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.keyboard.press(key)

    expect(page.get_by_role("alert")).to_contain_text(said)


def scripts(page: Page) -> dict[str, int]:
    """The bytes of each script that a page has loaded, by its file's name."""
    page.wait_for_load_state("networkidle")
    sizes: dict[str, int] = page.evaluate(
        """() => Object.fromEntries(performance.getEntriesByType("resource")
          .filter((one) => new URL(one.name).pathname.endsWith(".js"))
          .map((one) => [one.name.split("/").at(-1), one.decodedBodySize]))"""
    )
    assert "debugger.js" in sizes
    assert all(sizes.values())
    return sizes


@pytest.fixture
def weighed(start: Any, finish: Any, api: httpx.Client) -> None:
    """A run that has ended, and two that ask: the one for plain fields, the other for a list and a choice."""
    if api.get("/handlers/weighed").status_code == 404:
        finish("notes", "weighed", words=["a"])
        start("desk", "weighing", title="Tea", tags=["hot"])
        start("party", "heaviest")


def expect_question(page: Page, title: str) -> None:
    """The question and its form are there whatever is looked at."""
    expect(page.get_by_role("region", name=title).get_by_role("button", name="Answer")).to_be_visible()
    expect(page.locator(".prompt .wf-form-fields > *")).to_be_visible()
    expect(page.get_by_role("tabpanel").locator("*").first).to_be_visible()


@pytest.mark.parametrize(
    "query",
    [
        "?workflow=order",
        "?run=weighed",
        "?run=weighing",
        "?run=weighing&tab=timeline",
        "?run=weighing&tab=state",
        "?run=weighing&tab=answer",
        "?run=heaviest",
        "?run=heaviest&tab=timeline",
        "?run=heaviest&tab=state",
        "?run=heaviest&tab=answer",
        "?view=runs",
        "?view=compare&a=weighed&b=weighing",
    ],
)
def test_no_page_loads_more_than_150_kB_of_script(page: Page, weighed: None, query: str) -> None:
    """What a page needs on occasion (the form of an answer, the timeline) comes when it is needed."""
    page.goto(query)
    questions = {"?run=weighing": "Publish", "?run=heaviest": "Who comes"}
    if question := questions.get(query.partition("&")[0]):
        expect_question(page, question)
    expect(page.locator("main .page")).to_be_visible()
    expect(page.locator("main")).not_to_contain_text("Loading")

    sizes = scripts(page)

    assert ("compound.js" in sizes) == (query == "?workflow=order" or "heaviest" in query)
    assert ("timeline.js" in sizes) == ("tab=timeline" in query or "compare" in query)
    assert "route.js" not in sizes
    assert sum(sizes.values()) < MOST_SCRIPT, sizes


def test_a_page_whose_graph_was_rearranged_keeps_the_limit_as_well(page: Page, weighed: None) -> None:
    page.goto("?run=heaviest")
    page.get_by_role("button", name="Step welcome").press("Shift+ArrowRight")
    page.reload()
    expect_question(page, "Who comes")

    sizes = scripts(page)

    assert "route.js" in sizes
    assert sum(sizes.values()) < MOST_SCRIPT, sizes


def test_all_of_it_is_small_on_the_way() -> None:
    """A server that compresses, as most do, sends a third."""
    modules = (servers.ROOT / "django_workflows" / "static" / "django_workflows" / "debugger").glob("*.js")

    assert sum(len(gzip.compress(module.read_bytes())) for module in modules) < 90_000


@pytest.mark.parametrize(
    ("environment", "prefix"),
    [
        pytest.param({"SITE_PREFIX": ""}, "", id="at the root"),
        pytest.param({"SITE_PREFIX": "a/b c/"}, "/a/b%20c", id="deeper"),
        pytest.param({"SITE_SCRIPT_NAME": "/mounted"}, "/mounted/workflows", id="below a script name"),
    ],
)
def test_it_works_wherever_it_is_included(
    browser: Browser, watch: Watch, environment: dict[str, str], prefix: str
) -> None:
    with (
        servers.Database() as database,
        servers.terminating(site(database, prefix=prefix, environment=environment)) as server,
    ):
        context = browser.new_context()
        page = context.new_page()
        watch.on(page)
        page.goto(server.url + "/?workflow=notes")
        log_in(page)
        page.get_by_role("button", name="JSON").click()
        page.get_by_label("JSON", exact=True).fill('{"words": ["here"]}')
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator(".run-facts")).to_contain_text("completed")
        assert page.url.startswith(server.url + "/?run=")
        context.close()
    assert watch.unexpected == []


@pytest.mark.parametrize("storage", ["ManifestStaticFilesStorage", "AggregatingStorage"])
def test_it_works_with_static_files_under_hashed_names(
    browser: Browser, watch: Watch, tmp_path: Any, storage: str
) -> None:
    home = "tests.browser.storage" if storage == "AggregatingStorage" else "django.contrib.staticfiles.storage"
    environment = {"SITE_STATIC_ROOT": str(tmp_path), "SITE_STATIC_STORAGE": f"{home}.{storage}"}
    servers.manage(
        "collectstatic", "--noinput", "--verbosity=0", environment=environment, site="tests.browser.site"
    )
    with servers.Database() as database, servers.terminating(site(database, environment=environment)) as server:
        context = browser.new_context()
        page = context.new_page()
        watch.on(page)
        page.goto(server.url + "/?workflow=fan")
        log_in(page)
        expect(page.get_by_role("heading", name="fan", level=1)).to_be_visible()
        names = page.evaluate(
            """() => performance.getEntriesByType("resource").map((one) => one.name)
              .filter((name) => name.includes("/debugger/") && name.endsWith(".js"))
              .map((name) => name.split("/").at(-1))"""
        )
        context.close()
    assert watch.unexpected == []
    # No module is there twice, once by each of its names.
    bare = [name.split(".")[0] for name in names]
    assert sorted(bare) == sorted(set(bare))
    if storage == "AggregatingStorage":
        assert all(name.count(".") == 2 for name in names), names
