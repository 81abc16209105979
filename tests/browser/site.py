"""Settings of the site that people look at in these tests; what varies comes from the environment.

SITE_STATIC_ROOT makes it a site with DEBUG off, whose
static files are collected there under hashed names.
"""

import os

from tests.settings import *  # noqa: F403

DEBUG = "SITE_STATIC_ROOT" not in os.environ
SITE_PREFIX = os.environ.get("SITE_PREFIX", "workflows/")
FORCE_SCRIPT_NAME = os.environ.get("SITE_SCRIPT_NAME")
ROOT_URLCONF = "tests.browser.urls"
# No script can read it: the page has it from the server.
CSRF_COOKIE_HTTPONLY = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [app for app in INSTALLED_APPS if not app.startswith("example_project")]  # noqa: F405

if not DEBUG:
    STATIC_ROOT = os.environ["SITE_STATIC_ROOT"]
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": os.environ["SITE_STATIC_STORAGE"]},
    }

_WORKFLOWS = "tests.browser.workflows"

DJANGO_WORKFLOWS = {
    "WORKFLOWS": {
        "fan": {"workflow": f"{_WORKFLOWS}.Fan", "additional_events": [f"{_WORKFLOWS}.Progress"]},
        "desk": f"{_WORKFLOWS}.DeskWorkflow",
        "ask": {
            "workflow": f"{_WORKFLOWS}.make_ask",
            "additional_events": ["workflows.events.HumanResponseEvent", "workflows.events.InputRequiredEvent"],
        },
        "notes": {"workflow": f"{_WORKFLOWS}.Notes", "additional_events": [f"{_WORKFLOWS}.Progress"]},
        "flaky": f"{_WORKFLOWS}.Flaky",
        "sleep": {"workflow": f"{_WORKFLOWS}.make_sleep", "additional_events": [f"{_WORKFLOWS}.Progress"]},
        "talk": {"workflow": f"{_WORKFLOWS}.make_talk", "additional_events": [f"{_WORKFLOWS}.Progress"]},
        "order": f"{_WORKFLOWS}.OrderWorkflow",
        "party": f"{_WORKFLOWS}.Party",
        "survey": f"{_WORKFLOWS}.SurveyWorkflow",
    },
    "AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",
    ],
    "PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "POLL_INTERVAL": 0.2,
}
