"""Server processes that are there in a fifth of the time: forked from one that has imported what they need.

They are processes like others, but for where they begin: nothing of Django is set up, no reactor installed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.servers import ROOT, Server, wait_for

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.acceptance.preloaded", __name__])

# Whoever starts a process polls all others as well, and of two that poll one only gets the exit code.
_polling = threading.Lock()


class ForkedServer(Server):
    """A server whose command is one of manage.py."""

    @classmethod
    def like(cls, server: Server) -> ForkedServer:
        """Return a server for the same command that starts faster."""
        server.__class__ = cls
        assert isinstance(server, cls)
        return server

    def _spawn(self) -> subprocess.Popen[bytes]:
        assert self._command[1] == "manage.py"
        return _Forked(self._command[1:], self._environment, self._log)  # type: ignore[return-value]


class _Forked:
    """As much of Popen as a Server needs."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.args = command
        self._process = _context.Process(target=_serve, args=(command, environment, log), daemon=True)
        with _polling:
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        # It is killed as a group, which it makes first of all.
        wait_for(lambda: self._is_group_leader() or self.poll() is not None)

    def _is_group_leader(self) -> bool:
        try:
            return os.getpgid(self.pid) == self.pid
        except ProcessLookupError:
            return False

    def poll(self) -> int | None:
        with _polling:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _serve(command: list[str], environment: dict[str, str], log: Path) -> None:
    os.setsid()
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for output in (1, 2):
        os.dup2(file, output)
    os.close(file)
    sys.argv = command
    from django.core.management import execute_from_command_line

    execute_from_command_line(command)
