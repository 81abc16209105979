"""Load processes: requests in a closed loop, and readers of streams.

A process of its own (``python -m benchmarks.load``) reads a job as JSON from its standard input and writes the
result to its standard output, so that it shares no interpreter with whoever measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.figures import percentile

HOST = "127.0.0.1"

Request = tuple[str, str, str]


class LoadFailed(Exception):
    """A server did not answer as it should, so that what was measured means nothing."""


@dataclass
class Answered:
    """What became of requests; times in seconds."""

    requests: int
    seconds: float
    errors: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def check(self, path: str) -> None:
        if self.errors or not self.requests:
            raise LoadFailed(f"{path}: {self.errors} of {self.requests} requests failed")


@dataclass
class Read:
    """What readers have got.

    Attributes:
        streams: how many there were.
        events: stamped events that they have got, all together.
        seconds: from the first of these to the last.
        lateness: of each percentile, in seconds: how long after its stamp an event came.
    """

    streams: int
    events: int = 0
    seconds: float = 0.0
    lateness: dict[str, float] = field(default_factory=dict)


# --- for whoever measures --------------------------------------------------------------------------------


def closed_loop(port: int, requests: Sequence[Request], *, clients: int, seconds: float | None = None) -> Answered:
    """Let clients send requests, each its next one as soon as it has its answer.

    Args:
        port: where the server listens.
        requests: (method, path, body); each is sent once, or all again and again until the time is over.
        clients: connections.
        seconds: how long; None until every request has been answered once.

    Raises:
        LoadFailed: an answer was not 2xx.
    """
    with _process("requests", port=port, requests=requests, clients=clients, seconds=seconds) as process:
        answered = Answered(**_result(process))
    answered.check(requests[0][1])
    return answered


@contextlib.contextmanager
def readers(port: int, paths: Sequence[str], *, seconds: float | None = None) -> Iterator[Callable[[], Read]]:
    """Read streams; yields, as soon as all of them are asked for, a function that waits for what they give.

    The reference answers when there is a first event, so nothing is said of answers until the end.

    Args:
        port: where the server listens.
        paths: one for each reader.
        seconds: how long to read; None until all streams have ended.
    """
    with _process("streams", port=port, paths=paths, seconds=seconds) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise LoadFailed(f"streams were not answered: {process.communicate()[1]}")
        yield lambda: Read(**_result(process))


@contextlib.contextmanager
def _process(kind: str, **job: Any) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks.load"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"kind": kind, **job}) + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def _result(process: subprocess.Popen[str]) -> Any:
    output, errors = process.communicate()
    if process.returncode:
        raise LoadFailed(f"the load process ended with {process.returncode}: {errors}")
    return json.loads(output)


# --- in the process --------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One HTTP connection, which is kept open.

    Args:
        on_end: called with the status when an answer is complete.
        on_head: called with the status when an answer begins.
        on_body: called with each part of a body.
    """

    def __init__(
        self,
        on_end: Callable[[Connection, int], None],
        on_head: Callable[[int], None] = lambda status: None,
        on_body: Callable[[bytes], None] = lambda body: None,
    ) -> None:
        self._on_end, self._on_head = on_end, on_head
        self.on_body = on_body
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._new_parser()

    def _new_parser(self) -> None:
        import httptools

        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: Request) -> None:
        method, path, body = request
        content = body.encode()
        kind = "Content-Type: application/json\r\n" if content else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{kind}Content-Length: {len(content)}\r\n\r\n"
        self._transport.write(head.encode() + content)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self._on_head(self._parser.get_status_code())

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._new_parser()
        self._on_end(self, status)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(error)

    def close(self) -> None:
        self._transport.close()


async def _connect(port: int, connection: Connection) -> Connection:
    await asyncio.get_running_loop().create_connection(lambda: connection, HOST, port)
    return connection


async def _requests(port: int, requests: list[Request], clients: int, seconds: float | None) -> dict[str, Any]:
    todo = iter(requests) if seconds is None else itertools.cycle(requests)
    began: dict[Connection, float] = {}
    took: list[float] = []
    errors = 0
    until = float("inf")

    def next_request(connection: Connection) -> None:
        now = time.perf_counter()
        request = next(todo, None) if now < until else None
        if request is None:
            connection.close()
            return
        began[connection] = now
        connection.send(request)

    def ended(connection: Connection, status: int) -> None:
        nonlocal errors
        took.append(time.perf_counter() - began.pop(connection))
        errors += not 200 <= status < 300
        next_request(connection)

    connections = [await _connect(port, Connection(ended)) for _ in range(clients)]
    started = time.perf_counter()
    if seconds is not None:
        until = started + seconds
    for connection in connections:
        next_request(connection)
    await asyncio.gather(*(connection.lost for connection in connections))
    # A connection that was lost with a request under way.
    errors += len(began)
    elapsed = time.perf_counter() - started
    p50, p99 = (percentile(took, share) if took else 0.0 for share in (50, 99))
    return asdict(Answered(len(took), elapsed, errors, p50, p99))


_STAMP = re.compile(rb'"at":\s*([0-9.]+)')


class _Reader:
    """Takes the stamps out of one stream."""

    def __init__(self, lateness: list[float]) -> None:
        self._lateness = lateness
        self._rest = b""

    def take(self, body: bytes) -> None:
        now = time.time()
        whole, separator, self._rest = (self._rest + body).rpartition(b"\n\n")
        if separator:
            self._lateness += [now - float(stamp) for stamp in _STAMP.findall(whole)]


async def _streams(port: int, paths: list[str], seconds: float | None) -> dict[str, Any]:
    lateness: list[float] = []
    first, last = 0.0, 0.0
    statuses: list[int] = []

    def taking() -> Callable[[bytes], None]:
        reader = _Reader(lateness)

        def take(body: bytes) -> None:
            nonlocal first, last
            before = len(lateness)
            reader.take(body)
            if len(lateness) > before:
                last = time.time()
                first = first or last

        return take

    connections = []
    for path in paths:
        connection = Connection(lambda c, status: c.close(), statuses.append, taking())
        await _connect(port, connection)
        connection.send(("GET", path, ""))
        connections.append(connection)
    print("ready", flush=True)
    ended = asyncio.gather(*(connection.lost for connection in connections))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended, seconds)
    if statuses != [200] * len(paths):
        raise LoadFailed(f"{len(paths)} streams were answered {Counter(statuses)}")
    shares = {f"p{share}": percentile(lateness, share) for share in (50, 99, 100)} if lateness else {}
    return asdict(Read(len(paths), len(lateness), last - first, shares))


def main() -> None:
    import uvloop

    job = json.loads(sys.stdin.readline())
    run = {"requests": _requests, "streams": _streams}[job.pop("kind")]
    print(json.dumps(uvloop.run(run(**job))))


if __name__ == "__main__":
    main()
