"""Copies of the newest handler, through the ORM: ``python -m benchmarks.store COUNT``."""

from __future__ import annotations

import sys
from datetime import timedelta

import django


def main() -> None:
    django.setup()
    from django_workflows import handlers
    from django_workflows.models import Handler

    count = int(sys.argv[1])
    pattern = Handler.objects.newest_first()[0]
    names = [field.attname for field in Handler._meta.concrete_fields if not field.primary_key]
    given = {name: getattr(pattern, name) for name in names}
    rows = (
        Handler(
            **given
            | {
                "handler_id": handlers.new_id(),
                "run_id": handlers.new_id(),
                "started_at": pattern.started_at - timedelta(seconds=number),
            }
        )
        for number in range(count)
    )
    Handler.objects.bulk_create(rows, batch_size=1000)


if __name__ == "__main__":
    main()
