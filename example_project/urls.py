"""URLs of the example project: the workflows (API and debugger) and Django's admin."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(url="workflows/")),
    path("admin/", admin.site.urls),
    path("workflows/", include("django_workflows.urls")),
]
