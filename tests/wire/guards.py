"""Permission and throttling classes of the site with users."""

from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle

from django_workflows.models import Handler


class IsOwner(IsAuthenticated):
    """Only who has started a run may do anything with it; those whose name is "reader" may only read."""

    def has_permission(self, request: Request, view: Any) -> bool:
        may = request.method == "GET" or not request.user.get_username().startswith("reader")
        return super().has_permission(request, view) and may

    def has_object_permission(self, request: Request, view: Any, handler: Handler) -> bool:
        return request.user.is_staff or handler.owner_id == request.user.pk


class Throttle(UserRateThrottle):
    """Lets the user of the name "hasty" ask twice in an hour."""

    rate = "2/hour"

    def allow_request(self, request: Request, view: Any) -> bool:
        return request.user.get_username() != "hasty" or super().allow_request(request, view)
