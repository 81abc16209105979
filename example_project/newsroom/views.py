"""A page without any framework: it starts a run and shows how it gets on."""

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from django_workflows import service
from django_workflows.models import Handler

# The items of the form before anybody has changed them, and how many there may be.
ITEMS = ["ants", "bees", "cats", "dogs", "eels", "finches"]
MOST = 50


@require_http_methods(["GET", "POST"])
def progress(request: HttpRequest, handler_id: str = "") -> HttpResponse:
    """Show the form and, under a run's own URL, its progress; a POST starts a run."""
    if not settings.DEBUG and not request.user.is_authenticated:
        # As the API itself, see the settings.
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    if request.method == "POST":
        todo = [line.strip() for line in request.POST.get("todo", "").splitlines() if line.strip()][:MOST]
        owner = request.user if request.user.is_authenticated else None
        handler = service.start("process_items", {"todo": todo or ITEMS, "delay": 1.0}, owner=owner)
        return redirect("progress-of", handler.handler_id)
    if handler_id and not Handler.objects.filter(handler_id=handler_id).exists():
        return redirect("progress")
    context = {
        "handler_id": handler_id,
        "items": "\n".join(ITEMS),
        "base_url": reverse("django_workflows:health").removesuffix("/health"),
    }
    response = render(request, "newsroom/progress.html", context)
    # Nothing on the page comes from elsewhere, and nothing is written into it.
    response["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
    return response
