"""Whether a worker of this machine is dead, known at once instead of after the lease timeout.

Each worker holds a lock on a file that is named by its token; the operating system lets go of it when the
process ends, however it ends. A free lock on an existing file is therefore a dead worker. No file means that
nothing is known (another machine, another container): then only the heartbeat counts.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Life:
    """The lock of a living worker; :meth:`end` gives it up."""

    def __init__(self, token: str) -> None:
        self._path = _directory() / token
        self._file: IO[bytes] | None = None
        if fcntl is not None:
            # Locked before it has the name that others look for: a free lock would be a dead worker.
            nascent = self._path.with_suffix(".new")
            self._file = nascent.open("wb")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            nascent.rename(self._path)

    def end(self) -> None:
        if self._file is not None:
            forget(self._path.name)
            self._file.close()
            self._file = None


def is_dead(token: str) -> bool:
    """Tell whether the worker is known to be dead; False also when nothing is known."""
    if fcntl is None:
        return False
    try:
        with (_directory() / token).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        # No such file, or somebody holds it.
        return False


def forget(token: str) -> None:
    """Remove what tells that a worker is dead; when its runs are released, or else nobody would know again."""
    with contextlib.suppress(OSError):
        (_directory() / token).unlink(missing_ok=True)


def _directory() -> Path:
    """A directory of this user alone: who can write there could make others believe a worker dead."""
    path = Path(tempfile.gettempdir()) / f"django-workflows-{os.getuid() if hasattr(os, 'getuid') else 0}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.stat()
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user")
    with contextlib.suppress(OSError):
        path.chmod(0o700)
    return path
