"""What happens when serving begins."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from django_workflows import lifecycle


@pytest.fixture(autouse=True)
def _memory() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        pytest.param((700, 10, 10), (lifecycle.COLLECT_AFTER, 10, 10), id="as Python comes"),
        pytest.param((100_000, 5, 5), (100_000, 5, 5), id="rarer still"),
        pytest.param((0, 10, 10), (0, 10, 10), id="switched off"),
    ],
)
def test_collections_are_rare_unless_the_site_has_chosen(
    chosen: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    gc.set_threshold(*chosen)

    lifecycle._settle_memory()

    assert gc.get_threshold() == expected
    assert gc.get_freeze_count() > 10_000


@pytest.mark.parametrize("chosen", [0.005, 0.0001])
def test_the_event_loop_has_its_turn_soon_unless_the_site_has_chosen(chosen: float) -> None:
    sys.setswitchinterval(chosen)

    lifecycle._settle_threads()

    assert sys.getswitchinterval() == pytest.approx(min(chosen, lifecycle.SWITCH_AFTER), rel=0.05)
