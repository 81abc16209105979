"""A site with its database, its processes and what its steps have done, as the tests see it from outside."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import httpx
from django.db import connections

from tests import servers, settings
from tests.acceptance import checker, workflows
from tests.acceptance.apps import ORDER
from tests.acceptance.forking import ForkedServer
from tests.servers import Server, wait_for

SITE = "tests.acceptance.site"
# Seconds that anything may take before a test says that it does not happen; far less than the lease timeout.
DEADLINE = 60.0

_keys = count(1)


def new_key(name: str) -> str:
    """Return a key that no other run has, for traces and handler ids."""
    return f"{name}-{next(_keys)}"


class Scene:
    """One site of one database.

    Args:
        vendor: the database's.
        environment: variables for the settings of its processes, and where its database's server is.
    """

    def __init__(self, vendor: str, **environment: str) -> None:
        self.vendor = vendor
        self._environment = environment
        self._alias = f"acceptance-{next(_keys)}"
        self._clients: dict[str, httpx.Client] = {}
        self._others: list[Server] = []
        self._read_output = 0
        # Several clients may ask at once.
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="django-workflows-acceptance-"))
        address = {name: value for name, value in self._environment.items() if name.startswith(("PG", "MYSQL_"))}
        self._database = servers.Database(self.vendor, **address)
        self._database.__enter__()
        self.server = self._make_server(self._environment)
        self.checker = checker.Checker(self._connect())
        return self

    def __exit__(self, *exception: object) -> None:
        for client in self._clients.values():
            client.close()
        for server in [self.server, *self._others]:
            server.close()
        connections[self._alias].close()
        del connections[self._alias], connections.databases[self._alias]
        self._database.__exit__(*exception)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _connect(self) -> str:
        """Make the site's database one of this process's, for the checker to read; returns its alias."""
        own = {**connections.databases["default"], "OPTIONS": {}}
        connections.databases[self._alias] = {**own, **settings.database(self._database.environment)}
        return self._alias

    def _make_server(self, environment: dict[str, str], *arguments: str, forked: bool = True) -> Server:
        server = servers.runworkflows(
            self._database,
            *arguments,
            site=SITE,
            # The temporary directory is where a process shows others of its machine that it lives.
            environment={
                "SITE_DIRECTORY": str(self._directory),
                "TMPDIR": str(self._directory),
                **environment,
            },
        )
        return ForkedServer.like(server) if forked else server

    @property
    def database_name(self) -> str:
        return str(connections[self._alias].settings_dict["NAME"])

    def reconnect(self) -> None:
        """Forget the tests' own connection, which may be broken."""
        connections[self._alias].close()

    @contextmanager
    def locked_database(self) -> Iterator[None]:
        """Let somebody else write for a while, so that no process here can."""
        connection = connections[self._alias].copy()
        statement = {
            "sqlite": "UPDATE django_workflows_worker SET pid = pid",
            "postgresql": "LOCK TABLE django_workflows_handler IN EXCLUSIVE MODE",
            "mariadb": "SELECT id FROM django_workflows_handler FOR UPDATE",
        }[self.vendor]
        connection.set_autocommit(False)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
            yield
            connection.rollback()
        finally:
            connection.close()

    def make_directory(self, name: str) -> Path:
        path = self._directory / name
        path.mkdir()
        return path

    # --- processes ----------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Let the server run, after whatever an earlier test has done to it."""
        if not self.server.is_running:
            self.server.start()

    def crash(self) -> None:
        """Kill the server and start it again."""
        self.server.restart(crash=True)

    @contextmanager
    def another(self, *arguments: str, forked: bool = True, **environment: str) -> Iterator[Server]:
        """Start another process on the same database; it is killed in the end.

        Args:
            arguments: of its command line.
            forked: False for a process that has begun as one of its own.
            environment: for its settings.
        """
        server = self._make_server({**self._environment, **environment}, *arguments, forked=forked)
        self._others.append(server)
        try:
            yield server.start(wait="--no-http" not in arguments)
        finally:
            self._others.remove(server)
            server.close()

    @property
    def processes(self) -> list[Server]:
        return [server for server in [self.server, *self._others] if server.is_running]

    def order_death(self, moment: str, number: int) -> None:
        """Let a server kill itself ``before`` or ``after`` its n-th changing commit, or ``stop`` before it."""
        file = self._directory / ORDER
        hidden = file.with_suffix(".new")
        hidden.write_text(f"{moment} {number}")
        hidden.rename(file)

    def withdraw_order(self) -> bool:
        """Take an order back; False when it has been carried out, or is at this moment."""
        try:
            (self._directory / ORDER).unlink()
        except FileNotFoundError:
            return False
        return True

    # --- what steps do --------------------------------------------------------------------------------------

    def open(self, *gate: Any) -> None:
        (self._directory / workflows._gate(*gate)).touch()

    def traces(self, key: str) -> list[str]:
        """Return what the steps of a run have left, in order, without the key."""
        with suppress(FileNotFoundError):
            lines = (self._directory / workflows.TRACES).read_text().splitlines()
            return [line.removeprefix(key + " ") for line in lines if line.startswith(key + " ")]
        return []

    def trace(self, key: str, *expected: Any) -> None:
        """Wait until the steps of a run have left these traces."""
        lines = [str(one) for one in expected]
        self.until(lambda: set(lines) <= set(self.traces(key)), f"traces {lines} of {key}")

    def until(self, condition: Callable[[], Any], what: str, *, timeout: float = DEADLINE) -> Any:
        return wait_for(condition, timeout=timeout, what=what)

    # --- a client ----------------------------------------------------------------------------------------------

    def client(self, at: Server | None = None) -> httpx.Client:
        url = (at or self.server).url
        with self._lock:
            if url not in self._clients:
                self._clients[url] = httpx.Client(base_url=url, timeout=DEADLINE, verify=False)
            return self._clients[url]

    def post(self, path: str, body: dict[str, Any] | None = None, *, at: Server | None = None) -> httpx.Response:
        return self.client(at).post(path, json=body or {})

    def start(self, workflow: str, key: str | None = None, *, at: Server | None = None, **fields: Any) -> str:
        """Start a run whose handler id is its key, and return that."""
        key = key or new_key(workflow)
        body = {"handler_id": key, "start_event": {"key": key, **fields}}
        answer = self.post(f"/workflows/{workflow}/run-nowait", body, at=at)
        assert answer.status_code == 200, answer.text
        return key

    def send(self, key: str, type: str, *, at: Server | None = None, **fields: Any) -> None:
        answer = self.post(f"/events/{key}", {"event": {"type": type, "value": fields}}, at=at)
        assert (answer.status_code, answer.json()) == (200, {"status": "sent"})

    def cancel(self, key: str, *, at: Server | None = None) -> None:
        answer = self.post(f"/handlers/{key}/cancel", at=at)
        assert (answer.status_code, answer.json()) == (200, {"status": "cancelled"})

    def handler(self, key: str, *, at: Server | None = None) -> dict[str, Any]:
        """Return the public record of a run."""
        answer = self.client(at).get(f"/handlers/{key}")
        assert answer.status_code in (200, 202, 500), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ended(self, key: str, *, at: Server | None = None) -> dict[str, Any]:
        """Wait for the end of a run and return its record."""

        def look() -> dict[str, Any] | None:
            found = self.handler(key, at=at)
            return found if found["status"] != "running" else None

        found: dict[str, Any] = self.until(look, f"the end of {key}")
        return found

    def result(self, key: str, *, at: Server | None = None) -> Any:
        """Wait for the end of a run that completes and return its result."""
        found = self.ended(key, at=at)
        assert found["status"] == "completed", found
        return found["result"]["value"]["result"]

    def reader(self, key: str, *, at: Server | None = None) -> Reader:
        return Reader(self, key, at)

    def saw(self, key: str, type: str, *, at: Server | None = None) -> dict[str, Any]:
        """Wait until a run has written an event of that type and return its value."""
        reader = self.reader(key, at=at)
        value: dict[str, Any] = reader.read(until=lambda event: event["type"] == type)["value"]
        return value

    # --- in the end --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check what holds for every run, whatever has happened to it, and that nothing has gone wrong unseen."""
        errors = self._new_errors()
        assert not errors, f"the server has logged {errors}\n{self.server.described_output()}"
        self.until(self._owners_live, "runs in the hands of living processes")
        if self.checker.has_stray_mail():
            # It came as its run ended; a process sweeps it from time to time, and when it starts.
            if self.server.is_running:
                self.crash()
            self.until(lambda: not self.checker.has_stray_mail(), "a sweep")
        self.checker.check()

    def _new_errors(self) -> list[str]:
        output = self.server.output
        new, self._read_output = output[self._read_output :], len(output)
        return re.findall(r"^.* (?:ERROR|CRITICAL) (?:django_workflows|asyncio).*$", new, re.MULTILINE)

    def _owners_live(self) -> bool:
        return self.checker.owners() <= {server.pid for server in self.processes}


@dataclass
class Reader:
    """A reader of a run's event stream who comes back where it was cut off."""

    scene: Scene
    key: str
    at: Server | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)

    def read(
        self, until: Callable[[dict[str, Any]], bool] | None = None, *, may_end: bool = False
    ) -> dict[str, Any] | None:
        """Read on, to the event that is meant or to the end of the stream; returns the last event.

        Args:
            until: tells the event.
            may_end: whether the stream may end before it, since its process stops; returns None then.

        Raises:
            httpx.TransportError: the process has died, or reaches no database.
        """
        params = {"after_sequence": "-1", "include_internal": "true"}
        headers = {"Last-Event-ID": str(self.sequences[-1])} if self.sequences else {}
        with self.scene.client(self.at).stream(
            "GET", f"/events/{self.key}", params=params, headers=headers
        ) as answer:
            if answer.status_code == 503:
                raise httpx.RemoteProtocolError("the database does not answer")
            if answer.status_code != 204:
                assert answer.status_code == 200, answer.read()
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "id":
                        self.sequences.append(int(value))
                    elif name == "data":
                        self.events.append(json.loads(value))
                        if until is not None and until(self.events[-1]):
                            return self.events[-1]
        if until is not None:
            assert may_end, f"the stream of {self.key} ended: {[event['type'] for event in self.events]}"
            return None
        return self.events[-1] if self.events else None

    @property
    def is_at_end(self) -> bool:
        return bool(self.events) and checker.is_terminal(self.events[-1])

    def read_through_crashes(self) -> None:
        """Read to the end of the run, and again from there as often as the process dies."""
        while not self.is_at_end:
            with suppress(httpx.TransportError):
                self.read()
                continue
            time.sleep(0.02)
