"""Exceptions to answers: one JSON shape, one place.

Every error is answered ``{"detail": "..."}``. What we raise on purpose says its status and holds nothing of the
server's inside; so does a database that is away. Everything else is logged and answered 500 without details.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation, TooManyFieldsSent
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse
from pydantic_core import to_json
from rest_framework.exceptions import APIException

from django_workflows.exceptions import WorkflowsError

logger = logging.getLogger("django_workflows.api")


def body(detail: Any) -> bytes:
    """Return the JSON of an error's answer."""
    return to_json({"detail": detail})


def status_and_detail(error: BaseException, concerns: Mapping[str, Any]) -> tuple[int, Any]:
    """Return what an exception is answered with; logs it when it was not expected.

    Args:
        error: the exception.
        concerns: what the log record says of the request: ``handler_id``, ``run_id``, ``workflow``.
    """
    if isinstance(error, WorkflowsError) and error.status != 500:
        return error.status, str(error)
    if isinstance(error, APIException):
        return error.status_code, error.detail
    if isinstance(error, Http404):
        return 404, "Not Found"
    if isinstance(error, TooManyFieldsSent):
        return 400, "The request has too many parameters"
    if isinstance(error, SuspiciousOperation | BadRequest):
        return 400, "Bad request"
    if isinstance(error, PermissionDenied):
        return 403, "You do not have permission to perform this action."
    if isinstance(error, OperationalError | InterfaceError):
        # It is down, or busy for too long.
        logger.warning("the database did not answer a request: %s", error, extra=dict(concerns))
        return 503, "The database does not answer; try again later"
    logger.error("a request failed unexpectedly", exc_info=error, extra=dict(concerns))
    return 500, "Internal server error"


def handle(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """The exception handler of our DRF views."""
    arguments = context.get("kwargs") or {}
    concerns = {"handler_id": arguments.get("handler_id"), "workflow": arguments.get("name")}
    status, detail = status_and_detail(error, concerns)
    response = HttpResponse(body(detail), status=status, content_type="application/json")
    # DRF sets these on the exceptions that have them.
    if challenge := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        response["Retry-After"] = str(math.ceil(wait))
    return response
