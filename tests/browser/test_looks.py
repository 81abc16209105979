"""Pictures of every page at three sizes, light and dark, kept for people; and no barriers in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests import servers
from tests.browser.barriers import barriers
from tests.browser.conftest import Watch, keep, open_context
from tests.conftest import require

SIZES = [(1440, 900), (1024, 768), (390, 844)]
THEMES = ["light", "dark"]
# Name -> query, in the order in which they are shown. What is shown is brought about by the fixture "scene".
PAGES = {
    "workflow": "?workflow=desk",
    "form": "?workflow=order",
    "running": "?run=look-running",
    "waiting": "?run=look-waiting",
    "state": "?run=look-waiting&tab=state",
    "send": "?run=look-waiting&tab=answer",
    "failed": "?run=look-failed",
    "completed": "?run=look-completed&event=3",
    "timeline": "?run=look-completed&tab=timeline",
    "input": "?run=look-completed&tab=input",
    "runs": "?view=runs",
    "none": "?view=runs&workflow=talk&status=failed",
    "pick": "?view=compare&a=look-completed",
    "compare": "?view=compare&a=look-completed&b=look-other",
}


# What ends beyond its panel, unless it can be scrolled to.
STICKING_OUT = """() => [...document.querySelectorAll(".panel")].flatMap((panel) => {
  const edge = panel.getBoundingClientRect().right;
  const scrolls = (one) =>
    one && (/auto|scroll/.test(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
  return [...panel.querySelectorAll(":not(svg *, .visually-hidden)")]
    .filter((one) => one.getBoundingClientRect().right > edge + 1 && !scrolls(one.parentElement))
    .map((one) => one.outerHTML.slice(0, 150));
})"""


@pytest.fixture(scope="module")
def scene(server: servers.Server, api: httpx.Client) -> None:
    def start(workflow: str, handler_id: str, **fields: Any) -> None:
        body = {"handler_id": handler_id, "start_event": fields}
        api.post(f"/workflows/{workflow}/run-nowait", json=body).raise_for_status()

    start("fan", "look-completed", parts=6, delay=0.15)
    start("fan", "look-other", parts=4, delay=0.1)
    start("flaky", "look-failed", hopeless=True)
    start("sleep", "look-running")
    start("desk", "look-waiting", title="A cup of tea", tags=["hot", "black"])
    start("order", "look-at-an-id-as-long-as-an-id-may-well-be", name="Ada", address={"street": "Hill 1"})
    for handler_id in ("look-completed", "look-other", "look-failed"):
        servers.wait_for(lambda one=handler_id: api.get(f"/handlers/{one}").status_code != 202, what=handler_id)


@pytest.fixture(scope="module", params=SIZES, ids=[str(width) for width, _ in SIZES])
def sized(browser: Browser, server: servers.Server, login: Any, scene: None, request: Any) -> Iterator[Page]:
    """One page for each size, which goes from one address to the next as a person does."""
    width, height = request.param
    watch = Watch()
    with open_context(browser, server, login, viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        watch.on(page)
        yield page
    assert watch.unexpected == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_sticks_out_and_nothing_is_in_the_way(sized: Page, name: str) -> None:
    show(sized, name)
    for theme in THEMES:
        sized.emulate_media(color_scheme=theme, reduced_motion="reduce")
        expect(sized.locator("html")).to_have_attribute("data-theme", theme)
        keep(sized, f"{name}-{(sized.viewport_size or {})['width']}-{theme}")
        # Colours are the same at every size.
        if theme == "light" or SIZES[0][0] == (sized.viewport_size or {})["width"]:
            assert barriers(sized) == []
    # What is wider than the window would have to be scrolled to and fro.
    assert sized.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    # What is wider than its panel is cut off, or sticks out of it.
    assert sized.evaluate(STICKING_OUT) == []


def test_axe_is_there() -> None:
    """Without it, the pictures are taken and barriers are not looked for."""
    require("axe")


def show(page: Page, name: str) -> None:
    page.goto(PAGES[name])
    expect(page.locator("main .page")).to_be_visible()
    expect(page.locator("main")).not_to_contain_text("Loading")
    if name in ("waiting", "state", "send"):
        expect(page.get_by_role("button", name="Answer")).to_be_visible()
    if name in ("workflow", "form"):
        expect(page.locator(".wf-form-fields > *")).to_be_visible()
        expect(page.locator(".recent > *")).to_be_visible()
    # What is loaded when it is first looked at.
    expect(page.locator("[role=tabpanel]:not([hidden]):empty")).to_have_count(0)
    if name in ("completed", "timeline", "waiting"):
        expect(page.locator(".wf-graph .is-done").first).to_be_visible()
    # Two frames, in which the graph and the list measure their room.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
