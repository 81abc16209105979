from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.scene import Scene
from tests.conftest import require
from tests.servers import pytest_runtest_makereport  # noqa: F401


@pytest.fixture(scope="session", params=["sqlite", "postgresql", "mariadb"])
def vendor(request: pytest.FixtureRequest) -> str:
    """The databases that every crash is tried on."""
    name: str = request.param
    if name != "sqlite":
        require(name)
    return name


@pytest.fixture(scope="session")
def unblocked(django_db_blocker: Any) -> Iterator[None]:
    """Let tests look into the sites' databases, which are not those that pytest-django guards."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="session")
def site(vendor: str, unblocked: None) -> Iterator[Scene]:
    with Scene(vendor) as scene:
        yield scene


@pytest.fixture
def scene(site: Scene) -> Iterator[Scene]:
    """A site with a server that runs; afterwards every run of it is checked."""
    site.ready()
    yield site
    site.ready()
    site.check()
