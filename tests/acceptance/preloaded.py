"""What every server process imports: large, and without effects beyond its import."""

from importlib import import_module

for name in (
    "autobahn.websocket.protocol",
    "channels",
    "django.contrib.admin",
    "django.contrib.staticfiles.handlers",
    "django.core.management.commands",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "django.forms",
    "jsonschema",
    "llama_agents.client.protocol",
    "psycopg",
    "rest_framework",
    "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints",
    "twisted.internet.tcp",
    "twisted.protocols.tls",
    "twisted.web.http",
    "workflows.runtime.control_loop",
):
    import_module(name)
