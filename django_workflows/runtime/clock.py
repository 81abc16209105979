"""The time, on the database's clock: the one clock that every process of a site shares.

Deadlines and the engine's time stamps outlive the process that wrote them and are read on other hosts. A host
whose clock is wrong would fire their timers early or late, so each process learns how far its own is off from
the answers to its heartbeats.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime

from django_workflows import database

logger = logging.getLogger("django_workflows.runtime")

# Seconds of difference that are not worth a jump of the clock.
TOLERANCE = 0.5

_offset = 0.0


def now() -> float:
    """Return the seconds since the epoch."""
    return time.time() + _offset


def compare(database_time: datetime, asked_at: float, answered_at: float) -> None:
    """Learn the difference to the database's clock from one answer of it.

    Args:
        database_time: what the database said.
        asked_at: what this host's clock showed before, in seconds since the epoch.
        answered_at: what it showed afterwards.
    """
    global _offset
    measured = database.seconds(database_time) - (asked_at + answered_at) / 2
    # The answer may have been under way for the whole of the time.
    if abs(measured - _offset) <= max(TOLERANCE, answered_at - asked_at):
        return
    if abs(measured) <= TOLERANCE:
        measured = 0.0
    logger.warning("this host's clock is %.1f s off the database's, which counts", -measured)
    _offset = measured
