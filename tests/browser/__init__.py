"""The debugger as people see it: a real browser, against a real server."""

from __future__ import annotations

from collections.abc import Mapping

from tests import servers

SITE = "tests.browser.site"
# The one account that the site has.
ADA = ("ada", "secret")


def site(
    database: servers.Database, *, prefix: str = "/workflows", environment: Mapping[str, str] | None = None
) -> servers.Server:
    """Return the site that is looked at in these tests, not yet started, with its account."""
    name, password = ADA
    settings = {**database.environment, "DJANGO_SUPERUSER_PASSWORD": password}
    command = ("createsuperuser", "--noinput", f"--username={name}", "--email=")
    servers.manage(*command, environment=settings, site=SITE)
    return servers.runworkflows(database, site=SITE, prefix=prefix, environment=environment)
