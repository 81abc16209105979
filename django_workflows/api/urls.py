from django.urls import path, re_path

from django_workflows.api import inspection, openapi, views

app_name = "django_workflows"

urlpatterns = [
    path("health", views.HealthView.as_view(), name="health"),
    path("workflows", views.WorkflowListView.as_view(), name="workflows"),
    path("workflows/<str:name>/run", views.RunView.as_view(), name="run"),
    path("workflows/<str:name>/run-nowait", views.RunNowaitView.as_view(), name="run-nowait"),
    path("workflows/<str:name>/schema", views.WorkflowSchemaView.as_view(), name="schema"),
    path("workflows/<str:name>/events", views.WorkflowEventsView.as_view(), name="workflow-events"),
    path(
        "workflows/<str:name>/representation",
        views.WorkflowRepresentationView.as_view(),
        name="representation",
    ),
    path("workflows/<str:name>/layout", inspection.LayoutView.as_view(), name="layout"),
    path(
        "workflows/<str:name>/accepted-events",
        inspection.AcceptedEventsView.as_view(),
        name="accepted-events",
    ),
    path("handlers", views.HandlerListView.as_view(), name="handlers"),
    path("handlers/<str:handler_id>", views.HandlerView.as_view(), name="handler"),
    path("handlers/<str:handler_id>/cancel", views.CancelView.as_view(), name="cancel"),
    path("handlers/<str:handler_id>/events", inspection.HandlerEventsView.as_view(), name="handler-events"),
    path("handlers/<str:handler_id>/context", inspection.HandlerContextView.as_view(), name="handler-context"),
    path("results/<str:handler_id>", views.ResultView.as_view(), name="result"),
    path("events/<str:handler_id>", views.EventsView.as_view(), name="events"),
    path("ws/events/<str:handler_id>", views.SocketView.as_view(), name="socket"),
    path("openapi.json", openapi.OpenAPIView.as_view(), name="openapi"),
    # Everything else below the prefix: an API's answer, not the site's page.
    re_path(r"", views.NotFoundView.as_view(), name="not-found"),
]
