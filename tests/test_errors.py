"""What an exception in a view is answered with."""

from __future__ import annotations

import logging

import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError

from django_workflows.api.errors import status_and_detail


@pytest.mark.parametrize("error", [OperationalError("the connection is lost"), InterfaceError("it is closed")])
def test_a_database_that_is_away_is_no_fault_of_ours(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    status, detail = status_and_detail(error, {"handler_id": "h"})

    assert (status, detail) == (503, "The database does not answer; try again later")
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert str(error) in record.getMessage()


def test_what_was_not_expected_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    status, detail = status_and_detail(ProgrammingError("no such column: secret"), {"handler_id": "h"})

    assert (status, detail) == (500, "Internal server error")
    (record,) = caplog.records
    assert (record.levelno, record.__dict__["handler_id"]) == (logging.ERROR, "h")
