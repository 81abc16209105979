"""Server processes for tests: start one, wait until it is healthy, stop it, kill it, start it again.

::

    with servers.Database() as database, servers.runworkflows(database, site="tests.wire.site") as server:
        httpx.get(server.url + "/health")
        server.kill()       # SIGKILL, as in a crash
        server.start()      # again, on the same port and database

A server's output goes to a file; what it wrote during a test is shown when the test fails, once a conftest.py
has imported :func:`pytest_runtest_makereport` from here.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"

# Seconds that a process may take until it answers, and until it has ended after SIGTERM.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0

_started: list[Server] = []


def wait_for(condition: Callable[[], Any], *, timeout: float = 60.0, what: str = "") -> Any:
    """Call ``condition`` until it returns something true, and return that.

    Raises:
        AssertionError: it did not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still waiting after {timeout} s for {what or condition}; last: {result!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return result


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def get(url: str, *, timeout: float = 15.0) -> httpx.Response:
    """Request a URL, without reading the certificates that no server here has."""
    return httpx.get(url, timeout=timeout, verify=False)


class Server:
    """A server as a process of its own, in a process group of its own.

    Args:
        command: the command line; ``{port}`` in a part of it stands for the port.
        prefix: path under which the workflows' API is found, "" for the root.
        environment: variables in addition to those of this process.
        name: what to call it in reports.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        prefix: str = "",
        environment: Mapping[str, str] | None = None,
        name: str = "server",
    ) -> None:
        self.name = name
        self.port = free_port()
        self.origin = f"http://{HOST}:{self.port}"
        self.url = self.origin + prefix
        self._command = [part.format(port=self.port) for part in command]
        self._environment = {
            # The settings that the tests themselves run with are not the server's.
            **{key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"},
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path(tempfile.mkdtemp(prefix="server-")) / "output.txt"
        self.reported = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- life ------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True, timeout: float = START_TIMEOUT) -> Self:
        """Start the process and, unless told otherwise, wait until it is healthy."""
        assert not self.is_running, f"{self.name} is running already"
        _end_in_order()
        self._process = self._spawn()
        if self not in _started:
            _started.append(self)
        if wait:
            self.wait_until_healthy(timeout)
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def is_healthy(self) -> bool:
        """Whether it is there and /health answers 200, now."""
        if not self.is_running:
            return False
        try:
            return httpx.get(self.url + "/health", timeout=1, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def wait_until_healthy(self, timeout: float = START_TIMEOUT) -> None:
        """Return when /health answers 200.

        Raises:
            AssertionError: the process has ended, or does not answer in time; with its output.
        """
        deadline = time.monotonic() + timeout
        while True:
            last: object
            try:
                # Without certificates, which take longer to read than the server to answer.
                last = httpx.get(self.url + "/health", timeout=5, verify=False)
                if last.status_code == 200:
                    return
            except httpx.TransportError as error:
                last = error
            if not self.is_running:
                raise AssertionError(f"{self.name} ended with {self.exit_code}\n{self.described_output()}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(
                    f"{self.name} is not healthy after {timeout} s: {last!r}\n{self.described_output()}"
                )
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The ended process's exit code, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def terminate(self, *, timeout: float = STOP_TIMEOUT) -> int:
        """Ask the process to stop (SIGTERM) and return its exit code.

        Raises:
            AssertionError: it has not ended in time; it is killed then.
        """
        self.send_signal(signal.SIGTERM)
        return self.wait_for_exit(timeout)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started, not to its children."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait_for_exit(self, timeout: float = STOP_TIMEOUT) -> int:
        assert self._process is not None
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.name} has not stopped within {timeout} s\n{self.described_output()}"
            ) from None
        self._kill_group()
        return code

    def kill(self) -> None:
        """Kill the process and its children at once (SIGKILL), as a crash would."""
        self._kill_group()
        if self._process is not None:
            self._process.wait()

    def restart(self, *, crash: bool = False) -> None:
        """Stop the process, or kill it, and start it again with the same port and environment."""
        if crash:
            self.kill()
        else:
            self.terminate()
        self.start()

    def close(self) -> None:
        """Kill what is left and forget the output."""
        self.kill()
        if self in _started:
            _started.remove(self)
        shutil.rmtree(self._log.parent, ignore_errors=True)

    def _kill_group(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    # --- output ----------------------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """Everything that the process has written so far, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def described_output(self) -> str:
        return f"--- {self.name}: {' '.join(self._command)} ---\n{self.output[-20_000:]}"

    def take_new_output(self) -> str:
        """Return what has been written since this was called last."""
        output = self.output
        new, self.reported = output[self.reported :], len(output)
        return new


def _end_in_order() -> None:
    """Let SIGTERM end the tests as Ctrl-C does, so that no server outlives them."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@atexit.register
def _kill_all() -> None:
    for server in list(_started):
        server.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show what the servers wrote during a failed test. A conftest.py imports this to have it."""
    report = yield
    for server in list(_started):
        new = server.take_new_output()
        if report.failed and new:
            report.sections.append((f"output of {server.name}", new[-10_000:]))
    return report


# --- databases ------------------------------------------------------------------------------------


class Database:
    """A migrated database without rows for servers.

    ``environment`` is what makes a process with settings on top of tests.settings use it. Migrating takes a
    second or two, so it is done once; what tests get are copies.

    Args:
        vendor: as tests/settings.py knows it; the one that the environment chooses by default.
        address: variables that say where its server is (PGPORT, MYSQL_TCP_PORT...), when not where the others are.
    """

    environment: dict[str, str]

    def __init__(self, vendor: str | None = None, **address: str) -> None:
        self.vendor = vendor or os.environ.get("DATABASE_VENDOR", "sqlite")
        self._address = address

    def __enter__(self) -> Self:
        template = _template(self.vendor, *self._address.items())
        self._directory = tempfile.mkdtemp(prefix="django-workflows-server-")
        self.environment = {**template, "DATABASE_DIRECTORY": self._directory}
        if self.vendor == "sqlite":
            shutil.copytree(template["DATABASE_DIRECTORY"], self._directory, dirs_exist_ok=True)
        else:
            self.environment["DATABASE_NAME"] = _new_name()
            _COPIES[self.vendor](template, self.environment["DATABASE_NAME"])
        return self

    def __exit__(self, *exception: object) -> None:
        _drop(self.environment)


@cache
def _template(vendor: str, *address: tuple[str, str]) -> dict[str, str]:
    """Make the database that the others are copies of, and return its environment."""
    environment = {
        **dict(address),
        "DATABASE_VENDOR": vendor,
        "DATABASE_DIRECTORY": tempfile.mkdtemp(prefix="django-workflows-server-"),
    }
    if vendor != "sqlite":
        environment["DATABASE_NAME"] = name = _new_name()
        administer(environment, f"CREATE DATABASE {name}")
    if not address:
        # A server of a test's own is gone by then.
        atexit.register(_drop, environment)
    manage("migrate", "--verbosity=0", environment=environment)
    return environment


def _new_name() -> str:
    return f"django_workflows_{secrets.token_hex(6)}"


def _drop(environment: Mapping[str, str]) -> None:
    if environment["DATABASE_VENDOR"] != "sqlite":
        force = " WITH (FORCE)" if environment["DATABASE_VENDOR"] == "postgresql" else ""
        administer(environment, f"DROP DATABASE {environment['DATABASE_NAME']}{force}")
    shutil.rmtree(environment["DATABASE_DIRECTORY"], ignore_errors=True)


def _copy_postgresql(template: Mapping[str, str], name: str) -> None:
    administer(template, f"CREATE DATABASE {name} TEMPLATE {template['DATABASE_NAME']}")


def _copy_mariadb(template: Mapping[str, str], name: str) -> None:
    """Make each table again and copy its rows: MariaDB has no templates."""
    source = template["DATABASE_NAME"]
    tables = [row[0] for row in administer(template, f"SHOW TABLES IN {source}")]
    created = [administer(template, f"SHOW CREATE TABLE {source}.{table}")[0][1] for table in tables]
    administer(
        template,
        "SET foreign_key_checks = 0",
        f"CREATE DATABASE {name}",
        f"USE {name}",
        *created,
        *(f"INSERT INTO {table} SELECT * FROM {source}.{table}" for table in tables),
    )


_COPIES = {"postgresql": _copy_postgresql, "mariadb": _copy_mariadb}


def administer(environment: Mapping[str, str], *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements on a database server, outside of any transaction; returns the rows of the last.

    Args:
        environment: of a :class:`Database`; what it does not say comes from this process's environment.
        statements: one by one, in one connection.
    """
    variables = {**os.environ, **environment}
    connection: Any
    if environment["DATABASE_VENDOR"] == "postgresql":
        import psycopg

        connection = psycopg.connect(
            dbname="postgres",
            host=variables.get("PGHOST", HOST),
            port=variables.get("PGPORT", "5432"),
            user=variables.get("PGUSER", "postgres"),
            password=variables.get("PGPASSWORD", ""),
            autocommit=True,
        )
    else:
        import MySQLdb

        connection = MySQLdb.connect(
            host=variables.get("MYSQL_HOST", HOST),
            port=int(variables.get("MYSQL_TCP_PORT", "3306")),
            user=variables.get("MYSQL_USER", "root"),
            password=variables.get("MYSQL_PWD", ""),
            autocommit=True,
        )
    try:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def manage(*arguments: str, environment: Mapping[str, str], site: str = "tests.settings") -> str:
    """Run a management command to its end and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": site, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"manage.py {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


# --- ours -----------------------------------------------------------------------------------------


def runworkflows(
    database: Database,
    *arguments: str,
    site: str,
    server: str | None = None,
    prefix: str = "/workflows",
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Return the project's own command as a server, not yet started.

    Args:
        database: where its runs are.
        arguments: more of its command line.
        site: the settings module.
        server: daphne, uvicorn or granian; the command's default when None.
        prefix: path under which the workflows' API is found.
        environment: more variables, for the settings module to read.
    """
    chosen = [] if server is None else ["--server", server]
    command = ["manage.py", "runworkflows", "--host", HOST, "--port", "{port}", *chosen, *arguments]
    return _django(command, f"runworkflows ({server or 'default'})", database, site, prefix, environment)


# The servers' own command lines; what a site without runworkflows would start.
COMMAND_LINES = {
    "daphne": ["daphne", "--bind", HOST, "--port", "{port}", "tests.asgi:application"],
    "uvicorn": ["uvicorn", "--host", HOST, "--port", "{port}", "tests.asgi:application"],
    "granian": ["granian", "--interface", "asgi", "--host", HOST, "--port", "{port}", "tests.asgi:application"],
}


def command_line(
    database: Database,
    server: str,
    *arguments: str,
    site: str,
    prefix: str = "/workflows",
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Return an ASGI server's own command line on tests.asgi as a server, not yet started."""
    return _django(["-m", *COMMAND_LINES[server], *arguments], server, database, site, prefix, environment)


def runserver(
    database: Database,
    *,
    site: str,
    prefix: str = "/workflows",
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Return Django's development server, without its reloader, as a server, not yet started."""
    command = ["manage.py", "runserver", "--noreload", f"{HOST}:{{port}}"]
    return _django(command, "runserver", database, site, prefix, environment)


def _django(
    command: Sequence[str],
    name: str,
    database: Database,
    site: str,
    prefix: str,
    environment: Mapping[str, str] | None,
) -> Server:
    return Server(
        [sys.executable, *command],
        prefix=prefix,
        environment={"DJANGO_SETTINGS_MODULE": site, **database.environment, **(environment or {})},
        name=name,
    )


@contextmanager
def terminating(server: Server) -> Iterator[Server]:
    """Start a server and, at the end, ask it to stop before it is killed, so that it can say what goes wrong."""
    with server:
        yield server
        if server.is_running:
            server.terminate()
