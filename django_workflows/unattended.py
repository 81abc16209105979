"""One warning for a process that starts runs while nobody executes any: each start is taken, and none goes on."""

from __future__ import annotations

import logging
from datetime import timedelta

from django_workflows import conf, leases
from django_workflows.runtime import supervisor

logger = logging.getLogger("django_workflows.unattended")

# Whether this process has looked; it does so once, since every start would pay for it otherwise.
_has_looked = False


def look() -> None:
    """Warn, after the first start in a process without a runtime, when there is no worker in another process.

    It fails no start: that is stored already.
    """
    global _has_looked
    current = supervisor.current()
    if _has_looked or (current is not None and current.is_running):
        return
    _has_looked = True
    try:
        if leases.is_somebody_alive(timedelta(seconds=conf.get().LEASE_TIMEOUT)):
            return
    except Exception as error:
        logger.debug("whether anybody executes runs is unknown: %s", error)
        return
    logger.warning(
        "A run was started that nobody executes: this process does not, and there is no other that does. "
        "It waits for one. Serve the site with manage.py runworkflows (or another ASGI server; for manage.py "
        'runserver, put "daphne" first in INSTALLED_APPS), or start a worker: manage.py runworkflows --no-http.'
    )


__all__ = ["look"]
