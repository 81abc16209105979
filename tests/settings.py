"""Settings of the test suite. DATABASE_VENDOR chooses the database: sqlite (default), postgresql or mariadb."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.asgi.application"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "channels",
    "django_workflows",
    "example_project.newsroom",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def database(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the entry of DATABASES that variables describe."""
    vendor = environment.get("DATABASE_VENDOR", "sqlite")
    name = environment.get("DATABASE_NAME", "django_workflows")
    if vendor == "postgresql":
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "HOST": environment.get("PGHOST", "127.0.0.1"),
            "PORT": environment.get("PGPORT", "5432"),
            "USER": environment.get("PGUSER", "postgres"),
            "PASSWORD": environment.get("PGPASSWORD", ""),
        }
    if vendor == "mariadb":
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": name,
            "HOST": environment.get("MYSQL_HOST", "127.0.0.1"),
            "PORT": environment.get("MYSQL_TCP_PORT", "3306"),
            "USER": environment.get("MYSQL_USER", "root"),
            "PASSWORD": environment.get("MYSQL_PWD", ""),
        }
    directory = Path(environment.get("DATABASE_DIRECTORY") or tempfile.mkdtemp(prefix="django-workflows-tests-"))
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": directory / "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        # A file: an in-memory database would not be shared with the runtime's threads.
        "TEST": {"NAME": directory / "test.sqlite3"},
    }


DATABASES = {"default": database(os.environ)}

DJANGO_WORKFLOWS = {
    "WORKFLOWS": {},
}

REST_FRAMEWORK = {}
# The test sites are open to everybody on purpose.
SILENCED_SYSTEM_CHECKS = ["django_workflows.E013"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
