"""The tests' URLs, with a page to log in for users who are not of the staff."""

from django.urls import include, path

from tests.urls import urlpatterns as ordinary

urlpatterns = [*ordinary, path("login/", include("rest_framework.urls"))]
