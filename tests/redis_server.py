"""A Redis of a test's own, which can be stopped and started again without anybody else noticing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from typing import Any, Self

import pytest
import redis

from tests.servers import HOST, free_port, wait_for

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


class RedisServer:
    """A redis-server on a port of its own; skips the test where there is none."""

    def __init__(self) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("needs redis-server")
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self._directory = tempfile.mkdtemp(prefix="django-workflows-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.send_signal(signal.SIGCONT)
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        command = [
            "redis-server",
            "--bind",
            HOST,
            "--port",
            str(self.port),
            "--save",
            "",
            "--dir",
            self._directory,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(self._answers, what="redis-server")

    def stop(self) -> None:
        """Kill it; whoever is connected is cut off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def send_signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def client(self) -> redis.Redis:
        return redis.Redis(host=HOST, port=self.port)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def layers(self, backend: str = PUBSUB) -> dict[str, Any]:
        """Return CHANNEL_LAYERS for a site that uses it."""
        return {"default": {"BACKEND": backend, "CONFIG": {"hosts": [self.url]}}}
