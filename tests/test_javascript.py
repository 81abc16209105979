"""The JavaScript's own tests, run by node."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require
from tests.servers import ROOT

STATIC = ROOT / "django_workflows" / "static" / "django_workflows"
FORBIDDEN = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    "confirm(",
    "alert(",
)
MODULES = sorted(STATIC.rglob("*.js"))


def test_the_logic_passes_its_own_tests() -> None:
    require("node")
    node = shutil.which("node") or "nodejs"
    done = subprocess.run([node, "--test", "tests/js/"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_value_never_becomes_markup_or_code(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "window.confirm",
        "alert(",
    ):
        assert word not in text, word


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_modules_are_imported_from_beside_them_alone(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    names = re.findall(r"""^(?:import|export)\b[^;]*? from "([^"]+)";|\bimport\("([^"]+)"\)""", text, flags=re.M)
    for name in (one or other for one, other in names):
        assert name.startswith(("./", "../")), name
        assert (module.parent / name).exists(), name
