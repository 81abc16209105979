"""Serve LlamaIndex workflows durably from a Django site.

Add ``"django_workflows"`` to ``INSTALLED_APPS``, and see the documentation for the three other lines that a site
needs. The verbs for your own code are here: each in a synchronous form, which takes effect if and only if the
transaction around it commits, and in an asynchronous one with an ``a`` before its name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_workflows.service import (
        acancel,
        apurge,
        asend_event,
        astart,
        cancel,
        purge,
        send_event,
        start,
    )

__version__ = "0.1.0"

__all__ = ["acancel", "apurge", "asend_event", "astart", "cancel", "purge", "send_event", "start"]


def __getattr__(name: str) -> Any:
    """Find the verbs when they are used: the models they need cannot be imported before Django is set up."""
    if name in __all__:
        return getattr(import_module("django_workflows.service"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
