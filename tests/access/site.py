"""A site with every way to say who one is; what varies comes from the environment, as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.settings import *  # noqa: F403

INSTALLED_APPS = [app for app in INSTALLED_APPS if not app.startswith("example_project")]  # noqa: F405

ROOT_URLCONF = "tests.access.urls"

DJANGO_WORKFLOWS: dict[str, Any] = {
    "WORKFLOWS": {
        "echo": "tests.access.workflows.echo",
        "ask": "tests.access.workflows.ask",
        "shop": "tests.access.workflows.shop",
    },
    "AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.BasicAuthentication",
        "tests.access.people.BadgeAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "PERMISSION_CLASSES": ["django_workflows.permissions.IsOwner"],
    **json.loads(os.environ.get("SITE_WORKFLOWS", "{}")),
}
