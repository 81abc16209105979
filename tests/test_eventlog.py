from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from django_workflows import eventlog, leases
from django_workflows.eventlog import EventEntry
from tests.storage import a_run, end

pytestmark = pytest.mark.django_db(transaction=True)

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def entries(*sequences: int, type: str = "Step") -> list[EventEntry]:
    return [EventEntry(n, n % 2 == 1, f'{{"n": {n}}}', type, AT) for n in sequences]


def test_events_come_back_in_order_as_they_were_written() -> None:
    lease = leases.of(a_run())
    eventlog.append([(lease, entry) for entry in entries(2, 0, 1)])

    assert eventlog.read(lease.handler, lease.run, -1, 100) == entries(0, 1, 2)


def test_reading_goes_on_from_a_position() -> None:
    lease = leases.of(a_run())
    eventlog.append([(lease, entry) for entry in entries(*range(10))])

    assert eventlog.read(lease.handler, lease.run, 3, 100) == entries(*range(4, 10))
    assert eventlog.read(lease.handler, lease.run, 3, 2) == entries(4, 5)
    assert eventlog.read(lease.handler, lease.run, 9, 100) == []
    assert eventlog.read(lease.handler, lease.run, 10**6, 100) == []


def test_each_run_has_its_own() -> None:
    one = a_run("order-42")
    first = leases.of(one)
    end(one)
    second, other = leases.of(a_run("order-42")), leases.of(a_run())
    eventlog.append([(lease, entry) for lease in (first, second) for entry in entries(0, type=str(lease.run))])

    assert eventlog.read(first.handler, 1, -1, 100) == entries(0, type="1")
    assert eventlog.read(first.handler, 2, -1, 100) == entries(0, type="2")
    assert eventlog.read(other.handler, 1, -1, 100) == []


def test_the_last_position() -> None:
    run = a_run("order-42")
    lease = leases.of(run)
    assert eventlog.last_sequence(lease.handler, lease.run) == -1
    eventlog.append([(lease, entry) for entry in entries(0, 1, 2)])
    assert eventlog.last_sequence(lease.handler, lease.run) == 2

    end(run)
    again = leases.of(a_run("order-42"))
    assert eventlog.last_sequence(again.handler, again.run) == -1


def test_a_position_is_written_once() -> None:
    lease = leases.of(a_run())
    eventlog.append([(lease, entry) for entry in entries(0, 1)])

    with pytest.raises(IntegrityError), transaction.atomic():
        eventlog.append([(lease, entry) for entry in entries(2, 1, type="second")])

    assert eventlog.read(lease.handler, lease.run, -1, 100) == entries(0, 1)


def test_a_class_with_a_long_name() -> None:
    lease = leases.of(a_run())
    eventlog.append([(lease, EventEntry(0, False, "{}", "É" * 300, AT))])

    (found,) = eventlog.read(lease.handler, lease.run, -1, 1)
    assert found.type == "É" * 255


@pytest.mark.parametrize("data", ["{}", '{"text": "😀 漢 \\u2028 \\u0000"}', '"' + "a" * 3_000_000 + '"'])
def test_the_envelope_is_kept_to_the_byte(data: str) -> None:
    lease = leases.of(a_run())
    eventlog.append([(lease, EventEntry(0, False, data, "Step", AT))])

    (found,) = eventlog.read(lease.handler, lease.run, -1, 1)
    assert found.data == data
