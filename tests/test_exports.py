"""What ``from django_workflows import …`` gives, and when."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import django_workflows
from django_workflows import service
from tests.servers import ROOT

VERBS = {"start", "send_event", "cancel", "purge"}


def test_the_verbs_are_those_of_the_service() -> None:
    assert set(django_workflows.__all__) == VERBS | {f"a{verb}" for verb in VERBS}
    for name in django_workflows.__all__:
        assert getattr(django_workflows, name) is getattr(service, name)
        assert name in dir(django_workflows)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_both_forms_are_called_alike(verb: str) -> None:
    synchronous, asynchronous = getattr(service, verb), getattr(service, f"a{verb}")

    assert inspect.signature(synchronous) == inspect.signature(asynchronous)
    assert inspect.iscoroutinefunction(asynchronous)
    # Nobody has to fetch anything first.
    assert all(p.annotation != "Handler" for p in inspect.signature(asynchronous).parameters.values())


def test_what_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'begin'"):
        django_workflows.begin  # noqa: B018


def test_the_package_can_be_imported_before_django_is_set_up() -> None:
    program = """
import sys, django_workflows
assert "django" not in sys.modules
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "django_workflows"]
)
django.setup()
from django_workflows import astart, start
print(start.__module__, astart.__name__)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "django_workflows.service astart\n", done.stderr
