"""The dependencies of DESIGN.md, section 4, read from the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import django_workflows

PACKAGE = "django_workflows"
ROOT = Path(django_workflows.__file__).parent

# A module imports only modules that stand before it; those of one line may not import each other.
LAYERS = [
    ["exceptions"],
    ["conf", "idempotency", "threads", "declared"],
    ["registry", "limits", "layout", "compact"],
    ["serialization", "database", "routes"],
    ["querysets"],
    ["models"],
    ["leases"],
    ["journal", "eventlog", "contexts", "mailbox"],
    ["handlers"],
    ["retention"],
    ["notify"],
    ["relay"],
    ["runtime"],
    ["watch", "unattended"],
    ["service"],
    ["stream"],
    ["api"],
    ["gate"],
    ["lifecycle"],
    ["asgi"],
    ["debugger"],
    ["urls", "permissions"],
    ["admin", "checks", "signals", "testing"],
    ["templatetags"],
    ["management"],
    ["apps"],
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# The engine's names that anybody who writes a workflow may use.
ENGINE_PUBLIC = {
    "workflows",
    "workflows.context",
    "workflows.decorators",
    "workflows.errors",
    "workflows.events",
    "workflows.handler",
    "workflows.representation",
    "workflows.resource",
    "workflows.retry_policy",
}
# Who may import more than these.
ENGINE_USERS = {"registry", "serialization", "compact", "runtime"}
# A context that comes with a start is taken apart by the engine's own helpers.
ENGINE_EXCEPTIONS = {
    ("service", "workflows.context.state_store"),
    ("service", "workflows.context.state_store_integration"),
}


@dataclass(frozen=True)
class Source:
    path: Path

    @property
    def module(self) -> str:
        """The dotted name inside the package; empty for the package itself."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def concept(self) -> str:
        return self.module.split(".")[0]

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(), str(self.path))

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT.parent))


SOURCES = [Source(path) for path in sorted(ROOT.rglob("*.py")) if "migrations" not in path.parts]

each_source = pytest.mark.parametrize("source", SOURCES, ids=str)


def imports(tree: ast.AST) -> Iterator[tuple[str, str | None, str]]:
    """Yield (module, name in it, name that it is bound to) of every import that is executed."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from imports(ast.Module([other], []))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, alias.asname or alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                yield node.module or "", alias.name, alias.asname or alias.name
        else:
            yield from imports(node)


def imported_concepts(source: Source) -> set[str]:
    """Return the concepts of this package that a module imports."""
    found = set()
    for module, name, _ in imports(source.tree):
        parts = module.split(".")
        if parts[0] != PACKAGE:
            continue
        if len(parts) > 1:
            found.add(parts[1])
        elif name is not None and name != "__version__":
            found.add(name)
    return found


def is_engine(module: str) -> bool:
    return module.split(".")[0] == "workflows"


@each_source
def test_every_module_has_its_place(source: Source) -> None:
    assert source.concept == "" or source.concept in LAYER, "say in LAYERS, and in DESIGN.md, where it belongs"


@each_source
def test_arrows_only_point_up(source: Source) -> None:
    if source.concept == "":
        assert imported_concepts(source) == set(), "importing the package must import nothing else"
        return
    own = LAYER[source.concept]
    wrong = {
        concept
        for concept in imported_concepts(source) - {source.concept}
        if LAYER.get(concept, len(LAYERS)) >= own
    }
    assert not wrong


@each_source
def test_only_some_know_the_engines_inside(source: Source) -> None:
    if source.concept in ENGINE_USERS:
        return
    for module, name, _ in imports(source.tree):
        if is_engine(module):
            assert module in ENGINE_PUBLIC or (source.module, module) in ENGINE_EXCEPTIONS, module
            assert not (name or "").startswith("_"), f"{module}.{name}"


@each_source
def test_nobody_uses_the_references_server(source: Source) -> None:
    for module, _, _ in imports(source.tree):
        assert not module.startswith("llama_agents.server"), module


def root_name(node: ast.AST) -> str | None:
    """Return the variable that an attribute or item belongs to: ``a`` for ``a.b[0].c``."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def changed_names(tree: ast.AST) -> Iterator[str | None]:
    """Yield the variables whose attributes or items are set or deleted."""
    for node in ast.walk(tree):
        targets: list[ast.AST] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            yield root_name(node.args[0]) if node.func.id in ("setattr", "delattr") else None
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Attribute | ast.Subscript):
                    yield root_name(part)


@each_source
def test_the_engine_is_never_patched(source: Source) -> None:
    foreign = {
        bound
        for module, _, bound in imports(source.tree)
        if is_engine(module) or module.startswith(("llama_agents", "llama_index"))
    }
    assert not foreign & set(changed_names(source.tree))
    assert not any(module.startswith(("unittest", "gevent")) for module, _, _ in imports(source.tree))


@each_source
def test_nothing_is_called_utils(source: Source) -> None:
    assert source.path.stem not in ("utils", "helpers", "common", "misc", "base")


@each_source
def test_http_stays_at_the_edge(source: Source) -> None:
    if LAYER.get(source.concept, LAYER["api"]) >= LAYER["api"]:
        return
    edge = ("rest_framework", "channels.generic", "channels.routing", "daphne", "django.http", "django.views")
    for module, _, _ in imports(source.tree):
        assert not module.startswith(edge), module


# --- that these tests see what they are to see ---------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "from workflows import Workflow\nWorkflow.run = None",
        "from workflows import Workflow as W\nW.run.__doc__ += ''",
        "import workflows.events\nworkflows.events.Event.x = 1",
        "from workflows import Workflow\nsetattr(Workflow, 'run', None)",
        "from workflows import Workflow\ndel Workflow.run",
        "from workflows import events\nevents.__dict__['Event'] = 1",
        "def f():\n    from workflows import Workflow\n    a, Workflow.run = 1, 2",
    ],
)
def test_a_patch_would_be_seen(code: str, tmp_path: Path) -> None:
    tree = ast.parse(code)
    foreign = {bound for _, _, bound in imports(tree)}

    assert foreign & set(changed_names(tree))


def test_imports_are_seen_wherever_they_are() -> None:
    tree = ast.parse(
        "if TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
        "def f():\n    try:\n        from c.d import e as g\n    except ImportError:\n        import h.i\n"
    )

    assert list(imports(tree)) == [("b", None, "b"), ("c.d", "e", "g"), ("h.i", None, "h")]
