"""Runs for the admin's tests and pictures, and the pictures of it in the documentation (``make screenshots``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.browser.admin_person import Person, a_browser, a_server
from tests.servers import Server, wait_for

# Name of the picture -> where it is taken, below /admin/django_workflows/; a run by its id.
PAGES = {"admin-list": "handler/", "admin-inbox": "handler/inbox/", "admin-start": "handler/start/print/"}
RUNS = {"admin-run": "digest-1"}


def start(server: Server, workflow: str, event: dict[str, Any], handler_id: str | None = None) -> str:
    """Start a run over HTTP and return its id."""
    body = {"start_event": event, "handler_id": handler_id}
    answer = httpx.post(f"{server.url}/workflows/{workflow}/run-nowait", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    handler: str = answer.json()["handler_id"]
    return handler


def wait_until_asking(server: Server, handler: str, event: str = "Approval") -> None:
    """Wait until a run has asked its question and waits."""

    def asks() -> bool:
        url = f"{server.url}/events/{handler}?sse=false&after_sequence=-1&include_internal=true"
        types: list[str] = []
        with httpx.stream("GET", url, timeout=5) as answer:
            for line in answer.iter_lines():
                types.append(json.loads(line)["type"])
                if types[-1] == "WorkflowIdleEvent":
                    return event in types
        return False

    wait_for(asks, what=f"{handler} to ask")


def make_runs(server: Server) -> None:
    """Make some of each kind, the last of which have come to where they stay."""
    start(server, "digest", {}, "digest-1")
    for number, title in enumerate(["The spring catalogue", "Invitation to the ball", "Menu of the day"], 1):
        start(server, "print", {"title": title, "signed": True}, f"print-{number}")
    start(server, "bake", {}, "bake-1")
    start(server, "sleep", {}, "sleep-1")
    for number in (1, 2, 3):
        wait_until_asking(server, f"print-{number}")
    wait_until_asking(server, "digest-1", "ApprovalRequired")
    answer = {"type": "Decision", "value": {"approve": True, "note": "Beautiful."}}
    httpx.post(f"{server.url}/events/print-2", json={"event": answer}).raise_for_status()
    for handler, status in (("print-2", 200), ("bake-1", 500)):
        wait_for(
            lambda handler=handler, status=status: (
                httpx.get(f"{server.url}/handlers/{handler}").status_code == status
            ),
            what=f"the end of {handler}",
        )


def take(directory: Path) -> list[Path]:
    """Take the documentation's pictures and return their paths."""
    taken = []
    with a_server() as (server, _), a_browser() as browser:
        make_runs(server)
        person = Person(browser, server.origin)
        for name, where in PAGES.items():
            person.go(where)
            taken.append(person.picture(name, directory=directory, whole=False, suffix=""))
        for name, handler in RUNS.items():
            person.open(handler)
            taken.append(person.picture(name, directory=directory, suffix=""))
        person.leave()
    return taken
