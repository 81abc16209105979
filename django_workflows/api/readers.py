"""Who reads how many streams from this process (MAX_STREAMS_PER_USER).

A stream is counted while it is open, on the event loop that serves all of them, so the count is exact in each
process; a site with several counts in each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from django_workflows import conf
from django_workflows.exceptions import TooMany

_open: Counter[str] = Counter()


@contextmanager
def admitted(reader: str) -> Iterator[None]:
    """Count a stream while it is open.

    Args:
        reader: a user or an address, as the view that authorised the stream names it.

    Raises:
        TooMany: the reader has as many open as may be.
    """
    most = conf.get().MAX_STREAMS_PER_USER
    if most is not None and _open[reader] >= most:
        raise TooMany(f"You read {most} streams already, and may not read more at a time")
    _open[reader] += 1
    try:
        yield
    finally:
        _open[reader] -= 1
        if not _open[reader]:
            del _open[reader]
