"""What is in memory, and stays there without a collection of garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Let leave memory what nothing refers to any more, but no cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def instances(kind: type) -> int:
    """Return how many objects of a class there are in memory."""
    return sum(isinstance(one, kind) for one in gc.get_objects())
