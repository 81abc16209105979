"""The paths of the app, for ``path("workflows/", include("django_workflows.urls"))``."""

from django.urls import path

from django_workflows.api import urls as api
from django_workflows.debugger.views import DebuggerView

app_name = api.app_name

# The page first: the API's last pattern answers all that is left.
urlpatterns = [path("", DebuggerView.as_view(), name="debugger"), *api.urlpatterns]
