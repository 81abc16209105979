"""Our settings: a site as Django makes it, with its middleware; on PostgreSQL with its connection pool."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

if os.environ.get("BENCHMARK_SERVER") != "daphne":
    # It is there for runserver, and takes a fifth of a second to import.
    INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "daphne"]

if DATABASES["default"]["ENGINE"].endswith("postgresql"):
    # As docs/deployment.md has it: without it, Django connects anew for each request.
    DATABASES["default"]["OPTIONS"] = {**DATABASES["default"].get("OPTIONS", {}), "pool": True}

DJANGO_WORKFLOWS = {
    "WORKFLOWS": {
        name: f"benchmarks.workflows.make_{name}" for name in ("one", "steps", "paced", "wait", "holding")
    },
    "SQLITE_SYNCHRONOUS": os.environ.get("BENCHMARK_SYNCHRONOUS", "NORMAL"),
    "IDLE_TIMEOUT": float(os.environ.get("BENCHMARK_IDLE_TIMEOUT", "60")),
}
