"""The machine and its processes: processor time and memory from /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class _Stat:
    """What /proc/PID/stat says, in seconds."""

    name: str
    parent: int
    own: float
    # Of children that have ended and were waited for.
    children: float


def _stat(pid: int) -> _Stat:
    text = Path(f"/proc/{pid}/stat").read_text()
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return _Stat(name, int(fields[1]), own / _TICK, children / _TICK)


def cpu(pid: int) -> float:
    """Return the processor time that a process has used, in seconds, all of its threads together."""
    return _stat(pid).own


def memory(pid: int) -> int:
    """Return how much of a process is in memory, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def settle(pid: int, timeout: float = 60.0) -> None:
    """Wait until a process has next to nothing to do: less than a twentieth of a core for half a second."""
    deadline = time.monotonic() + timeout
    before = cpu(pid)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = cpu(pid)
        if now - before < 0.025:
            return
        before = now


def _busy() -> float:
    """Return the processor time that the machine has used, in seconds.

    Without that of interrupts, most of which is our own traffic on the loopback device and counted nowhere else.
    What another guest of the same host took from us ("steal") counts as used.
    """
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + steal) / _TICK


def _ours() -> float:
    """Return the processor time of this process, its descendants and the database server, in seconds.

    A process that ends hands its time on to its parent, so the sum only grows.
    """
    stats = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stats[int(entry)] = _stat(int(entry))
    children = defaultdict(list)
    for pid, stat in stats.items():
        children[stat.parent].append(pid)
    wanted, found = [os.getpid()], set()
    while wanted:
        pid = wanted.pop()
        found.add(pid)
        wanted += children[pid]
    found |= {pid for pid, stat in stats.items() if stat.name == "postgres"}
    return sum(stats[pid].own + stats[pid].children for pid in found if pid in stats)


@dataclass
class Watch:
    """What happened on the machine meanwhile.

    Attributes:
        seconds: how long it took.
        ours: cores that the benchmark, its servers and the database server kept busy on average.
        foreign: cores that others did.
    """

    seconds: float = 0.0
    ours: float = 0.0
    foreign: float = 0.0


@contextlib.contextmanager
def watch() -> Iterator[Watch]:
    """Watch the machine; the figures are there at the end."""
    result = Watch()
    started, busy, ours = time.monotonic(), _busy(), _ours()
    try:
        yield result
    finally:
        result.seconds = time.monotonic() - started
        result.ours = (_ours() - ours) / result.seconds
        result.foreign = max((_busy() - busy) / result.seconds - result.ours, 0.0)


def describe() -> dict[str, str]:
    """Return what a reader must know about the machine to judge figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
    packages = ("django", "llama-index-workflows", "llama-agents-server", "uvicorn", "daphne", "psycopg")
    return {
        "processor": f"{os.cpu_count()} cores, {', '.join(sorted(models)) or platform.machine()}",
        "memory": f"{kilobytes / 1024**2:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
