"""Serve LlamaIndex workflows durably from a Django site.

The application's verbs live in :mod:`django_workflows.service`; add ``"django_workflows"`` to
``INSTALLED_APPS`` and see the documentation for the three other lines that a site needs.
"""

__version__ = "0.1.0"
