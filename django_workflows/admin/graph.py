"""A workflow's graph as a drawing from top to bottom: steps and the events between them.

Nodes stand and lines lead as in the debugger; only what a node looks like is the admin's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workflows.events import InputRequiredEvent
from workflows.representation import get_workflow_representation

from django_workflows import layout, routes
from django_workflows.admin import questions

# Units of the drawing, about a pixel.
HEIGHT, LETTER, PADDING, MARGIN = 28, 7.3, 26, 14


@dataclass(frozen=True)
class Node:
    """A box of the drawing; ``kind`` is step, start, stop, event, asks, answer or person."""

    id: str
    label: str
    kind: str
    left: float
    top: float
    width: float
    # How often a step ran, and how it stands: "", done, running or failed.
    count: int = 0
    state: str = ""

    @property
    def x(self) -> float:
        return round(self.left + self.width / 2, 1)

    @property
    def y(self) -> float:
        return self.top + HEIGHT / 2

    @property
    def right(self) -> float:
        return round(self.left + self.width, 1)

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
    # The line of each edge, as the data of an SVG path.
    edges: list[str]

    @property
    def view_box(self) -> str:
        return f"{-MARGIN} {-MARGIN} {self.width} {self.height}"


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
    widths = {name: _width(kind, labels[name], counts.get(name, 0)) for name, kind in kinds.items()}
    found = layout.layout(tuple(layout.Size(name, widths[name], HEIGHT) for name in kinds), tuple(edges))
    nodes = []
    for name, kind in kinds.items():
        left, top = round(found.nodes[name].x, 1), found.nodes[name].y
        count, state = counts.get(name, 0), states.get(name, "")
        nodes.append(Node(name, labels[name], kind, left, top, widths[name], count, state))
    lines = [routes.route(edge, found.nodes).path for edge in found.edges]
    return Graph(round(found.width) + 2 * MARGIN, round(found.height) + 2 * MARGIN, nodes, lines)


def _width(kind: str, label: str, count: int) -> float:
    if kind == "person":
        return 34
    badge = (1 + len(str(count))) * LETTER + 10 if count else 0
    return round(len(label) * LETTER + PADDING + badge, 1)
