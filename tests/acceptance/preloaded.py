"""What every server process imports: large, and without effects beyond its import."""

from contextlib import suppress
from importlib import import_module

from django.core.exceptions import ImproperlyConfigured

for name in (
    "autobahn.wamp.protocol",
    "autobahn.websocket.protocol",
    "channels",
    "django.contrib.admin",
    "django.contrib.postgres.forms",
    "django.contrib.staticfiles.handlers",
    "django.core.management.commands",
    "django.db.backends.mysql.base",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "django.db.migrations.executor",
    "django.forms",
    "django.test.client",
    "drf_spectacular",
    "jinja2",
    "jsonschema",
    "llama_agents.client.protocol",
    "markdown",
    "psycopg",
    "rest_framework.compat",
    "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints",
    "twisted.internet.tcp",
    "twisted.protocols.tls",
    "twisted.web.http",
    "unittest.mock",
    "uritemplate",
    "workflows.representation",
    "workflows.runtime.control_loop",
    "workflows.runtime.types.step_function",
    "yaml",
):
    # What is not installed is not needed.
    with suppress(ImportError, ImproperlyConfigured):
        import_module(name)
