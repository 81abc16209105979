"""What ``manage.py runworkflows`` refuses to serve, and what it says then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from django_workflows.management.commands import runworkflows
from tests import servers
from tests.servers import HOST, ROOT, Database, free_port

SITE = "tests.wire.site"
SERVERS = ["daphne", "uvicorn", "granian"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which something listens."""
    with socket.create_server((HOST, 0)) as other:
        yield other.getsockname()[1]


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as database:
        yield database


def run(
    database: Database,
    *arguments: str,
    site: str = SITE,
    program: Sequence[str] = ("manage.py",),
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run the command, which ends by itself."""
    return subprocess.run(
        [sys.executable, *program, "runworkflows", *arguments],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": site, **database.environment, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- the database ----------------------------------------------------------------------------------------


def test_a_database_without_our_tables(database: Database) -> None:
    servers.manage("migrate", "django_workflows", "0001", environment=database.environment)

    done = run(database)

    assert done.returncode == 1
    assert "lacks migrations of django_workflows (0002_" in done.stderr
    assert "manage.py migrate" in done.stderr
    assert "Workflows" not in done.stdout


def test_a_database_without_the_tables_of_others_is_served(database: Database) -> None:
    servers.manage("migrate", "sessions", "zero", environment=database.environment)

    # It comes as far as to the port.
    with socket.create_server((HOST, 0)) as other:
        done = run(database, "--port", str(other.getsockname()[1]))

    assert "unapplied migration(s)" in done.stdout
    assert "is in use" in done.stderr


@pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="about SQLite")
def test_a_database_in_memory(database: Database, tmp_path: Path) -> None:
    source = "from tests.settings import *\nDATABASES['default']['NAME'] = ':memory:'\n"
    (tmp_path / "forgetful_site.py").write_text(source)

    done = run(database, site="forgetful_site", PYTHONPATH=str(tmp_path))

    assert done.returncode == 1
    assert "django_workflows.E014" in done.stderr
    assert "migrate" not in done.stderr, "it would not help"


# --- the address -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("server", SERVERS)
def test_a_port_that_is_in_use(server: str, taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match=f"Port {taken} on {HOST} is in use.*--port"):
        call_command("runworkflows", host=HOST, port=taken, server=server)

    assert "http://" not in capsys.readouterr().out, "nobody is to be found there"


@pytest.mark.django_db(transaction=True)
def test_a_host_that_is_none_of_this_machine() -> None:
    with pytest.raises(CommandError, match=r"Cannot listen on 192\.0\.2\.1, port 8080.*--host"):
        call_command("runworkflows", host="192.0.2.1", port=8080)


# As when two are started at the same moment.
WITHOUT_A_LOOK = """
import django
from django.core.management import execute_from_command_line

django.setup()
from django_workflows.management.commands import runworkflows

runworkflows._check_address = lambda host, port: None
execute_from_command_line()
"""


@pytest.mark.parametrize("server", SERVERS)
def test_a_port_that_another_takes_meanwhile(server: str, taken: int, database: Database) -> None:
    done = run(database, "--port", str(taken), "--server", server, program=("-c", WITHOUT_A_LOOK))

    assert done.returncode != 0, done.stderr
    assert "http://" not in done.stdout
    assert "in use" in done.stderr


# --- the servers that need not be there ------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_a_server_that_is_not_installed(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, server, None)

    with pytest.raises(CommandError) as refused:
        call_command("runworkflows", port=free_port(), server=server)

    # With the server's own package alone there would be no WebSockets.
    extra = f"django-workflow-server[{server}]"
    assert str(refused.value) == f'{server} is not installed: pip install "{extra}"'
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert server in extras


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("installed", "is_said"),
    [
        pytest.param([], True, id="neither"),
        pytest.param(["wsproto"], False, id="wsproto"),
        pytest.param(["websockets"], False, id="websockets"),
    ],
)
def test_uvicorn_without_websockets(
    installed: list[str], is_said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runworkflows, "find_spec", lambda name: name in installed or None)
    monkeypatch.setattr("uvicorn.Server.run", lambda server: None)
    monkeypatch.setattr(runworkflows.signal, "signal", lambda number, handler: None)

    call_command("runworkflows", port=free_port(), server="uvicorn")

    assert ("serves no WebSockets" in capsys.readouterr().err) == is_said
