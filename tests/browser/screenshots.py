"""Take the documentation's pictures anew, of the debugger and of the admin: ``make screenshots``."""

from __future__ import annotations

import shutil
import sys
import tempfile

import httpx
from playwright.sync_api import Page, expect, sync_playwright

from tests import servers
from tests.browser import admin_pictures

IMAGES = servers.ROOT / "docs" / "images"
SITE = "example_project.settings"
SIZE = {"width": 1280, "height": 800}


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("The pictures need a browser: install chromium.")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        environment = {"DATABASE_VENDOR": "sqlite", "DATABASE_NAME": f"{directory}/pictures.sqlite3"}
        servers.manage("migrate", "--verbosity=0", environment=environment, site=SITE)
        command = [sys.executable, "manage.py", "runworkflows", "--port", "{port}"]
        site = servers.Server(
            command, prefix="/workflows", environment={**environment, "DJANGO_SETTINGS_MODULE": SITE}
        )
        with site as server, sync_playwright() as playwright:
            prepare(server)
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for scheme in ("light", "dark"):
                page = browser.new_page(
                    base_url=server.url + "/",
                    viewport=SIZE,
                    color_scheme=scheme,
                    locale="en-GB",
                    timezone_id="UTC",
                )
                take(page, "" if scheme == "light" else "-dark")
            browser.close()
    admin_pictures.take(IMAGES)
    for path in sorted(IMAGES.glob("*.png")):
        print(f"{path.relative_to(servers.ROOT)}  {path.stat().st_size // 1024} kB")


def prepare(server: servers.Server) -> None:
    """Bring the runs about that the pictures show."""
    with httpx.Client(base_url=server.url, timeout=30) as client:

        def run(workflow: str, handler_id: str, **fields: object) -> None:
            body = {"handler_id": handler_id, "start_event": fields}
            client.post(f"/workflows/{workflow}/run-nowait", json=body).raise_for_status()

        run("greet", "greeting-1", name="Ada")
        run("ask_name", "question-1")
        run("process_items", "batch-1", todo=["ants", "bees", "cats"], delay=0.4)
        run("process_items", "batch-2", todo=["ants", "bees", "dogs", "eels"], delay=0.3)
        run("digest", "issue-1", title="The week", sentences=1)
        run("process_items", "batch-3", todo=["ants"] * 400, delay=1)
        servers.wait_for(lambda: client.get("/handlers/batch-2").status_code == 200)
        servers.wait_for(lambda: client.get("/handlers/issue-1/context").json()["idle_since"])


def take(page: Page, suffix: str) -> None:
    def keep(name: str) -> None:
        # What moves comes to rest.
        page.wait_for_timeout(600)
        page.screenshot(path=IMAGES / f"{name}{suffix}.png")

    page.goto("?run=issue-1")
    expect(page.get_by_role("button", name="Answer")).to_be_visible()
    keep("debugger-run")
    if suffix:
        return
    page.goto("?workflow=digest")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
    keep("debugger-workflow")
    page.goto("?run=batch-2&tab=timeline")
    expect(page.locator(".wf-timeline")).to_be_visible()
    keep("debugger-timeline")
    page.goto("?view=runs")
    expect(page.get_by_role("row").filter(has_text="issue-1")).to_be_visible()
    keep("debugger-runs")
    page.goto("?view=compare&a=batch-1&b=batch-2")
    expect(page.get_by_role("region", name="First difference of the event logs")).to_be_visible()
    keep("debugger-compare")


if __name__ == "__main__":
    main()
