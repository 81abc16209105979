"""The site's ASGI application, with one changed import.

::

    # mysite/asgi.py
    from django_workflows.asgi import get_asgi_application

    application = get_asgi_application()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.asgi import get_asgi_application as get_django_application

if TYPE_CHECKING:
    from django_workflows.lifecycle import Application


def get_asgi_application(websocket: Any = None) -> Application:
    """Return the ASGI application for a site that serves workflows; for its ``asgi.py``.

    Args:
        websocket: the site's own ASGI application for WebSockets (Channels' ``URLRouter``, or what is around it),
            which gets every one that is not for a workflow's events.
    """
    django = get_django_application()
    # Only now: Django is set up, and models can be imported.
    from django_workflows.lifecycle import Application

    return Application(django, websocket)
