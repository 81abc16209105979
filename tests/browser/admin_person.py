"""A person with a browser at the admin: opens pages, presses buttons, and hears of every error in the console."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.servers import ROOT, Database, Server, manage, runworkflows, wait_for

SITE = "tests.browser.admin_site"
PASSWORD = "a long password"
SIZES = {"desktop": (1440, 900), "tablet": (1024, 768), "phone": (390, 844)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# Where pictures are kept; below the tests' output.
PICTURES = Path(os.environ.get("SCREENSHOTS") or ROOT / "test-output" / "admin")


@contextmanager
def a_server(*arguments: str) -> Iterator[tuple[Server, Database]]:
    """A real server with a superuser ``ada`` and real runs to be made."""
    with Database() as database:
        make_user(database, "ada")
        with runworkflows(database, *arguments, site=SITE) as server:
            yield server, database


def make_user(database: Database, name: str) -> None:
    manage(
        *("createsuperuser", "--noinput", "--username", name, "--email", f"{name}@example.org"),
        environment={**database.environment, "DJANGO_SUPERUSER_PASSWORD": PASSWORD},
        site=SITE,
    )


@contextmanager
def a_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Person:
    """Somebody at the admin.

    Args:
        origin: of the site.
        name: who logs in.
        size: of SIZES.
        scheme: light or dark.
    """

    def __init__(
        self, browser: Browser, origin: str, name: str = "ada", *, size: str = "desktop", scheme: Any = "light"
    ) -> None:
        width, height = SIZES[size]
        self.size = size
        self._suffix = f"{size}-{scheme}"
        self._context = browser.new_context(
            base_url=origin, viewport={"width": width, "height": height}, color_scheme=scheme
        )
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(15_000)
        self.errors: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", self._miss)
        self.page.goto("/admin/")
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_selector("#user-tools")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{self.page.url}: {message.text}")

    def _miss(self, request: Request) -> None:
        # A page that is left does not load the rest.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.errors.append(f"{request.url}: {request.failure}")

    def go(self, where: str) -> None:
        """Open a page below ``/admin/django_workflows/``."""
        response = self.page.goto(f"/admin/django_workflows/{where}")
        assert response is not None
        assert response.ok, f"{where}: {response.status}"

    def open(self, handler: str) -> None:
        """Find a run by its id, and open its page."""
        self.go(f"handler/?q={handler}")
        self.page.get_by_role("link", name=handler, exact=True).click()
        self.page.wait_for_selector(".wf-title")

    def picture(
        self, name: str, *, directory: Path = PICTURES, whole: bool = True, suffix: str | None = None
    ) -> Path:
        """Take a picture of the page, named after it, the screen's size and the scheme."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}{f'-{self._suffix}' if suffix is None else suffix}.png"
        self.page.screenshot(path=path, full_page=whole)
        return path

    def wait_for(self, text: str) -> None:
        """Load the page again until its source has a text."""
        wait_for(lambda: text in self._reloaded(), what=f"{text} on {self.page.url}")

    def wait_until_gone(self, text: str) -> None:
        wait_for(lambda: text not in self._reloaded(), what=f"no {text} on {self.page.url}")

    def _reloaded(self) -> str:
        self.page.reload()
        return self.page.content()

    @property
    def said(self) -> str:
        """What the admin's messages say."""
        return self.page.locator(".messagelist").inner_text()

    def leave(self) -> None:
        """Close the browser's window; fail when its console had errors."""
        self._context.close()
        assert not self.errors, self.errors
