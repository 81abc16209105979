"""Settings of a site whose admin is used in a browser, under a strict Content-Security-Policy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.browser.admin_urls"
STATIC_URL = "/static/"
LANGUAGE_CODE = "en"
MIDDLEWARE = ["tests.browser.admin_site.strict_policy", *MIDDLEWARE]  # noqa: F405

_HERE = "tests.browser.admin_workflows"
DJANGO_WORKFLOWS = {
    "WORKFLOWS": {
        "digest": "example_project.newsroom.digest.DigestWorkflow",
        "print": f"{_HERE}.PrintWorkflow",
        "bake": f"{_HERE}.FailingWorkflow",
        "sleep": f"{_HERE}.SleepingWorkflow",
    },
    "LEASE_TIMEOUT": 3,
}
# What the digest reads.
BASE_DIR = Path(__file__).parent.parent.parent


def strict_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], Any]:
    def call(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'"
        return response

    return call
