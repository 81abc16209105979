"""The permission classes that the settings name: ``"django_workflows.permissions.IsOwner"``."""

from django_workflows.api.permissions import ACTIONS, HasModelPermission, IsOwner

__all__ = ["ACTIONS", "HasModelPermission", "IsOwner"]
