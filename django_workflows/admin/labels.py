"""How the admin says things: a status as a coloured label, an age, JSON as text."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timedelta
from typing import Any

from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_workflows import conf, serialization
from django_workflows.models import Handler, Worker

# Characters of one document that a page shows.
SHOWN = 20_000


def label(kind: str, text: str) -> SafeString:
    """Return a coloured label; its colours are in admin.css, by ``kind``."""
    return format_html('<span class="wf-label wf-{}">{}</span>', kind, text)


def status(handler: Handler) -> SafeString:
    if handler.status == Handler.Status.RUNNING:
        if handler.worker is not None and is_silent(handler.worker):
            return label("orphaned", _("orphaned"))
        if handler.idle_since is not None:
            return label("waiting", _("waiting"))
    return label(handler.status, handler.get_status_display())


def life(worker: Worker) -> SafeString:
    """Return whether a worker lives, as far as its heartbeat tells."""
    if is_silent(worker):
        return label("silent", _("silent"))
    return label("living", _("living"))


def is_silent(worker: Worker) -> bool:
    return timezone.now() - worker.heartbeat_at > lease_timeout()


def lease_timeout() -> timedelta:
    return timedelta(seconds=conf.get().LEASE_TIMEOUT)


def span(length: timedelta) -> str:
    """Return a length of time as people say it, in its two largest units."""
    seconds = length.total_seconds()
    if seconds < 1:
        return _("%(number)d ms") % {"number": max(0, round(seconds * 1000))}
    if seconds < 10:
        return _("%(number).1f s") % {"number": seconds}
    if seconds < 60:
        return _("%(number)d s") % {"number": seconds}
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    days, hours = divmod(hours, 24)
    return ngettext("%(days)d day", "%(days)d days", days) % {"days": days} + (f" {hours} h" if hours else "")


def age(moment: datetime) -> str:
    return span(timezone.now() - moment)


def duration(handler: Handler) -> str:
    return span((handler.completed_at or timezone.now()) - handler.started_at)


def local(moment: datetime) -> datetime:
    """Return a moment in the site's time zone, also on a site without USE_TZ."""
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


def pretty(text: str | None, limit: int = SHOWN) -> str:
    """Return a JSON document indented, or as it is when it is none; cut at ``limit`` characters."""
    if not text:
        return ""
    # What was cut already is no JSON.
    with contextlib.suppress(ValueError, RecursionError):
        text = as_json(json.loads(text))
    if len(text) <= limit:
        return text
    return text[:limit] + "\n" + _("… cut here; the whole is in the event stream.")


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """Return a value as JSON that any page and database can hold."""
    return serialization.storable(json.dumps(value, indent=indent, ensure_ascii=False))


def url(name: str, *args: Any, site: str | None = None) -> str | None:
    """Return an address by the URL's name, None where the site (an admin site's name) has no such page."""
    try:
        return reverse(name, args=args, current_app=site)
    except NoReverseMatch:
        return None
