"""The JavaScript client in a browser, against a server that is killed: no gap, nothing twice."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import servers
from tests.conftest import require
from tests.servers import Server

SITE = "example_project.settings"
PATIENCE = 60.0
ITEMS = [f"item {number}" for number in range(40)]

# Collects what a run tells; the page has a Content-Security-Policy, so this is a module of the site's own.
_FOLLOW = """async ([handlerId, transport]) => {
    const {follow} = await import("/static/django_workflows/client.js");
    const run = follow("/workflows", handlerId, {includeInternal: true, transport});
    window.run = run;
    window.heard = {sequences: [], states: [], end: null};
    run.addEventListener("event", ({detail}) => window.heard.sequences.push(detail.sequence));
    run.addEventListener("state", ({detail}) => window.heard.states.push(detail.state));
    run.addEventListener("end", ({detail}) => { window.heard.end = detail.handler; });
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    require("chromium")
    with servers.Database("sqlite") as database:
        environment = {"DATABASE_NAME": f"{database.environment['DATABASE_DIRECTORY']}/db.sqlite3", "DEBUG": "1"}
        with servers.runworkflows(database, site=SITE, environment=environment) as server:
            yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    require("chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(server: Server, browser: Any) -> Iterator[Any]:
    """A page of the site; what goes wrong in it fails the test, but for a server that is away."""
    context = browser.new_context(base_url=server.origin)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: message.type == "error" and problems.append(_described(message)))
    yield page
    context.close()
    # The browser's own words for a server that is away, for answers such as 400, and for what the admin has not.
    expected = ("ERR_", "WebSocket connection to", "/workflows/", "/favicon.ico")
    assert [text for text in problems if not any(part in text for part in expected)] == []


def _described(message: Any) -> str:
    return f"{message.text} ({message.location['url']})"


def until(page: Any, condition: str) -> None:
    """Wait for something in the page (whose policy forbids that Playwright itself looks from inside)."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"{condition}; {page.evaluate('JSON.stringify(window.heard)')}"
        page.wait_for_timeout(20)


def start(server: Server, **start_event: Any) -> str:
    answer = httpx.post(
        f"{server.url}/workflows/process_items/run-nowait", json={"start_event": start_event}, verify=False
    )
    handler_id: str = answer.raise_for_status().json()["handler_id"]
    return handler_id


def logged(server: Server, handler_id: str) -> list[int]:
    """Return the sequences of a run's events."""
    url = f"{server.url}/events/{handler_id}?after_sequence=-1&include_internal=true"
    found = httpx.get(url, timeout=30, verify=False)
    return [int(line[4:]) for line in found.text.splitlines() if line.startswith("id: ")]


@pytest.mark.parametrize("transport", ["auto", "websocket", "sse"])
def test_a_server_that_is_killed_and_comes_back(transport: str, server: Server, page: Any) -> None:
    handler_id = start(server, todo=ITEMS, delay=0.4)
    page.goto("/progress/")
    page.evaluate(_FOLLOW, [handler_id, transport])
    for seen in (5, 15):
        until(page, f"window.heard.sequences.length > {seen} || window.heard.end")
        server.kill()
        until(page, "window.run.state === 'reconnecting'")
        server.start()
    until(page, "window.heard.end")
    heard = page.evaluate("window.heard")

    sequences = logged(server, handler_id)
    assert heard["sequences"] == sequences == list(range(len(sequences)))
    assert heard["end"]["result"]["value"]["result"] == ITEMS
    assert heard["states"][0] == "connecting"
    assert heard["states"][-3:] == ["reconnecting", "live", "ended"]


def test_commands_of_somebody_who_is_logged_in(server: Server, page: Any) -> None:
    code = "from django.contrib.auth.models import User; User.objects.create_superuser('ada', password='ada')"
    environment = server._environment
    servers.manage("shell", "-v0", "-c", code, environment=environment, site=SITE)
    page.goto("/admin/login/?next=/progress/")
    page.fill("#id_username", "ada")
    page.fill("#id_password", "ada")
    page.click("[type=submit]")
    page.wait_for_url("**/progress/")
    for transport in ("websocket", "sse"):
        answer = httpx.post(f"{server.url}/workflows/ask_name/run-nowait", json={}, verify=False)
        page.evaluate(_FOLLOW, [answer.json()["handler_id"], transport])
        until(page, "window.run.state === 'live'")
        refused = page.evaluate("window.run.sendEvent({type: 'No', value: {}}).catch(({status}) => status)")
        assert refused == 400
        page.evaluate("window.run.sendEvent({type: 'HumanResponseEvent', value: {response: 'Ada'}})")
        until(page, "window.heard.end")
        assert page.evaluate("window.heard.end.result.value.result") == "Hello, Ada!"

        handler_id = start(server, todo=["one"], delay=100)
        page.evaluate(_FOLLOW, [handler_id, transport])
        until(page, "window.run.state === 'live'")
        page.evaluate("window.run.cancel()")
        until(page, "window.heard.end")
        assert page.evaluate("window.heard.end.status") == "cancelled"


@pytest.mark.parametrize("transport", ["auto", "websocket"])
def test_a_refusal(transport: str, server: Server, page: Any) -> None:
    page.goto("/progress/")
    page.evaluate(_FOLLOW, ["nobody", transport])
    until(page, "window.run.state === 'refused'")
    assert page.evaluate("window.heard.states") == ["connecting", "refused"]


def test_the_example_page(server: Server, page: Any) -> None:
    page.goto("/progress/")
    page.fill("textarea", "\n".join(["<b>ants</b>", "bees", "cats", "dogs", "eels"]))
    page.click("text=Start a run")
    page.wait_for_selector(".items li:nth-child(2)")
    page.reload()
    page.wait_for_selector(".items li:nth-child(3)")
    server.kill()
    page.wait_for_selector("[data-state=reconnecting]")
    server.start()
    page.wait_for_selector("[data-status=completed]", timeout=30_000)
    assert page.locator(".items li").all_inner_texts() == ["<b>ants</b>", "bees", "cats", "dogs", "eels"]
    assert page.inner_text(".result") == "The run is completed."
    assert page.inner_text(".count") == "5 of 5 items are done"
    assert page.locator(".cancel").is_hidden()
