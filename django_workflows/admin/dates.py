"""The list of handlers by date: years, months and days to choose from, at the price of two look-ups in an index.

The admin's own hierarchy groups every row of the list by its date, which a million rows make slow. Here, what can
be chosen is what lies between the first run and the last; on some days there may have been none.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.utils import formats
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from django_workflows import database
from django_workflows.admin import labels
from django_workflows.admin.records import UncountedList
from django_workflows.models import Handler

FIELD = "started_at"


@dataclass(frozen=True)
class Choice:
    """A link (None: where one is) with its text."""

    title: str
    link: str | None = None


@dataclass(frozen=True)
class Dates:
    back: Choice | None
    choices: list[Choice]


def choices(cl: UncountedList) -> Dates | None:
    """Return what to offer above a page of the list; None without runs."""
    runs = Handler.objects.using(database.alias()).order_by(FIELD, "id").values_list(FIELD, flat=True)
    first, last = runs.first(), runs.last()
    if first is None or last is None:
        return None
    begin, end = labels.local(first).date(), labels.local(last).date()
    year, month, day = (_number(cl, part) for part in ("year", "month", "day"))
    if year is None:
        if begin.year != end.year:
            years = range(begin.year, end.year + 1)
            return Dates(None, [Choice(str(one), _link(cl, year=one)) for one in years])
        year = begin.year
        back = None
    else:
        back = Choice(_("All dates"), _link(cl))
    if month is None:
        months = [date(year, one, 1) for one in range(1, 13)]
        return Dates(
            back,
            [
                Choice(_format(one, "YEAR_MONTH_FORMAT"), _link(cl, year=year, month=one.month))
                for one in months
                if begin.replace(day=1) <= one <= end
            ],
        )
    if day is None:
        days = [date(year, month, one + 1) for one in range(calendar.monthrange(year, month)[1])]
        return Dates(
            Choice(str(year), _link(cl, year=year)),
            [
                Choice(_format(one, "MONTH_DAY_FORMAT"), _link(cl, year=year, month=month, day=one.day))
                for one in days
                if begin <= one <= end
            ],
        )
    one = date(year, month, day)
    back = Choice(_format(one, "YEAR_MONTH_FORMAT"), _link(cl, year=year, month=month))
    return Dates(back, [Choice(_format(one, "MONTH_DAY_FORMAT"))])


def _number(cl: UncountedList, part: str) -> int | None:
    # The list has refused by now what is no date.
    value = cl.params.get(f"{FIELD}__{part}")
    return None if not value else int(value[-1] if isinstance(value, list) else value)


def _link(cl: UncountedList, **parts: int) -> str:
    new: dict[str, Any] = {f"{FIELD}__{part}": value for part, value in parts.items()}
    return cl.get_query_string(new, [f"{FIELD}__"])


def _format(day: date, style: str) -> str:
    return capfirst(formats.date_format(day, style))
