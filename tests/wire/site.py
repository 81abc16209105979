"""Settings of the site that serves the workflows of these tests; what varies comes from the environment."""

import os
from functools import partial
from typing import Any

from tests.settings import *  # noqa: F403
from tests.wire import workflows

# What other tests serve besides is not the reference's.
INSTALLED_APPS = [app for app in INSTALLED_APPS if not app.startswith("example_project")]  # noqa: F405

ROOT_URLCONF = "tests.wire.urls"
FORCE_SCRIPT_NAME = os.environ.get("SITE_SCRIPT_NAME")

# A factory for each name: settings take dotted paths.
_MADE = {f"make_{name.replace('-', '_')}": partial(workflows.make, name) for name in workflows.SERVED}


def __getattr__(name: str) -> Any:
    try:
        return _MADE[name]
    except KeyError:
        raise AttributeError(name) from None


DJANGO_WORKFLOWS = {
    "WORKFLOWS": {
        name: {
            "workflow": f"tests.wire.site.make_{name.replace('-', '_')}",
            "additional_events": [f"{event.__module__}.{event.__qualname__}" for event in events],
        }
        for name, (_, _, events) in workflows.SERVED.items()
    },
    "SSE_HEARTBEAT_INTERVAL": 0.5,
    "ACCEPT_CONTEXT_API": os.environ.get("SITE_ACCEPT_CONTEXT_API") == "1",
}
