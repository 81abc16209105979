"""The paths of the HTTP interface, for ``path("workflows/", include("django_workflows.urls"))``."""

from django_workflows.api.urls import app_name, urlpatterns

__all__ = ["app_name", "urlpatterns"]
