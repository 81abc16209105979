"""What keeps people out of a page, as far as a program can tell: axe-core's serious and critical findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from playwright.sync_api import Page

from tests import servers

AXE = servers.ROOT / "node_modules" / "axe-core" / "axe.min.js"


def barriers(page: Page, *, without: Iterable[str] = ()) -> list[Any]:
    """Return what axe finds, [] where it is not installed (``make axe``).

    Args:
        without: selectors of what is not ours.
    """
    if not AXE.exists():
        return []
    # As the browser's own tools do it, past the page's policy; once for each document.
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
    # A colour on its way from one theme to the other is neither's.
    page.evaluate("() => Promise.all(document.getAnimations().map((one) => one.finished.catch(() => {})))")
    found = page.evaluate(
        "(exclude) => axe.run({exclude}, {resultTypes: ['violations'], preload: false})",
        [[selector] for selector in without],
    )
    return [
        (one["id"], one["help"], [(node["html"][:200], node["failureSummary"][:300]) for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
