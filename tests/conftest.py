"""What all tests share."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest


def _listens(host_variable: str, port_variable: str, port: int) -> Callable[[], str | None]:
    """Return a look at whether a service listens where the environment, or its usual port, says."""

    def look() -> str | None:
        address = os.environ.get(host_variable) or "127.0.0.1", int(os.environ.get(port_variable) or port)
        try:
            socket.create_connection(address, timeout=2).close()
        except OSError as error:
            return f"nothing answers on {address[0]}:{address[1]} ({error})"
        return None

    return look


def _has_driver(module: str, look: Callable[[], str | None]) -> Callable[[], str | None]:
    """Return a look at whether a database's driver is installed, and then at the database."""
    return lambda: look() if find_spec(module) else f"{module} is not installed"


def _is_installed(*names: str) -> Callable[[], str | None]:
    """Return a look at whether one of these commands is there."""

    def look() -> str | None:
        return None if any(shutil.which(name) for name in names) else f"no {names[0]} on the PATH"

    return look


def _is_there(path: str, hint: str) -> Callable[[], str | None]:
    """Return a look at whether a file of the project is there."""

    def look() -> str | None:
        return None if (Path(__file__).parent.parent / path).exists() else f"no {path}: {hint}"

    return look


# Name -> a look that says why the service cannot be used, None when it can.
_SERVICES: dict[str, Callable[[], str | None]] = {
    "postgresql": _listens("PGHOST", "PGPORT", 5432),
    "mariadb": _has_driver("MySQLdb", _listens("MYSQL_HOST", "MYSQL_TCP_PORT", 3306)),
    "redis": _listens("REDIS_HOST", "REDIS_PORT", 6379),
    "chromium": _is_installed("chromium", "chromium-browser", "google-chrome"),
    "curl": _is_installed("curl"),
    "node": _is_installed("node", "nodejs"),
    "axe": _is_there("node_modules/axe-core/axe.min.js", "make axe installs it"),
}


@cache
def _missing(service: str) -> str | None:
    return _SERVICES[service]()


def require(service: str) -> None:
    """Skip the test unless a service is there; with REQUIRE_SERVICES=1, as in CI, fail it instead.

    Args:
        service: postgresql, mariadb, redis, chromium, curl, node or axe.
    """
    why = _missing(service)
    if why is None:
        return
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{service} is required here: {why}", pytrace=False)
    pytest.skip(f"needs {service}: {why}")
