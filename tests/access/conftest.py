"""Servers whose permission classes differ, and the people who ask them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests import servers
from tests.access import people
from tests.access.people import Person
from tests.servers import pytest_runtest_makereport  # noqa: F401  (a hook)


class Site:
    """A server, and a client for each person.

    Args:
        server: it runs.
        tokens: by name of the person.
    """

    def __init__(self, server: servers.Server, tokens: dict[str, str]) -> None:
        self.server = server
        self.tokens = tokens
        self._clients: dict[str, httpx.Client] = {}

    def as_(self, person: Person) -> httpx.Client:
        """Return the client of a person, who has a token."""
        if person.name not in self._clients:
            token = self.tokens.get(person.name)
            headers = {"Authorization": f"Token {token}"} if token else {}
            self._clients[person.name] = httpx.Client(
                base_url=self.server.url, headers=headers, timeout=20, verify=False
            )
        return self._clients[person.name]

    def start(self, person: Person, workflow: str = "ask", **body: Any) -> str:
        """Start a run of a person's and return its id; one of "echo" has ended, one of "ask" waits."""
        way = "run" if workflow == "echo" else "run-nowait"
        answer = self.as_(person).post(f"/workflows/{workflow}/{way}", json=body)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["handler_id"]
        return found

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@contextmanager
def serving(**settings: Any) -> Iterator[Site]:
    """Serve tests.access.site with more settings."""
    with servers.Database() as database:
        tokens = people.create_in(database)
        environment = {"SITE_WORKFLOWS": json.dumps(settings)}
        server = servers.runworkflows(database, site="tests.access.site", environment=environment)
        with servers.terminating(server):
            site = Site(server, tokens)
            try:
                yield site
            finally:
                site.close()


@pytest.fixture(scope="module")
def owners() -> Iterator[Site]:
    """A site where users deal with their own runs."""
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def supervisors() -> Iterator[Site]:
    """A site where model permissions alone decide; the owner has those to start, and no other."""
    with serving(PERMISSION_CLASSES=["django_workflows.permissions.HasModelPermission"]) as site:
        yield site
