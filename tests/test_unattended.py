"""A process that executes nothing says so when it starts a run that nobody executes."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from django_workflows import leases, service, unattended
from tests.storage import a_worker, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)


class Greeting(Workflow):
    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


@pytest.fixture(autouse=True)
def _new_process(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DJANGO_WORKFLOWS = {"WORKFLOWS": {"greet": f"{__name__}.Greeting"}}
    monkeypatch.setattr(unattended, "_has_looked", False)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name == unattended.logger.name]
    assert all(record.levelno == logging.WARNING for record in records)
    return [record.getMessage() for record in records]


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    service.start("greet")
    service.start("greet")

    (message,) = said(caplog)
    assert "manage.py runworkflows" in message
    assert '"daphne" first in INSTALLED_APPS' in message


async def test_it_is_said_of_an_asynchronous_start(caplog: pytest.LogCaptureFixture) -> None:
    await service.astart("greet")

    assert len(said(caplog)) == 1


def test_a_worker_in_another_process_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    a_worker()
    service.start("greet")

    assert said(caplog) == []


def test_one_that_is_dead_is_not(caplog: pytest.LogCaptureFixture) -> None:
    a_worker(silent_for=timedelta(minutes=1))
    service.start("greet")

    assert len(said(caplog)) == 1


def test_what_was_never_started_needs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with rolled_back():
        service.start("greet")
    assert said(caplog) == []

    with transaction.atomic():
        service.start("greet")
        assert said(caplog) == []
    assert len(said(caplog)) == 1


def test_a_start_does_not_fail_with_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(timeout: timedelta) -> bool:
        raise OSError("gone")

    monkeypatch.setattr(leases, "is_somebody_alive", fail)

    assert service.start("greet").status == "running"
    assert said(caplog) == []
