"""Settings of the example project: an ordinary Django site and three lines for django_workflows.

They come up without any preparation; the environment changes what a deployment has to:

=====================  =================================================  ===========================
SECRET_KEY             the site's secret                                  an insecure one, with DEBUG
DEBUG                  0 for a site that others can reach                 1
ALLOWED_HOSTS          host names, separated by commas                    this machine
DATABASE_VENDOR        sqlite or postgresql                               sqlite
DATABASE_NAME          the database, with SQLite its file                 example.sqlite3
PGHOST, PGPORT, ...    where PostgreSQL is, and as whom, as for psql      127.0.0.1:5432, postgres
=====================  =================================================  ===========================
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = os.environ.get("DEBUG", "1") not in ("0", "false", "")
SECRET_KEY = os.environ.get("SECRET_KEY", "insecure: for development only" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("Set SECRET_KEY in the environment: it has a default with DEBUG only.")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "daphne",  # first, so that runserver serves ASGI
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
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

ROOT_URLCONF = "example_project.urls"
ASGI_APPLICATION = "example_project.asgi.application"

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

if os.environ.get("DATABASE_VENDOR", "sqlite") == "postgresql":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ.get("DATABASE_NAME", "example"),
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "PORT": os.environ.get("PGPORT", "5432"),
            "USER": os.environ.get("PGUSER", "postgres"),
            "PASSWORD": os.environ.get("PGPASSWORD", ""),
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("DATABASE_NAME", BASE_DIR / "example.sqlite3"),
            # Threads and processes write at the same time: a transaction takes its lock when it begins,
            # and waits for the others'.
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        }
    }

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"

# Who may use the workflows: everybody while you develop, those who are logged in otherwise.
REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.AllowAny" if DEBUG else "rest_framework.permissions.IsAuthenticated"
    ]
}

# What is served, and by which name. The workflows "process_items" and "ask_name" are not here: they register
# themselves in newsroom/workflows.py.
DJANGO_WORKFLOWS = {
    "WORKFLOWS": {
        "greet": "example_project.newsroom.workflows.GreetWorkflow",
        "digest": {
            "workflow": "example_project.newsroom.digest.DigestWorkflow",
            # Written to the stream only, so no step's signature names it; declared, its schema is served too.
            "additional_events": ["example_project.newsroom.events.Progress"],
        },
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    # Named here so that it loses the handler that Django gives it, and each line appears once.
    "loggers": {"django": {"level": "INFO"}},
}
