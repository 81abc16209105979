"""Columns and moments that mean the same on every database."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from django_workflows.database.connections import alias

if TYPE_CHECKING:
    _CharField = models.CharField[str, str]
else:
    # Generic for type checkers alone.
    _CharField = models.CharField


class IdentifierField(_CharField):
    """A CharField that compares byte by byte on every database.

    MySQL and MariaDB compare case-insensitively by default, so ``abc`` would find the run of ``ABC``.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        column = super().db_type(connection)
        if connection.vendor == "mysql":
            return f"{column} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return column


class DocumentField(models.TextField):  # type: ignore[type-arg]  # str, or str and None with null=True
    """A TextField that holds every character on every database.

    MySQL's default character set may be one of three bytes, which has no emoji.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        if connection.vendor == "mysql":
            return "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return super().db_type(connection)


class DatabaseNow(Now):
    """The database's own clock in UTC, the one clock that every process shares.

    On MySQL, ``CURRENT_TIMESTAMP`` follows the session's time zone, which Django leaves alone while it
    stores UTC.
    """

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


def moment(seconds: float) -> datetime:
    """Return seconds since the epoch in the form that compares with :class:`DatabaseNow`.

    Without USE_TZ there are only times without a zone: PostgreSQL reads them in the site's, while the other two,
    as DatabaseNow makes them, are told UTC.
    """
    if settings.USE_TZ:
        return datetime.fromtimestamp(seconds, UTC)
    return datetime.fromtimestamp(seconds, _zone_without_zones()).replace(tzinfo=None)


def seconds(moment: datetime) -> float:
    """Return a time that the database has made of DatabaseNow as seconds since the epoch."""
    return (moment if timezone.is_aware(moment) else moment.replace(tzinfo=_zone_without_zones())).timestamp()


def at_once() -> datetime:
    """Return a moment that is long due, whatever a host's clock says."""
    return moment(0.0)


def _zone_without_zones() -> tzinfo:
    return timezone.get_default_timezone() if connections[alias()].vendor == "postgresql" else UTC


def starts_with(field: str, prefix: str) -> models.Q:
    """Return the condition that an identifier begins with ``prefix``, in the form that its index serves.

    PostgreSQL keeps a second index for LIKE. SQLite and MySQL order identifiers by their bytes, so there it is a
    range; LIKE would read the whole table, because it ignores case (SQLite) or is compared as binary (MySQL).
    """
    if connections[alias()].vendor == "postgresql":
        return models.Q(**{f"{field}__startswith": prefix})
    return models.Q(**{f"{field}__gte": prefix, f"{field}__lt": prefix + "\U0010ffff"})
