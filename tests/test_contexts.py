from __future__ import annotations

import pytest

from django_workflows import contexts, leases
from django_workflows.models import Context
from tests.storage import a_run, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)


def read(handler: int) -> Context:
    found = contexts.read(handler)
    assert found is not None
    stored = contexts.Stored(found.state, found.snapshot, found.snapshot_sequence)
    assert contexts.stored([handler]) == {handler: stored}
    return found


def test_nothing_is_there_before_the_first_state() -> None:
    run = a_run().pk
    assert contexts.read(run) is None
    assert contexts.stored([run]) == {}


def test_the_last_state_counts() -> None:
    lease = leases.of(a_run())

    contexts.save([(lease, "first")])
    first = read(lease.handler)
    contexts.save([(lease, "second 😀")])
    second = read(lease.handler)

    assert (first.state, second.state) == ("first", "second 😀")
    assert second.updated_at > first.updated_at
    assert Context.objects.count() == 1


def test_states_of_several_runs_at_once() -> None:
    held = [leases.of(a_run()) for _ in range(3)]
    contexts.save([(held[1], "old")])

    contexts.save([(lease, f"of {lease.handler}") for lease in held])

    assert [read(lease.handler).state for lease in held] == [f"of {lease.handler}" for lease in held]


def test_saving_nothing() -> None:
    contexts.save([])


def test_a_state_leaves_the_snapshot_alone() -> None:
    run = a_run(snapshot="{}", state="old")

    contexts.save([(leases.of(run), "new")])

    found = read(run.pk)
    assert (found.state, found.snapshot, found.snapshot_sequence) == ("new", "{}", -1)


def test_what_a_run_begins_from_replaces_the_snapshot_and_a_state_only_when_there_is_one() -> None:
    run = a_run()
    contexts.begin(run.pk, state="a", snapshot="1")
    Context.objects.update(snapshot_sequence=7)

    contexts.begin(run.pk, state=None, snapshot=None)
    found = read(run.pk)
    assert (found.state, found.snapshot, found.snapshot_sequence) == ("a", None, -1)

    contexts.begin(run.pk, state="b", snapshot="2")
    found = read(run.pk)
    assert (found.state, found.snapshot, found.snapshot_sequence) == ("b", "2", -1)


def test_a_state_takes_effect_with_the_transaction() -> None:
    lease = leases.of(a_run())
    contexts.save([(lease, "kept")])

    with rolled_back():
        contexts.save([(lease, "lost")])

    assert read(lease.handler).state == "kept"
