"""Servers of a test's own, which it may stop and start: PostgreSQL, MariaDB and Redis in a temporary directory."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest

from tests.servers import HOST, administer, free_port, wait_for


class Service:
    """A server that keeps its data over a restart.

    ``environment`` is where its clients find it.
    """

    # Whom it runs as when the tests run as root, which no database server wants to.
    user = ""
    # The program, and what sets its data directory up.
    programs: tuple[str, ...] = ()
    environment: dict[str, str]

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        missing = [name for name in self.programs if self._find(name) is None]
        if missing:
            message = f"{missing[0]} is required here"
            if os.environ.get("REQUIRE_SERVICES") == "1":
                pytest.fail(message, pytrace=False)
            pytest.skip(message)
        self.directory = Path(tempfile.mkdtemp(prefix="django-workflows-service-"))
        if os.getuid() == 0 and self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self._set_up()
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None
        self._process = subprocess.Popen(self._command(), **self._options(), start_new_session=True)
        wait_for(self._answers, timeout=30.0, what=type(self).__name__)

    def stop(self) -> None:
        """Kill it, as a power failure would; what was committed stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _set_up(self) -> None:
        pass

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _options(self) -> dict[str, Any]:
        user = self.user if os.getuid() == 0 and self.user else None
        return {
            "user": user,
            "cwd": self.directory,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }

    def _find(self, program: str) -> str | None:
        # Debian keeps PostgreSQL's own programs apart, by version.
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin"])
        return shutil.which(program, path=path)

    def _program(self, name: str) -> str:
        found = self._find(name)
        assert found is not None
        return found


class PostgreSQL(Service):
    user = "postgres"
    programs = ("postgres", "initdb")

    def _set_up(self) -> None:
        self.environment = {"PGHOST": HOST, "PGPORT": str(self.port), "PGUSER": "postgres", "PGPASSWORD": ""}
        command = [self._program("initdb"), "-D", "data", "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(command, check=True, **self._options())

    def _command(self) -> list[str]:
        options = (
            f"port={self.port} listen_addresses={HOST} unix_socket_directories= max_connections=200 fsync=off"
        )
        return [self._program("postgres"), "-D", "data", *(f"--{option}" for option in options.split(" "))]

    def stop(self) -> None:
        # Its children hold what the next start needs, and leave when they see that it is gone.
        super().stop()
        with_pid = self.directory / "data" / "postmaster.pid"
        with_pid.unlink(missing_ok=True)

    def _answers(self) -> bool:
        import psycopg

        try:
            administer({**self.environment, "DATABASE_VENDOR": "postgresql"}, "SELECT 1")
        except psycopg.OperationalError:
            if self._process is not None and self._process.poll() is not None:
                # The last one's children were not gone yet.
                self._process = subprocess.Popen(self._command(), **self._options(), start_new_session=True)
            return False
        return True


class MariaDB(Service):
    user = "mysql"
    programs = ("mariadbd", "mariadb-install-db")

    def _set_up(self) -> None:
        self.environment = {
            "MYSQL_HOST": HOST,
            "MYSQL_TCP_PORT": str(self.port),
            "MYSQL_USER": "root",
            "MYSQL_PWD": "",
        }
        data = self.directory / "data"
        options = [
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        subprocess.run([self._program("mariadb-install-db"), *options], check=True, **self._options())

    def _command(self) -> list[str]:
        data = self.directory / "data"
        options = f"datadir={data} port={self.port} bind-address={HOST} socket={self.directory}/socket"
        return [self._program("mariadbd"), "--no-defaults", *(f"--{option}" for option in options.split(" "))]

    def _answers(self) -> bool:
        import MySQLdb

        try:
            administer({**self.environment, "DATABASE_VENDOR": "mariadb"}, "SELECT 1")
        except MySQLdb.OperationalError:
            return False
        return True


class Redis(Service):
    programs = ("redis-server", "redis-cli")

    def _set_up(self) -> None:
        self.environment = {
            "SITE_CHANNEL_LAYER": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "SITE_REDIS": f"redis://{HOST}:{self.port}",
        }

    def _command(self) -> list[str]:
        return [self._program("redis-server"), "--bind", HOST, "--port", str(self.port), "--save", ""]

    def _answers(self) -> bool:
        command = [self._program("redis-cli"), "-h", HOST, "-p", str(self.port), "ping"]
        return b"PONG" in subprocess.run(command, capture_output=True).stdout
