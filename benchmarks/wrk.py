"""Requests as fast as they are answered, by wrk where it is installed, else by a load process of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.load import Answered, LoadFailed

_SCRIPT = """
wrk.method = %(method)s
wrk.body = %(body)s
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('RESULT {"requests": %%d, "seconds": %%f, "errors": %%d, "p50": %%f, "p99": %%f}\\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


def program() -> str:
    """Return what drives the servers, for those who judge the figures."""
    return "wrk" if shutil.which("wrk") else "own load process"


def drive(port: int, method: str, path: str, body: Any, *, clients: int, seconds: float) -> Answered:
    """Let clients send the same request, each again as soon as it is answered.

    Raises:
        LoadFailed: an answer was not 2xx.
    """
    text = "" if body is None else json.dumps(body)
    if program() != "wrk":
        return load.closed_loop(port, [(method, path, text)], clients=clients, seconds=seconds)
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "request.lua"
        # A JSON string of ASCII is a Lua string too.
        script.write_text(_SCRIPT % {"method": json.dumps(method), "body": json.dumps(text)})
        # It takes whole seconds.
        command = ["wrk", "-t1", f"-c{clients}", f"-d{max(round(seconds), 1)}s", "--timeout", "60s"]
        done = subprocess.run(
            [*command, "-s", str(script), f"http://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            timeout=seconds + 120,
        )
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise LoadFailed(f"wrk said: {done.stdout}{done.stderr}")
    answered = Answered(**json.loads(found[0].removeprefix("RESULT ")))
    answered.check(path)
    return answered
