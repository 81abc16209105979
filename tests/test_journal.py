from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from django_workflows import journal, leases
from django_workflows.journal import TickEntry
from tests.storage import a_run, end, next_lease

pytestmark = pytest.mark.django_db(transaction=True)


def entries(*sequences: int, text: str = "tick") -> list[TickEntry]:
    return [TickEntry(sequence, f"{text} {sequence}") for sequence in sequences]


def test_ticks_come_back_in_order() -> None:
    lease = leases.of(a_run())
    journal.append([(lease, entry) for entry in entries(2, 0, 10, 1)])

    assert list(journal.read(lease)) == entries(0, 1, 2, 10)
    assert list(journal.read(lease, after=1)) == entries(2, 10)
    assert list(journal.read(lease, after=10)) == []


def test_many_ticks() -> None:
    lease = leases.of(a_run())
    journal.append([(lease, entry) for entry in entries(*range(2500))])

    assert list(journal.read(lease)) == entries(*range(2500))


def test_each_run_has_its_own() -> None:
    one, other = a_run("order-42"), leases.of(a_run())
    first = leases.of(one)
    end(one)
    second = leases.of(a_run("order-42"))
    journal.append([(lease, entry) for lease in (first, second, other) for entry in entries(0, text=str(lease))])

    for lease in (first, second, other):
        assert list(journal.read(lease)) == entries(0, text=str(lease))


def test_several_journals_are_read_whole_in_one_query(django_assert_num_queries: Any) -> None:
    lengths = dict(zip([leases.of(a_run()) for _ in range(4)], (0, 3, 99, 1), strict=True))
    journal.append([(lease, entry) for lease, length in lengths.items() for entry in entries(*range(length))])

    with django_assert_num_queries(1):
        found = {lease: list(read) for lease, read in journal.read_all(lengths).items()}

    assert found == {lease: entries(*range(length)) for lease, length in lengths.items()}


@pytest.mark.parametrize("length", [100, 101, 1250])
def test_a_long_journal_among_several_is_read_to_its_end(length: int) -> None:
    short, long = leases.of(a_run()), leases.of(a_run())
    journal.append([(short, entry) for entry in entries(0)])
    journal.append([(long, entry) for entry in entries(*range(length))])

    found = journal.read_all([long, short])

    assert list(found[long]) == entries(*range(length))
    assert list(found[short]) == entries(0)


def test_of_several_journals_each_is_that_of_its_run() -> None:
    one = a_run("order-42")
    journal.append([(leases.of(one), entry) for entry in entries(0, text="first")])
    end(one)
    second = leases.of(a_run("order-42"))
    journal.append([(second, entry) for entry in entries(0, text="second")])

    found = journal.read_all([leases.of(one), second])

    assert [list(found[lease]) for lease in found] == [[], entries(0, text="second")]


@pytest.mark.parametrize("heir", [lambda lease: lease, next_lease])
def test_a_position_is_written_once_whoever_believes_to_own_the_run(heir: Callable[..., leases.Lease]) -> None:
    lease = leases.of(a_run())
    journal.append([(lease, entry) for entry in entries(0, 1)])

    with pytest.raises(IntegrityError), transaction.atomic():
        journal.append([(heir(lease), entry) for entry in entries(2, 1, text="second")])

    assert list(journal.read(lease)) == entries(0, 1)


@pytest.mark.parametrize("text", ["", "a" * 3_000_000, '{"text": "😀 \\u0000 \\ud800"}'])
def test_a_tick_of_any_size_and_character(text: str) -> None:
    lease = leases.of(a_run())
    journal.append([(lease, TickEntry(0, text))])

    assert list(journal.read(lease)) == [TickEntry(0, text)]
