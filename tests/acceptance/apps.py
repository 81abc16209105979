"""A part of the site that can kill its process at a chosen commit, on the tests' order.

The order is a file in the site's directory with a text such as ``before 7``: die before the seventh transaction
from now on that changes something is committed, with all its statements executed; or ``after 7``: when it is
committed and nobody has heard of it. ``stop 7`` is as ``before 7``, but the process only stands still (SIGSTOP).
The file is removed as the order is carried out.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.db import connections

ORDER = "kill-order"


class AcceptanceConfig(AppConfig):
    name = "tests.acceptance"

    def ready(self) -> None:
        if "SITE_DIRECTORY" in os.environ:
            from django_workflows.runtime import writer
            from django_workflows.runtime.express import Express

            order = KillOrder(Path(os.environ["SITE_DIRECTORY"]) / ORDER)
            writer.commit = order.wrap(writer.commit)
            Express._carry = order.wrap_carry(Express._carry)  # type: ignore[method-assign]
            Express._answered = order.wrap_answered(Express._answered)  # type: ignore[method-assign]
        if "SITE_PATIENCE" in os.environ:
            from django_workflows.api import sockets

            sockets.PATIENCE = float(os.environ["SITE_PATIENCE"])


class KillOrder:
    """Counts the writer's transactions, and those that the event loop sends, while there is an order.

    Args:
        file: where the order is given.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = 0
        # Whether it is to be obeyed when what the event loop has sent is answered.
        self._is_due = False

    def wrap(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        from django_workflows import database

        def wrapped(*args: Any) -> Any:
            order = self._read()
            if order is None:
                return commit(*args)
            moment, number = order
            changes = _Changes()
            with connections[database.alias()].execute_wrapper(changes), database.atomic():
                results = commit(*args)
                self._count += changes.any
                reached = changes.any and self._count == number
                if reached and moment != "after":
                    self._obey(moment)
            if reached and moment == "after":
                self._obey(moment)
            return results

        return wrapped

    def wrap_carry(self, carry: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what sends a transaction in one message, which is all that a process does for its commit."""

        def wrapped(*args: Any) -> Any:
            order = self._read()
            if order is not None:
                moment, number = order
                self._count += 1
                if self._count == number and moment != "after":
                    self._obey(moment)
                self._is_due = self._count == number and moment == "after"
            return carry(*args)

        return wrapped

    def wrap_answered(self, answered: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(express: Any, error: Exception | None) -> Any:
            if self._is_due and error is None:
                self._obey("after")
            self._is_due = False
            return answered(express, error)

        return wrapped

    def _read(self) -> tuple[str, int] | None:
        try:
            moment, number = self._file.read_text().split()
        except FileNotFoundError:
            self._count = 0
            return None
        return moment, int(number)

    def _obey(self, moment: str) -> None:
        try:
            self._file.unlink()
        except FileNotFoundError:
            # The order was withdrawn meanwhile.
            return
        os.kill(os.getpid(), signal.SIGSTOP if moment == "stop" else signal.SIGKILL)


class _Changes:
    """Notices whether a transaction changes any row."""

    def __init__(self) -> None:
        self.any = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        # SQLite does not know yet how many rows an INSERT with RETURNING makes.
        if sql.startswith("INSERT") or (sql.startswith(("UPDATE", "DELETE")) and context["cursor"].rowcount > 0):
            self.any = True
        return result
