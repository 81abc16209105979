"""The site for an ASGI server: Django's own module of this kind with one import changed."""

import os

from django_workflows.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

application = get_asgi_application()
