"""Who asks: the people of the matrix, made in a server's database or in the test's own, and how they log in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests import servers

PASSWORD = "correct horse"

# Permission -> the action that it is for.
PERMISSIONS = {
    "view_handler": "read",
    "run_workflow": "start",
    "answer_handler": "answer",
    "cancel_handler": "cancel",
    "delete_handler": "purge",
}


@dataclass(frozen=True)
class Person:
    """Somebody who asks.

    Attributes:
        name: the user's name; empty for nobody in particular.
        is_staff: whether the user is of the site's staff.
        permissions: the model permissions that the user has.
    """

    name: str
    is_staff: bool = False
    permissions: tuple[str, ...] = ()

    @property
    def actions(self) -> set[str]:
        """What the model permissions are for."""
        found = {PERMISSIONS[permission] for permission in self.permissions}
        return found | {"describe"} if found & {"read", "start"} else found

    def __str__(self) -> str:
        return self.name or "anonymous"


ANONYMOUS = Person("")
OWNER = Person("owner")
OTHER = Person("other")
STAFF = Person("staff", True, tuple(PERMISSIONS))
PEOPLE = [
    ANONYMOUS,
    OWNER,
    OTHER,
    STAFF,
    Person("idle-staff", True),
    *(Person(f"only-{permission}", False, (permission,)) for permission in PERMISSIONS),
    *(Person(f"staff-{permission}", True, (permission,)) for permission in PERMISSIONS),
]


def create() -> dict[str, str]:
    """Make the users, and return their tokens by name."""
    from django.contrib.auth.models import Permission, User
    from rest_framework.authtoken.models import Token

    tokens = {}
    for person in PEOPLE:
        if person != ANONYMOUS:
            user = User(username=person.name, is_staff=person.is_staff)
            if person == OWNER:
                # Hashing takes a while, and nobody else logs in with it.
                user.set_password(PASSWORD)
            user.save()
            user.user_permissions.set(Permission.objects.filter(codename__in=person.permissions))
            tokens[person.name] = Token.objects.create(user=user).key
    return tokens


def create_in(database: servers.Database) -> dict[str, str]:
    """Make the users in a server's database, and return their tokens by name."""
    code = "import json; from tests.access import people; print(json.dumps(people.create()))"
    output = servers.manage(
        "shell", "--verbosity=0", "-c", code, environment=database.environment, site="tests.access.site"
    )
    tokens: dict[str, str] = json.loads(output.strip().splitlines()[-1])
    return tokens


def __getattr__(name: str) -> Any:
    # Models cannot be imported before Django is set up.
    if name != "BadgeAuthentication":
        raise AttributeError(name)
    from django.contrib.auth.models import User
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.exceptions import AuthenticationFailed

    class BadgeAuthentication(BaseAuthentication):
        """As a third party would write one: the porter says who it is."""

        def authenticate(self, request: Any) -> Any:
            name = request.headers.get("X-Badge")
            if name is None:
                return None
            user = User.objects.filter(username=name).first()
            if user is None:
                raise AuthenticationFailed("No such badge.")
            return user, None

    globals()[name] = BadgeAuthentication
    return BadgeAuthentication
