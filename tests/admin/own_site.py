from django.contrib import admin
from django.urls import path

from django_workflows.admin import register

backoffice = admin.AdminSite("backoffice")
register(backoffice)

urlpatterns = [path("backoffice/", backoffice.urls)]
