"""The JavaScript client: its own tests, by node's test runner."""

from __future__ import annotations

import subprocess

from tests.conftest import require
from tests.servers import ROOT


def test_the_client_in_node() -> None:
    require("node")
    done = subprocess.run(["node", "--test", "tests/js/"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
