"""README and documentation are held to what they describe.

Examples run. A comment before a fenced block, which readers do not see, says how::

    <!-- site: write shop/models.py -->    the block is a file of a new, empty site
    <!-- site: append mysite/settings.py -->
    <!-- site: run -->                     its commands are run, and give the output that follows them
    <!-- site: serve -->                   its command stays, as the server that the next blocks talk to
    <!-- site: crash -->                   as run, but "pkill -9 -f runworkflows" kills that server only
    <!-- site: python -->                  the block is a program

``example:`` in place of ``site:`` is the example project. In an expected output, an ellipsis stands for anything
within a line, and alone for any lines; random ids and times are those of the day when the page was written.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import BaseCommand, get_commands, load_command_class

from django_workflows import conf
from django_workflows.api import urls
from django_workflows.api.permissions import ACTIONS, MODEL_PERMISSIONS
from tests import servers
from tests.conftest import require
from tests.wire import departures

ROOT = servers.ROOT
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


# --- reading pages ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block, with what the comment before it says: where, what, and with which file."""

    page: str
    line: int
    language: str
    text: str
    where: str = ""
    verb: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


_COMMENT = re.compile(r"\s*<!-- (site|example): (\w+) ?(\S*) -->\s*")


def blocks(page: str) -> Iterator[Block]:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = re.fullmatch(r"( *)```(\w*)", lines[number])
        if opening is None:
            number += 1
            continue
        start = number + 1
        number = next(n for n in range(start, len(lines)) if lines[n] == f"{opening[1]}```")
        comment = _COMMENT.fullmatch(lines[start - 2]) if start > 1 else None
        text = textwrap.dedent("\n".join(lines[start:number])) + "\n"
        yield Block(page, start, opening[2], text, *(comment.groups() if comment else ()))
        number += 1


def prose(page: str) -> str:
    """Return a page without its fenced blocks and comments."""
    text = re.sub(r"^( *)```.*?^\1```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.sub(r"<!--.*?-->", "", text, flags=re.S)


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without the table's head."""
    section = re.split(r"^#+ ", prose(page), flags=re.M)
    (text,) = (part for part in section if part.partition("\n")[0] == heading)
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


def code(cell: str) -> str:
    return cell.strip("`")


# --- examples run ----------------------------------------------------------------------------------------

ADDRESS = "127.0.0.1:8080"
KILL = "pkill -9 -f runworkflows"


class Place:
    """Where the examples of a page are run: the example project, or a new site in a directory of its own."""

    def __init__(self, where: str, directory: Path) -> None:
        self.directory = ROOT if where == "example" else directory
        self.environment = {
            "DATABASE_VENDOR": "sqlite",
            "DATABASE_NAME": str(directory / "example.sqlite3"),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self._where = where
        self._server: servers.Server | None = None

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def check(self) -> None:
        """Let the site check itself, with the settings that the tutorial gives when the page gives none."""
        settings = self.directory / "mysite" / "settings.py"
        if settings.exists() and "DJANGO_WORKFLOWS" not in settings.read_text():
            self._as_in_the_tutorial("mysite/settings.py")
            with settings.open("a") as file:
                file.write('DJANGO_WORKFLOWS["WORKFLOWS"] = {}\n')
        self._output([sys.executable, "manage.py", "check", "--fail-level=ERROR"])

    def do(self, block: Block) -> None:
        getattr(self, f"_{block.verb}")(block)

    def _write(self, block: Block, mode: str = "w") -> None:
        if not (self.directory / "manage.py").exists():
            # The page speaks of a site that is there, with what the tutorial changes but for its settings.
            self._output(["django-admin", "startproject", "mysite", "."])
            (self.directory / "shop").mkdir()
            (self.directory / "shop" / "__init__.py").touch()
            self._as_in_the_tutorial("mysite/asgi.py")
        path = self.directory / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(block.text)

    def _as_in_the_tutorial(self, file: str) -> None:
        (block,) = (block for block in blocks("docs/tutorial.md") if block.file == file)
        self.do(block)

    def _append(self, block: Block) -> None:
        self._write(block, "a")

    def _run(self, block: Block) -> None:
        for command, expected in sessions(block):
            found = self._output(["bash", "-c", self._here(command)])
            assert matches(expected, found), f"{block}\n$ {command}\n{found}\n--- expected ---\n{expected}"

    def _python(self, block: Block) -> None:
        self._output([sys.executable, "-c", self._here(block.text)])

    def _serve(self, block: Block) -> None:
        ((_, expected),) = sessions(block)
        # By itself in "make run", and in the same line elsewhere.
        self._output([sys.executable, "manage.py", "migrate", "--verbosity=0"])
        if self._server is None:
            manage = str(self.directory / "manage.py")
            self._server = servers.Server(
                [sys.executable, manage, "runworkflows", "--port", "{port}"],
                prefix="/workflows",
                environment=self.environment,
                name="runworkflows",
            )
        server, before = self._server, len(self._server.output)
        server.start()

        def is_said() -> bool:
            return matches(
                f"…\n{expected}…\n", server.output[before:].replace(f"127.0.0.1:{server.port}", ADDRESS)
            )

        servers.wait_for(is_said, what=f"{block}, expected output:\n{expected}")

    def _crash(self, block: Block) -> None:
        assert self._server is not None
        self._run(block)
        assert self._server.wait_for_exit() == -signal.SIGKILL, f"{block} did not kill the server"

    def _here(self, text: str) -> str:
        text = text.replace(".venv/bin/python", sys.executable)
        if self._server is None:
            return text
        return text.replace(ADDRESS, f"127.0.0.1:{self._server.port}").replace(
            KILL, f"kill -9 {self._server.pid if self._server.is_running else ''}"
        )

    def _output(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"} | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        # 28: the time was up that curl was given with -m.
        assert done.returncode in (0, 28), f"{command[-1]}\nended with {done.returncode}\n{done.stdout}"
        port = "" if self._server is None else f":{self._server.port}"
        return done.stdout.replace(f"127.0.0.1{port}", ADDRESS)


def sessions(block: Block) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block, each with the output that it shall give."""
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command = re.match(r"(?:.*\\\n)*.*\n", part)
        assert command is not None
        yield command[0].strip(), part[command.end() :]


_VARIABLE = [
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d+(?:\+00:00)?"), "<time>"),
    (re.compile(r"\b[0-9A-Za-z]{22}\b"), "<id>"),
]


def matches(expected: str, found: str) -> bool:
    """Tell whether an output is what a page says, apart from what differs each time."""
    for pattern, name in _VARIABLE:
        expected, found = pattern.sub(name, expected), pattern.sub(name, found)
    pattern = ""
    for line in expected.rstrip("\n").splitlines():
        pattern += r"(?:.*\n)*?" if line == "…" else re.escape(line.rstrip()).replace("…", ".*") + r"[ ]*\n"
    return re.fullmatch(pattern + r"\n*", found.rstrip("\n") + "\n" if found.strip() else "") is not None


RUNNABLE = sorted({(page, block.where) for page in NAMES for block in blocks(page) if block.where})


@pytest.mark.parametrize(("page", "where"), RUNNABLE)
def test_the_examples_run(page: str, where: str, tmp_path: Path) -> None:
    require("curl")
    place = Place(where, tmp_path)
    try:
        for block in blocks(page):
            if block.where == where:
                place.do(block)
        place.check()
    finally:
        place.close()


def test_pages_have_examples_that_run() -> None:
    assert {("README.md", "example"), ("README.md", "site"), ("docs/tutorial.md", "site")} <= set(RUNNABLE)


@pytest.mark.parametrize("page", NAMES)
def test_python_is_python(page: str) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", NAMES)
def test_python_imports_what_there_is(page: str) -> None:
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("django_workflows", "workflows")
            ):
                module = importlib.import_module(node.module or "")
                for name in node.names:
                    assert hasattr(module, name.name), f"{block}: {node.module}.{name.name}"


# --- reference pages are complete ------------------------------------------------------------------------


def _words(schema: dict[str, Any]) -> str:
    """Return the type of a setting, from its JSON schema, in the words of the settings page."""
    if "anyOf" in schema:
        return " or ".join(_words(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f'`"{value}"`' for value in schema["enum"])
    if schema.get("format") == "duration":
        return "length of time"
    plain = {"null": "`None`", "object": "dictionary", "boolean": "`True` or `False`", "string": "text"}
    if schema["type"] == "array":
        return f"list of {_words(schema['items'])}"
    # The bounds are those of all numbers of a kind, and have a sentence below the table.
    return plain.get(schema["type"], schema["type"])


def test_the_settings_page_lists_every_setting() -> None:
    listed = {code(row[0]): (row[1], code(row[2])) for row in rows("docs/settings.md", "Keys")}
    schema = conf.Settings.model_json_schema()["properties"]
    defaults = {name: repr(field.default) for name, field in conf.Settings.model_fields.items()}
    actual = {
        name: (_words(schema[name]), re.sub(r"^\((.*?),?\)$", r"[\1]", default))
        for name, default in defaults.items()
    }
    assert listed == actual


@pytest.mark.parametrize("page", NAMES)
def test_settings_that_are_mentioned_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"""DJANGO_WORKFLOWS\[["'](\w+)["']\]""", text):
        assert name in conf.Settings.model_fields, f"{page}: DJANGO_WORKFLOWS[{name!r}]"


def _endpoints() -> set[str]:
    found = set()
    for pattern in urls.urlpatterns:
        path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        view = pattern.callback.cls
        found |= {f"{method.upper()} {path}" for method in ("get", "post", "delete") if hasattr(view, method)}
    return found


def test_the_http_page_describes_every_endpoint() -> None:
    headings = re.findall(r"^### (.+)$", prose("docs/http.md"), flags=re.M)
    described = [code(part) for heading in headings for part in heading.split(" and ") if part.startswith("`")]
    assert sorted(described) == sorted(_endpoints())


def _options(command: str) -> set[str]:
    return _options_of(load_command_class(get_commands()[command], command))


def _options_of(command: BaseCommand) -> set[str]:
    parser = command.create_parser("manage.py", "")
    return {option for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize("page", NAMES)
def test_management_commands_and_their_options_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for command, rest in re.findall(r"(?:manage\.py|django-admin) ([a-z]\w+)([^\n`|;]*)", text):
        assert command in get_commands(), f"{page}: manage.py {command}"
        for option in re.findall(r"(?<!\S)--[\w-]+", rest):
            assert option in _options(command), f"{page}: manage.py {command} {option}"


def test_every_option_of_runworkflows_is_described() -> None:
    described = {code(row[0]).split()[0] for row in rows("docs/deployment.md", "runworkflows")}
    assert described == _options("runworkflows") - _options_of(BaseCommand())


@pytest.mark.parametrize("page", NAMES)
def test_make_has_the_targets_that_are_named(page: str) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = re.findall(r"(?:^\$ |`)make (\w+)", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)
    assert set(named) <= targets


def test_the_operations_page_lists_every_logger() -> None:
    listed = {code(row[0]) for row in rows("docs/operations.md", "Logs")}
    for module in ("lifecycle", "management.commands.runworkflows", "management.commands.purgeworkflows"):
        importlib.import_module(f"django_workflows.{module}")
    loaded = [module for name, module in sys.modules.items() if name.startswith("django_workflows")]
    assert listed == {module.logger.name for module in loaded if hasattr(module, "logger")}


def test_the_settings_page_lists_every_system_check() -> None:
    listed = {code(row[0]) for row in rows("docs/settings.md", "System checks")}
    source = (ROOT / "django_workflows" / "checks.py").read_text()
    table = re.findall(r"^([EW]\d{3})  ", source, flags=re.M)
    assert listed == {f"django_workflows.{id}" for id in table}


def test_the_departures_are_those_that_are_tested() -> None:
    listed = [tuple(row) for row in rows("docs/departures.md", "Requests that are answered otherwise")]
    assert listed == [(d.name, str(d.reference), str(d.ours), d.reason) for d in departures.DEPARTURES]
    listed = [tuple(row) for row in rows("docs/departures.md", "Other differences")]
    assert listed == [(d.name.replace("_", " "), d.reference, d.reason) for d in departures.DIFFERENCES]


@pytest.mark.parametrize("page", ["docs/guarantees.md", "docs/security.md"])
def test_what_is_promised_names_tests_that_exist(page: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", prose(page))
    assert named
    for path, name in named:
        assert re.search(rf"def {name}\b", (ROOT / path).read_text()), f"{path}::{name}"


# --- links and names -------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(str(page.relative_to(ROOT))), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), f"{page}: {target}"
        assert not anchor or anchor in _anchors(found.resolve()), f"{page}: {target}"


def test_the_navigation_has_every_page() -> None:
    listed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", NAMES)
def test_nobody_is_told_to_install_another_project(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for package in re.findall(r"pip install (?:-\S+ )*[\"']?([\w-]+)", text):
        assert package in {"django-workflow-server", "uvicorn", "granian", "channels-redis"}, f"{page}: {package}"


def test_each_point_of_the_security_review_names_a_test() -> None:
    review = prose("docs/security.md").partition("## The review")[2]
    points = re.split(r"^### ", review, flags=re.M)[1:]
    assert len(points) > 5
    assert all("*Tests.* `tests/" in point for point in points)


def test_the_security_page_lists_every_action() -> None:
    listed = {
        code(row[0]): set(re.findall(r"`(\w+)`", row[2])) for row in rows("docs/security.md", "Who may do what")
    }
    assert listed == {action: set(needed) for action, needed in MODEL_PERMISSIONS.items()}
    assert tuple(listed) == ACTIONS
