from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DjangoWorkflowsConfig(AppConfig):
    name = "django_workflows"
    verbose_name = _("Workflows")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_workflows import checks, notify, relay  # noqa: F401

        notify.pass_on_to(relay)
