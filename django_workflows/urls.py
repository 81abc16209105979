urlpatterns = []
app_name = "django_workflows"
