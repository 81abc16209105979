"""``manage.py purgeworkflows``: delete finished handlers that are older than so long."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from django_workflows import conf, retention


def _age(text: str) -> timedelta:
    try:
        age: timedelta = conf.parse_age(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return age


class Command(BaseCommand):
    help = "Delete finished workflow handlers with all that belongs to them, in small transactions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=_age,
            metavar="AGE",
            help='how long ago they must have ended: "30d", "12h" (default: the setting RETENTION)',
        )
        parser.add_argument(
            "--status",
            action="append",
            choices=[str(status) for status in retention.FINISHED],
            help="only handlers of this status; may be repeated (default: all that have ended)",
        )
        parser.add_argument("--dry-run", action="store_true", help="only count what would be deleted")

    def handle(self, *args: Any, **options: Any) -> None:
        age = options["older_than"] or conf.get().RETENTION
        if age is None:
            raise CommandError(
                "Say how old: --older-than 30d, or set DJANGO_WORKFLOWS['RETENTION'] in the settings."
            )
        before = timezone.now() - age
        statuses = options["status"] or retention.FINISHED
        if options["dry_run"]:
            count = len(retention.expired(before, statuses))
            self.stdout.write(f"{count} handlers ended before {before:%Y-%m-%d %H:%M} and would be deleted")
            return
        deleted = retention.purge(before, statuses)
        self.stdout.write(f"{deleted} handlers deleted that ended before {before:%Y-%m-%d %H:%M}")
