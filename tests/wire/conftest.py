"""The two servers, started once for all tests here."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests import servers
from tests.servers import pytest_runtest_makereport  # noqa: F401  (a hook)
from tests.wire.cases import ENDED
from tests.wire.transcript import Site

SITE = "tests.wire.site"


@pytest.fixture(scope="session")
def reference_server() -> Iterator[servers.Server]:
    """The reference, as a process."""
    command = [sys.executable, "-m", "tests.wire.reference", "{port}"]
    with servers.Server(command, name="reference") as server:
        yield server


@pytest.fixture(scope="session")
def our_server() -> Iterator[servers.Server]:
    """Ours as a site would start it (daphne), as a process."""
    with servers.Database() as database, servers.terminating(servers.runworkflows(database, site=SITE)) as server:
        yield server


def populate(site: Site) -> None:
    """Bring the handlers about that the cases speak of."""
    for handler, (workflow, start_event) in ENDED.items():
        if handler == "h-cancelled":
            site.start_waiting(workflow, start_event, handler_id=handler)
            site.post(f"/handlers/{handler}/cancel", record=False)
        else:
            site.start(workflow, start_event, handler_id=handler)
        site.wait_for_end(handler)


@pytest.fixture(scope="session")
def _populated_reference(reference_server: servers.Server) -> Iterator[Site]:
    site = Site(reference_server.url)
    populate(site)
    yield site
    site.close()


@pytest.fixture(scope="session")
def _populated_ours(our_server: servers.Server) -> Iterator[Site]:
    site = Site(our_server.url)
    populate(site)
    yield site
    site.close()


@pytest.fixture
def reference(_populated_reference: Site) -> Site:
    """The reference with the ENDED handlers, and an empty transcript."""
    _populated_reference.new_transcript()
    return _populated_reference


@pytest.fixture
def ours(_populated_ours: Site) -> Site:
    """Ours with the ENDED handlers, and an empty transcript."""
    _populated_ours.new_transcript()
    return _populated_ours
