"""What ``manage.py runworkflows`` refuses to serve, and what it says then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command

from tests.servers import HOST, ROOT, Database

SITE = "tests.wire.site"
SERVERS = ["daphne", "uvicorn", "granian"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which something listens."""
    with socket.create_server((HOST, 0)) as other:
        yield other.getsockname()[1]


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
def test_a_port_that_another_takes_meanwhile(server: str, taken: int) -> None:
    with Database() as database:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_A_LOOK, "runworkflows", "--port", str(taken), "--server", server],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": SITE, **database.environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert done.returncode != 0, done.stderr
    assert "http://" not in done.stdout
    assert "in use" in done.stderr
