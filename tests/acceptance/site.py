"""Settings of the site whose processes are killed; what varies comes from the environment."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

DEBUG = True
INSTALLED_APPS = [*INSTALLED_APPS, "tests.acceptance"]

_WORKFLOWS = "tests.acceptance.workflows"
_CONVERSATION = [f"{_WORKFLOWS}.Question", f"{_WORKFLOWS}.Answer"]

DJANGO_WORKFLOWS = {
    "WORKFLOWS": {
        "greet": f"{_WORKFLOWS}.Greet",
        "held": f"{_WORKFLOWS}.Held",
        "items": f"{_WORKFLOWS}.Items",
        "pipeline": f"{_WORKFLOWS}.make_pipeline",
        "fan": f"{_WORKFLOWS}.make_fan",
        "ask": {"workflow": f"{_WORKFLOWS}.Ask", "additional_events": _CONVERSATION},
        "loud": f"{_WORKFLOWS}.Loud",
        "collect": f"{_WORKFLOWS}.Collect",
        "gather": f"{_WORKFLOWS}.Gather",
        "parent": f"{_WORKFLOWS}.Parent",
        "flaky": f"{_WORKFLOWS}.Flaky",
        "hasty": f"{_WORKFLOWS}.make_hasty",
        "blocking": f"{_WORKFLOWS}.Blocking",
        "review": {"workflow": f"{_WORKFLOWS}.Review", "additional_events": _CONVERSATION},
    },
    "EXECUTE": os.environ.get("SITE_EXECUTE") != "0",
    # So long that no test can pass because of it: a crash must be noticed by other means.
    "LEASE_TIMEOUT": float(os.environ.get("SITE_LEASE_TIMEOUT", "600")),
    "POLL_INTERVAL": float(os.environ.get("SITE_POLL_INTERVAL", "0.2")),
    # Short, so that what waits for a while is also released.
    "IDLE_TIMEOUT": float(os.environ.get("SITE_IDLE_TIMEOUT", "0.5")),
}

if "SITE_POOL" in os.environ:
    # Django's own, of that many connections.
    DATABASES["default"]["OPTIONS"] = {  # noqa: F405
        "pool": {"min_size": 1, "max_size": int(os.environ["SITE_POOL"]), "timeout": 5}
    }

if "SITE_CHANNEL_LAYER" in os.environ:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": os.environ["SITE_CHANNEL_LAYER"],
            "CONFIG": {"hosts": [os.environ["SITE_REDIS"]]},
        }
    }

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "logging.Formatter",
            "fmt": "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s [%(handler_id)s]",
            "defaults": {"handler_id": "-"},
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
