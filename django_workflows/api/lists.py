"""``GET /handlers``: what a page of the list is asked for, and where the next one begins.

Nothing loads more than a page, and every order has an index. A cursor is the position of a page's last row in the
order of the list, so that rows that come and go between two pages neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import QueryDict
from django.utils import timezone

from django_workflows import database, handlers, registry
from django_workflows.exceptions import InvalidRequest
from django_workflows.models import Handler
from django_workflows.querysets import HandlerQuerySet

# Handlers on a page, at most and by default.
PAGE_SIZE = 1000

# Parameter -> the column that a list is ordered by, and whether the last comes first.
ORDERS = {
    "-started_at": ("started_at", True),
    "started_at": ("started_at", False),
    "-updated_at": ("updated_at", True),
    "updated_at": ("updated_at", False),
}
DEFAULT_ORDER = "-started_at"


def page(visible: Q, query: QueryDict, user: Any) -> tuple[list[Handler], str | None]:
    """Return a page of handlers, and the cursor of the next one, None after the last.

    Args:
        visible: what the user may see.
        query: the request's parameters.
        user: who asks, for ``owner=me``.

    Raises:
        InvalidRequest: a parameter makes no sense.
    """
    limit = _limit(query)
    order = query.get("order") or DEFAULT_ORDER
    if order not in ORDERS:
        raise InvalidRequest(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    column, is_descending = ORDERS[order]
    found = filtered(Handler.objects.using(database.alias()).filter(visible), query, user)
    if cursor := query.get("cursor"):
        found = found.beyond(column, is_descending, *_Position.read(cursor, order))
    # A start event may be large, and no list shows it.
    rows = list(found.in_order(column, is_descending).defer("start_event")[: limit + 1])
    if len(rows) <= limit:
        return rows, None
    rows.pop()
    return rows, _Position(order, getattr(rows[-1], column), rows[-1].pk).write()


def filtered(found: HandlerQuerySet, query: QueryDict, user: Any) -> HandlerQuerySet:
    """Return the handlers that the parameters of a list let through; an empty parameter is no filter.

    Raises:
        InvalidRequest: a parameter makes no sense.
    """
    if statuses := _values(query, "status"):
        found = found.with_status(set(statuses) & set(Handler.Status.values))
    if names := _values(query, "workflow_name"):
        found = found.of_workflows(name for name in names if registry.NAME.fullmatch(name))
    if since := query.get("started_since"):
        found = found.filter(started_at__gte=_moment("started_since", since))
    if until := query.get("started_until"):
        found = found.filter(started_at__lt=_moment("started_until", until))
    if owner := query.get("owner"):
        found = found.filter(owner=_owner(owner, user))
    if idle := query.get("idle"):
        if idle.lower() not in ("true", "false"):
            raise InvalidRequest(f"idle must be true or false, got {idle!r}")
        found = found.waiting(idle.lower() == "true")
    if prefix := query.get("handler_id"):
        found = found.with_id_from(handlers.check_id(prefix))
    return found


# --- values ------------------------------------------------------------------------------------------


def _values(query: QueryDict, name: str) -> list[str]:
    """Read a parameter that may be repeated."""
    return [value.strip() for value in query.getlist(name) if value.strip()]


def _limit(query: QueryDict) -> int:
    value = query.get("limit") or str(PAGE_SIZE)
    if not (value.isascii() and value.isdigit() and len(value) <= 6 and 1 <= int(value) <= PAGE_SIZE):
        raise InvalidRequest(f"limit must be a number from 1 to {PAGE_SIZE}, got {value!r}")
    return int(value)


def _owner(value: str, user: Any) -> Any:
    """Return the primary key of a user: of the one who asks ("me"), or the one that is given."""
    if value == "me":
        if not (user and user.is_authenticated):
            raise InvalidRequest("owner=me needs a user")
        return user.pk
    key = get_user_model()._meta.pk
    try:
        if "\x00" in value:
            # No database can compare with it.
            raise ValidationError("NUL")
        # As a form does, with the bounds of the column.
        return key.clean(key.to_python(value), None)
    except ValidationError:
        raise InvalidRequest(f"owner must be me or the id of a user, got {value!r}") from None


def _moment(name: str, value: str) -> datetime:
    """Read a moment in ISO 8601; one without an offset is in UTC.

    Raises:
        InvalidRequest: it is none, or out of what databases can compare with.
    """
    try:
        # A plus sign that was not escaped arrives as a space.
        found = datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", value))
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        if not 1900 <= found.year < 9999:
            raise ValueError
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} must be a date and time in ISO 8601, got {value!r}") from None
    return found if settings.USE_TZ else timezone.make_naive(found)


@dataclass(frozen=True)
class _Position:
    """A row's place in an ordered list."""

    order: str
    moment: datetime
    key: int

    def write(self) -> str:
        moment = self.moment if timezone.is_aware(self.moment) else timezone.make_aware(self.moment)
        text = f"{self.order}|{moment.astimezone(UTC).isoformat()}|{self.key}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @staticmethod
    def read(cursor: str, order: str) -> tuple[datetime, int]:
        """Return moment and key of a cursor.

        Raises:
            InvalidRequest: it is no cursor of ours, or of a list in another order.
        """
        try:
            text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
            its_order, moment, key = text.split("|")
            if its_order != order or not (key.isascii() and key.isdigit() and len(key) < 20):
                raise ValueError
            if int(key) >= 2**63:
                raise ValueError
            return _moment("cursor", moment), int(key)
        except (ValueError, binascii.Error, InvalidRequest):
            raise InvalidRequest("cursor must be the next_cursor of an earlier page of the same list") from None
