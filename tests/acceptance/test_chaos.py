"""A minute of chance on each database; ``make chaos`` goes on for as long as one likes."""

from __future__ import annotations

import os
import random

import pytest

from tests.acceptance import chaos

SECONDS = 30.0
# How many processes execute runs; one more only answers.
PROCESSES = {"sqlite": 4, "postgresql": 2, "mariadb": 2}


def test_no_promise_is_broken_by_chance(vendor: str, unblocked: None) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))

    figures = chaos.run(vendor, seed=seed, seconds=SECONDS, processes=PROCESSES[vendor])

    print(figures)
    assert figures.are_good, f"run it again with SEED={seed}"
    assert figures.runs > 30


def test_a_lost_start_is_noticed(monkeypatch: pytest.MonkeyPatch, unblocked: None) -> None:
    """The books tell when something is wrong."""
    figures = chaos.Figures(0)
    figures.lost.append("greet-1: there is no such run")

    assert not figures.are_good
    assert "lost        1" in str(figures)
