from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("workflows/", include("django_workflows.urls")),
    # What every browser asks for, and every site has.
    path("favicon.ico", lambda request: HttpResponse(status=204)),
    # Without DEBUG, nobody else serves them here.
    path("static/<path:path>", serve, {"insecure": True}),
]
