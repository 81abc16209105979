"""Settings of the same site with users, of whom each may do something with their own runs only."""

from tests.wire.site import *  # noqa: F403
from tests.wire.site import DJANGO_WORKFLOWS as OPEN

CSRF_TRUSTED_ORIGINS = ["https://*.example.org"]

REST_FRAMEWORK = {"DEFAULT_THROTTLE_CLASSES": ["tests.wire.guards.Throttle"]}
DJANGO_WORKFLOWS = {
    **OPEN,
    "AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",
    ],
    "PERMISSION_CLASSES": ["tests.wire.guards.IsOwner"],
    "SSE_HEARTBEAT_INTERVAL": 60,
    "MAX_BODY_SIZE": 100_000,
}
