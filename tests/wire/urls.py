"""The tests' URLs, and one that tells a test what is going on inside the process."""

import threading

from django.http import HttpRequest, JsonResponse
from django.urls import path

from django_workflows import notify
from tests.urls import urlpatterns as ordinary


def inside(request: HttpRequest) -> JsonResponse:
    """Say how many readers wait for events, and how many threads there are."""
    readers = sum(len(watching) for watching in list(notify._subscriptions.values()))
    return JsonResponse({"readers": readers, "threads": threading.active_count()})


urlpatterns = [*ordinary, path("inside", inside)]
