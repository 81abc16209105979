from __future__ import annotations

from typing import Any

import pytest

from tests.browser import admin_site


@pytest.fixture(autouse=True)
def _served(settings: Any, transactional_db: None) -> None:
    """Serve what the browser's site serves."""
    settings.DJANGO_WORKFLOWS = {**admin_site.DJANGO_WORKFLOWS, "LEASE_TIMEOUT": 30}
