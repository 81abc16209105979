"""URLs of the example project: the workflows (API and debugger), a page that shows a run, and Django's admin."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from example_project.newsroom import views

urlpatterns = [
    path("", RedirectView.as_view(url="workflows/")),
    path("progress/", views.progress, name="progress"),
    path("progress/<str:handler_id>/", views.progress, name="progress-of"),
    path("admin/", admin.site.urls),
    path("workflows/", include("django_workflows.urls")),
]
