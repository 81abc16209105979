"""A workflow's graph as a drawing from top to bottom: steps and the events between them, in layers.

The layers follow Sugiyama's method in its simplest form: loops are cut, each node stands below all that lead to
it, long edges get a point in each layer that they cross, and each layer is ordered by where its neighbours stand.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from workflows.events import InputRequiredEvent
from workflows.representation import get_workflow_representation

from django_workflows.admin import questions

# Units of the drawing, about a pixel.
ROW, HEIGHT, GAP, LETTER, PADDING, MARGIN = 54, 28, 22, 7.3, 26, 14


@dataclass(frozen=True)
class Node:
    """A box of the drawing; ``kind`` is step, start, stop, event, asks, answer or person."""

    id: str
    label: str
    kind: str
    x: float
    y: float
    width: float
    # How often a step ran, and how it stands: "", done, running or failed.
    count: int = 0
    state: str = ""

    @property
    def left(self) -> float:
        return round(self.x - self.width / 2, 1)

    @property
    def top(self) -> float:
        return self.y - HEIGHT / 2

    @property
    def right(self) -> float:
        return round(self.x + self.width / 2, 1)

    @property
    def text_y(self) -> float:
        return self.y + 4

    @property
    def person_head(self) -> float:
        return self.y - 5

    @property
    def person_body(self) -> str:
        return f"M{self.x - 11},{self.y + 13} a11,11 0 0 1 22,0 z"


@dataclass(frozen=True)
class Graph:
    width: float
    height: float
    nodes: list[Node]
    # Each edge as the path that is drawn.
    edges: list[str]


def of(workflow: str, counts: dict[str, int], states: dict[str, str]) -> Graph | None:
    """Return the drawing of a workflow with how a run went through it; None when there is none.

    Args:
        workflow: the name that it is served by.
        counts: how often each step ran.
        states: how each step stands.
    """
    served = questions.served(workflow)
    if served is None:
        return None
    try:
        found = get_workflow_representation(served.workflow)
    except Exception:
        # It asks each event's class for a schema, which not every class can give.
        return None
    kinds = {node.id: _kind(node) for node in found.nodes if node.node_type in ("step", "event", "external")}
    labels = {node.id: "…" if kinds.get(node.id) == "person" else node.label for node in found.nodes}
    answers = {edge.target for edge in found.edges if kinds.get(edge.source) == "person"}
    for name in answers & kinds.keys():
        kinds[name] = "answer"
    edges = [(edge.source, edge.target) for edge in found.edges if edge.source in kinds and edge.target in kinds]
    return _draw(kinds, labels, edges, counts, states)


def _kind(node: Any) -> str:
    if node.node_type == "external":
        return "person"
    if node.node_type == "step":
        return "step"
    for name, kind in (("StartEvent", "start"), ("StopEvent", "stop"), (InputRequiredEvent.__name__, "asks")):
        if name in node.event_types:
            return kind
    return "event"


def _draw(
    kinds: dict[str, str],
    labels: dict[str, str],
    edges: list[tuple[str, str]],
    counts: dict[str, int],
    states: dict[str, str],
) -> Graph:
    forward, backward = _without_loops(kinds, edges)
    layer = _layers(kinds, forward)
    chains = [_chain(source, target, layer) for source, target in forward]
    rows = _ordered(layer, chains)
    widths = {name: _width(name, kinds, labels, counts) for name in layer}
    total = max((sum(widths[one] + GAP for one in row) - GAP for row in rows), default=0)
    # Loops go back up along the right side.
    width = total + 2 * MARGIN + (24 if backward else 0)
    places = {}
    for number, row in enumerate(rows):
        x = MARGIN + (total - sum(widths[one] + GAP for one in row) + GAP) / 2
        for name in row:
            places[name] = (round(x + widths[name] / 2, 1), MARGIN + HEIGHT / 2 + number * ROW)
            x += widths[name] + GAP
    nodes = [
        Node(name, labels[name], kind, *places[name], widths[name], counts.get(name, 0), states.get(name, ""))
        for name, kind in kinds.items()
    ]
    paths = [_path([places[one] for one in chain]) for chain in chains]
    by_name = {node.id: node for node in nodes}
    paths += [_loop(by_name[source], by_name[target], width - MARGIN / 2) for source, target in backward]
    return Graph(round(width), len(rows) * ROW - ROW + HEIGHT + 2 * MARGIN, nodes, paths)


def _without_loops(
    kinds: dict[str, str], edges: list[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Tell the edges that lead on from those that lead back to where a walk from the start has come through."""
    following = defaultdict(list)
    for source, target in edges:
        following[source].append(target)
    order = sorted(kinds, key=lambda name: kinds[name] != "start")
    backward: set[tuple[str, str]] = set()
    done: set[str] = set()
    for root in order:
        path: dict[str, Any] = {}
        stack = [root] if root not in done else []
        while stack:
            name = stack[-1]
            if name not in path:
                path[name] = iter(following[name])
            onward: str | None = next(path[name], None)
            if onward is None:
                done.add(name)
                del path[name]
                stack.pop()
            elif onward in path:
                backward.add((name, onward))
            elif onward not in done:
                stack.append(onward)
    return [edge for edge in edges if edge not in backward], [edge for edge in edges if edge in backward]


def _layers(kinds: dict[str, str], edges: list[tuple[str, str]]) -> dict[str, int]:
    layer = dict.fromkeys(kinds, 0)
    for _ in kinds:
        changed = False
        for source, target in edges:
            if layer[target] <= layer[source]:
                layer[target] = layer[source] + 1
                changed = True
        if not changed:
            break
    return layer


def _chain(source: str, target: str, layer: dict[str, int]) -> list[str]:
    """Return the points of an edge, one in each layer; those that are new are put into ``layer``."""
    between = [f"{source} → {target} {row}" for row in range(layer[source] + 1, layer[target])]
    for point, row in zip(between, range(layer[source] + 1, layer[target]), strict=True):
        layer[point] = row
    return [source, *between, target]


def _ordered(layer: dict[str, int], chains: list[list[str]]) -> list[list[str]]:
    rows: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name, row in layer.items():
        rows[row].append(name)
    above, below = defaultdict(list), defaultdict(list)
    for chain in chains:
        for one, other in pairwise(chain):
            above[other].append(one)
            below[one].append(other)
    for _ in range(4):
        for neighbours, sequence in ((above, rows[1:]), (below, rows[-2::-1])):
            for names in sequence:
                at = {name: (n + 0.5) / len(r) for r in rows for n, name in enumerate(r)}
                names.sort(key=lambda name: _mean([at[o] for o in neighbours[name]], at[name]))
    return rows


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _width(name: str, kinds: dict[str, str], labels: dict[str, str], counts: dict[str, int]) -> float:
    if name not in kinds:
        return 8
    if kinds[name] == "person":
        return 34
    badge = (1 + len(str(counts[name]))) * LETTER + 10 if counts.get(name) else 0
    return round(len(labels[name]) * LETTER + PADDING + badge, 1)


def _path(points: list[tuple[float, float]]) -> str:
    """Return a smooth line down through points; it ends above the last one's box."""
    x, y = points[0]
    parts = [f"M{x},{y + HEIGHT / 2}"]
    previous = y + HEIGHT / 2
    for number, (next_x, next_y) in enumerate(points[1:], 1):
        end = next_y - HEIGHT / 2 - 4 if number == len(points) - 1 else next_y
        half = round((previous + end) / 2, 1)
        parts.append(f"C{x},{half} {next_x},{half} {next_x},{end}")
        x, previous = next_x, end
    return " ".join(parts)


def _loop(source: Node, target: Node, side: float) -> str:
    if source.id == target.id:
        return f"M{source.right},{source.y - 6} h14 v12 h-10"
    return f"M{source.right},{source.y} H{side - 8} Q{side},{source.y} {side},{source.y - 8} V{target.y + 8} " + (
        f"Q{side},{target.y} {side - 8},{target.y} H{target.right + 4}"
    )
