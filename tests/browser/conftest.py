"""A browser, the site that it looks at, and a page that lets no error pass."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from tests import servers
from tests.browser import ADA, site
from tests.conftest import require
from tests.servers import pytest_runtest_makereport  # noqa: F401  (a hook)

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = servers.ROOT / "test-output" / "screenshots"
# Milliseconds that a page may take for anything.
PATIENCE = 45_000

# Reports what the page's policy forbids, which a console does not always show.
_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


def executable() -> str:
    import shutil

    require("chromium")
    return next(path for name in CHROMIUM if (path := shutil.which(name)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while it lives, its event loop is this thread's, and no other test could have one.
    path = executable()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def server() -> Iterator[servers.Server]:
    require("chromium")
    with servers.Database() as database, servers.terminating(site(database)) as running:
        yield running


@pytest.fixture(scope="package")
def api(server: servers.Server) -> Iterator[httpx.Client]:
    """The API, as another client than the browser."""
    with httpx.Client(base_url=server.url, timeout=30, auth=ADA) as client:
        yield client


@pytest.fixture
def start(api: httpx.Client) -> Callable[..., str]:
    """Start a run: ``start("fan", "id-1", parts=3)``."""

    def start(workflow: str, handler_id: str, **fields: Any) -> str:
        body = {"handler_id": handler_id, "start_event": fields}
        api.post(f"/workflows/{workflow}/run-nowait", json=body).raise_for_status()
        return handler_id

    return start


@pytest.fixture
def finish(api: httpx.Client, start: Callable[..., str]) -> Callable[..., str]:
    """Start a run and wait for its end."""

    def finish(workflow: str, handler_id: str, **fields: Any) -> str:
        start(workflow, handler_id, **fields)
        servers.wait_for(lambda: api.get(f"/handlers/{handler_id}").status_code != 202, what=handler_id)
        return handler_id

    return finish


@dataclass
class Watch:
    """What went wrong in a page, and what may."""

    problems: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        """Let problems pass that a test brings about on purpose; a regular expression."""
        self.allowed.append(pattern)

    def on(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._add(f"error: {error}"))
        page.on("response", self._answered)
        page.on("requestfailed", lambda request: self._failed(request))

    def _said(self, message: Any) -> None:
        # The admin's login page has no icon, for which a browser asks.
        if message.type in ("error", "warning") and not message.location["url"].endswith("/favicon.ico"):
            self._add(f"console {message.type}: {message.text} {message.location['url']}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and not response.url.endswith("/favicon.ico"):
            self._add(f"{response.status} {response.request.method} {response.url}")

    def _failed(self, request: Any) -> None:
        # A stream that is closed by the page, or with it, is no failure.
        if "ERR_ABORTED" not in str(request.failure):
            self._add(f"failed: {request.method} {request.url} {request.failure}")

    def _add(self, problem: str) -> None:
        self.problems.append(problem)

    @property
    def unexpected(self) -> list[str]:
        return [one for one in self.problems if not any(re.search(pattern, one) for pattern in self.allowed)]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def login(browser: Browser, server: servers.Server) -> Any:
    """Ada's login, made once."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url + "/")
    log_in(page)
    state = context.storage_state()
    context.close()
    return state


def log_in(page: Page) -> None:
    page.get_by_label("Username").fill(ADA[0])
    page.get_by_label("Password").fill(ADA[1])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("header.top")


@contextmanager
def open_context(browser: Browser, server: servers.Server, login: Any, **options: Any) -> Iterator[BrowserContext]:
    made = browser.new_context(
        base_url=server.url + "/", storage_state=login, locale="en-GB", timezone_id="UTC", **options
    )
    made.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.origin)
    made.set_default_timeout(PATIENCE)
    made.add_init_script(_REPORT_VIOLATIONS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def context(browser: Browser, server: servers.Server, login: Any) -> Iterator[BrowserContext]:
    """One for all tests of a module: what one has loaded, the next has in its cache."""
    with open_context(browser, server, login, viewport={"width": 1440, "height": 900}) as made:
        yield made


@pytest.fixture
def page(context: BrowserContext, watch: Watch, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of somebody who is logged in; errors, failed requests and what the policy forbids fail the test."""
    made = context.new_page()
    watch.on(made)
    yield made
    if os.environ.get("SCREENSHOTS"):
        keep(made, request.node.name)
    # The next test is somebody who has chosen nothing yet.
    made.evaluate("() => location.protocol.startsWith('http') && localStorage.clear()")
    made.close()
    assert watch.unexpected == []


def keep(page: Page, name: str, directory: Path = SCREENSHOTS) -> None:
    """Keep a picture of a page."""
    directory.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=directory / f"{re.sub(r'[^A-Za-z0-9-]+', '-', name).strip('-')}.png")
