"""What is in memory, and stays there without a collection of garbage."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def without_collections(*kinds: type) -> Iterator[Callable[[], int]]:
    """Let leave memory what nothing refers to any more, but no cycles.

    Yields what tells how many objects of these classes there are that were not there before.
    """
    gc.collect()
    gc.disable()
    try:
        # Kept alive, so that no other gets the address of one of them.
        before = _instances(kinds)
        known = {id(one) for one in before}
        yield lambda: sum(id(one) not in known for one in _instances(kinds))
    finally:
        gc.enable()


def _instances(kinds: tuple[type, ...]) -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, kinds)]
