"""``manage.py runworkflows``: serve the site and execute its workflows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.urls import NoReverseMatch, reverse

from django_workflows import checks, conf, registry, relay
from django_workflows.runtime import supervisor

logger = logging.getLogger("django_workflows")

# Connections that may wait to be accepted; Daphne's own default of 50 makes many at once wait for minutes.
BACKLOG = 4096


class Command(BaseCommand):
    help = "Serve the site over HTTP and execute its workflow runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host",
            default=os.environ.get("WORKFLOWS_PY_SERVER_HOST", "127.0.0.1"),
            help="address to listen on (default: %(default)s; env WORKFLOWS_PY_SERVER_HOST)",
        )
        parser.add_argument(
            "--port",
            type=int,
            default=os.environ.get("WORKFLOWS_PY_SERVER_PORT", "8080"),
            help="port to listen on (default: %(default)s; env WORKFLOWS_PY_SERVER_PORT)",
        )
        parser.add_argument(
            "--server",
            choices=("daphne", "uvicorn", "granian"),
            default="daphne",
            help="ASGI server (default: %(default)s; the others when they are installed)",
        )
        parser.add_argument(
            "--no-http",
            action="store_true",
            help="execute runs without serving HTTP: a pure worker",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.check(tags=[checks.SERVING_TAG], include_deployment_checks=True)
        _check_tables()
        self.check_migrations()
        # This thread is the server's from here on, and asks the database nothing more.
        connections.close_all()
        host, port, server = options["host"], options["port"], options["server"]
        if not 0 < port < 65536:
            raise CommandError(f"--port must be a number from 1 to 65535, got {port}")
        names = registry.names()
        served = f"Workflows  {', '.join(names) if names else 'none: see WORKFLOWS in the settings'}"
        if options["no_http"]:
            if not conf.get().EXECUTE:
                raise CommandError("--no-http with DJANGO_WORKFLOWS['EXECUTE'] = False has nothing to do")
            self.stdout.write(f"{served}\nExecuting runs; stop with Ctrl-C.")
            self.stdout.flush()
            asyncio.run(_work())
            return
        addresses = self._addresses(host, port)
        _check_address(host, port)

        def listening() -> None:
            self.stdout.write(f"{served}\n{addresses}")
            self.stdout.flush()

        getattr(self, f"_run_{server}")(host, port, listening)
        _exit()

    def _addresses(self, host: str, port: int) -> str:
        """Return where the site's pages are, to be printed when the server listens."""
        base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        try:
            api = reverse("django_workflows:health").removesuffix("health")
        except NoReverseMatch:
            raise CommandError(
                "The URLs of django_workflows are not included. Add to the site's urls.py: "
                'path("workflows/", include("django_workflows.urls"))'
            ) from None
        lines = [f"API        {base}{api}"]
        with contextlib.suppress(NoReverseMatch):
            lines.append(f"Debugger   {base}{reverse('django_workflows:debugger')}")
        with contextlib.suppress(NoReverseMatch):
            lines.append(f"Admin      {base}{reverse('admin:index')}")
        lines.append("Stop with Ctrl-C; runs under way go on at the next start.")
        return "\n".join(lines)

    def _run_daphne(self, host: str, port: int, listening: Callable[[], None]) -> None:
        # First, since it installs the reactor that the application then finds.
        from daphne.server import Server

        address = host.replace(":", r"\:")
        server = Server(
            application=_application(),
            endpoints=[f"tcp:port={port}:interface={address}:backlog={BACKLOG}"],
            root_path=getattr(settings, "FORCE_SCRIPT_NAME", "") or "",
            server_name="daphne",
            verbosity=0,
            websocket_max_message_size=_message_size(),
            websocket_max_frame_size=_message_size(),
            ready_callable=listening,
        )
        server.run()
        if server.abort_start:
            # Somebody else was quicker to take the address; Daphne has logged that.
            raise CommandError(_cannot_listen(host, port))

    def _run_uvicorn(self, host: str, port: int, listening: Callable[[], None]) -> None:
        try:
            import uvicorn
        except ImportError:
            raise CommandError(_not_installed("uvicorn")) from None
        if not (find_spec("websockets") or find_spec("wsproto")):
            message = f"uvicorn serves no WebSockets without a package for them: {_install('uvicorn')}"
            self.stderr.write(self.style.WARNING(message))

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                listening()

        # After a graceful end uvicorn raises the signal again, for whoever handled it before: end with 0.
        signal.signal(signal.SIGTERM, lambda *_: None)
        config = uvicorn.Config(
            _application(),
            host=host,
            port=port,
            backlog=BACKLOG,
            lifespan="on",
            log_config=None,
            access_log=False,
            ws_max_size=_message_size(),
            timeout_graceful_shutdown=10,
        )
        with contextlib.suppress(KeyboardInterrupt):
            Server(config).run()

    def _run_granian(self, host: str, port: int, listening: Callable[[], None]) -> None:
        try:
            from granian import Granian
            from granian.constants import Interfaces
        except ImportError:
            raise CommandError(_not_installed("granian")) from None
        module, _, name = settings.ASGI_APPLICATION.rpartition(".")
        server = Granian(
            f"{module}:{name}",
            address=host,
            port=port,
            interface=Interfaces.ASGI,
            backlog=BACKLOG,
            backpressure=BACKLOG,
            log_access=False,
        )
        server.on_startup(listening)
        server.serve()


def _check_tables() -> None:
    """Raise CommandError unless the app's tables are as this version of it needs them."""
    alias = conf.get().DATABASE
    executor = MigrationExecutor(connections[alias])
    leaves = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "django_workflows"]
    missing = [one.name for one, _ in executor.migration_plan(leaves) if one.app_label == "django_workflows"]
    if missing:
        option = "" if alias == DEFAULT_DB_ALIAS else f" --database {alias}"
        raise CommandError(
            f"The database {alias!r} lacks migrations of django_workflows ({', '.join(missing)}): "
            f"run manage.py migrate{option}"
        )


def _check_address(host: str, port: int) -> None:
    """Raise CommandError where a server could not listen.

    The servers find that out too late, when the runtime has claimed runs, and granian shares the port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the servers do: connections of one that has just ended are in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise CommandError(_cannot_listen(host, port, error)) from None


def _cannot_listen(host: str, port: int, error: OSError | None = None) -> str:
    if error is None or error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use: stop what listens there, or choose another one with --port"
    return f"Cannot listen on {host}, port {port} ({error.strerror}): choose others with --host and --port"


def _install(server: str) -> str:
    return f'pip install "django-workflow-server[{server}]"'


def _not_installed(server: str) -> str:
    return f"{server} is not installed: {_install(server)}"


def _message_size() -> int:
    """Return how many bytes of a WebSocket's message the server reads before it closes the connection.

    More than is allowed, so that one that is too large is mostly answered with a reason.
    """
    return 2 * conf.get().MAX_BODY_SIZE


def _application() -> Any:
    """Return the site's ASGI application, with the static files that a development server owes."""
    from channels.routing import get_default_application
    from django.apps import apps
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

    application: Any = get_default_application()
    if settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        return ASGIStaticFilesHandler(application)
    return application


async def _work() -> None:
    """Execute runs until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await supervisor.start()
    await stop.wait()
    await supervisor.stop()
    _exit()


def _exit() -> None:
    """End the process although synchronous steps may still run: their runs are let go of already.

    Python would wait for their threads, for hours if need be.
    """
    relay.stop()
    if any(t.name.startswith("django-workflows-step") for t in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
