"""A site that serves workflows with django_workflows; read settings.py, urls.py and asgi.py, then newsroom/."""
