"""Where the nodes of a workflow's graph go: layers from top to bottom, as in Sugiyama, Tagawa and Toda (1981).

Pure and deterministic: the same graph always gets the same picture, whatever the order of its edges.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

SWEEPS = 16
# Pixels between layers, between the nodes of a layer, between lines that lead back, between parts.
LAYER, NODE, LANE, PART = 36, 28, 18, 56
# A node with a label: its height, and the letters that are shown of it.
HEIGHT, LETTERS = 38, 32
# Room beside a node for the line that comes back into it.
LOOP = 60


class Size(NamedTuple):
    """A node as it is given, in pixels."""

    id: str
    width: float
    height: float


@dataclass(frozen=True)
class Box:
    """A node as it is placed; x and y are its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    layer: int


@dataclass(frozen=True)
class Edge:
    """An edge as it is drawn.

    Attributes:
        kind: "down", "back" (round the others, along x = ``lane``) or "loop".
        via: the points that a long edge passes.
        lane: of an edge that leads back.
        under: it leaves below its source, since others stand beside that.
        over: it enters above its target, for the same reason.
    """

    source: str
    target: str
    kind: Literal["down", "back", "loop"]
    via: tuple[tuple[float, float], ...] = ()
    lane: float | None = None
    under: bool = False
    over: bool = False


@dataclass(frozen=True)
class Layout:
    nodes: dict[str, Box]
    edges: list[Edge]
    width: float
    height: float
    crossings: int


def width_of(label: str) -> float:
    """Return the width of a node with a label, without measuring a font: some room is left."""
    return max(88, round(min(len(label), LETTERS) * 7.3) + 40)


@lru_cache(maxsize=128)
def layout(nodes: tuple[Size, ...], edges: tuple[tuple[str, str], ...]) -> Layout:
    """Lay a directed graph out; edges of unknown nodes, and repeated ones, are left out."""
    known = {node.id: node for node in nodes}
    proper = [pair for pair in dict.fromkeys(edges) if pair[0] in known and pair[1] in known]
    parts = []
    for ids in _components(list(known), proper):
        inside = set(ids)
        parts.append(_part([known[one] for one in ids], [pair for pair in proper if pair[0] in inside]))
    return _side_by_side(parts)


# --- what belongs together ---------------------------------------------------------------------------


def _components(ids: list[str], edges: list[tuple[str, str]]) -> Iterator[list[str]]:
    near = defaultdict(set)
    for source, target in edges:
        near[source].add(target)
        near[target].add(source)
    left = set(ids)
    for start in ids:
        if start not in left:
            continue
        members, open_ = {start}, [start]
        while open_:
            fresh = near[open_.pop()] - members
            members |= fresh
            open_ += fresh
        left -= members
        # In the order of the input, so that the order of the edges does not matter.
        yield [one for one in ids if one in members]


def _side_by_side(parts: list[Layout]) -> Layout:
    nodes: dict[str, Box] = {}
    edges: list[Edge] = []
    width = height = 0.0
    for part in parts:
        shift = width + PART if width else 0
        nodes |= {one: replace(box, x=box.x + shift) for one, box in part.nodes.items()}
        for edge in part.edges:
            via = tuple((x + shift, y) for x, y in edge.via)
            edges.append(replace(edge, via=via, lane=None if edge.lane is None else edge.lane + shift))
        width, height = shift + part.width, max(height, part.height)
    return Layout(nodes, edges, width, height, sum(part.crossings for part in parts))


# --- one connected part ------------------------------------------------------------------------------


@dataclass(eq=False)
class _Point:
    """A node, or what a long edge has in a layer that it passes (``id`` is None)."""

    id: str | None
    width: float
    height: float
    layer: int = 0
    up: list[_Point] = field(default_factory=list)
    down: list[_Point] = field(default_factory=list)
    x: float = 0
    order: int = 0


_Layers = list[list[_Point]]


def _part(nodes: list[Size], edges: list[tuple[str, str]]) -> Layout:
    loops = {source for source, target in edges if source == target}
    straight = [pair for pair in edges if pair[0] != pair[1]]
    back = _back_edges([node.id for node in nodes], straight)
    points = {one: _Point(one, width + LOOP * (one in loops), height) for one, width, height in nodes}
    down = [pair for pair in straight if pair not in back]
    _assign_layers(list(points.values()), [(points[source], points[target]) for source, target in down])
    layers, chains = _with_passing(points, down)
    crossings = _reduce_crossings(layers)
    _place_across(layers)
    left = min(point.x - point.width / 2 for layer in layers for point in layer)
    for point in (point for layer in layers for point in layer):
        point.x -= left
    rows = _rows(layers)

    placed = {}
    for one, width, height in nodes:
        point = points[one]
        top, room = rows[point.layer]
        placed[one] = Box(point.x - width / 2, top + (room - height) / 2, width, height, point.layer)
    lanes = _lanes(back, layers, placed)
    drawn = []
    for pair in straight:
        if pair in back:
            drawn.append(lanes[pair])
            continue
        passed = [(point.x, rows[point.layer]) for point in chains[pair]]
        via = tuple(place for x, (top, room) in passed for place in ((x, top), (x, top + room)))
        drawn.append(Edge(*pair, "down", via))
    drawn += [Edge(one, one, "loop") for one in points if one in loops]
    rights = [point.x + point.width / 2 for layer in layers for point in layer]
    width = max([*rights, *(edge.lane or 0 for edge in lanes.values())])
    return Layout(placed, drawn, width, sum(rows[-1]), crossings)


def _back_edges(ids: list[str], edges: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the edges that close a cycle when the graph is walked depth first, from its sources."""
    # In the order of the nodes, so that the order of the edges does not matter.
    place = {one: number for number, one in enumerate(ids)}
    following = defaultdict(list)
    for source, target in sorted(edges, key=lambda pair: place[pair[1]]):
        following[source].append(target)
    targets = {target for _, target in edges}
    back, closed = set(), set()
    for root in [*(one for one in ids if one not in targets), *ids]:
        path = {} if root in closed else {root: iter(following[root])}
        while path:
            name, rest = next(reversed(path.items()))
            onward = next(rest, None)
            if onward is None:
                closed.add(name)
                del path[name]
            elif onward in path:
                back.add((name, onward))
            elif onward not in closed:
                path[onward] = iter(following[onward])
    return back


def _assign_layers(points: list[_Point], pairs: list[tuple[_Point, _Point]]) -> None:
    """Put each point one layer below the lowest of those that lead to it."""
    below: dict[_Point, list[_Point]] = {point: [] for point in points}
    missing = dict.fromkeys(points, 0)
    for upper, lower in pairs:
        below[upper].append(lower)
        missing[lower] += 1
    sources = [point for point in points if not missing[point]]
    ready = list(sources)
    for point in ready:
        for lower in below[point]:
            lower.layer = max(lower.layer, point.layer + 1)
            missing[lower] -= 1
            if not missing[lower]:
                ready.append(lower)
    # A source that is needed late stands just above the first that needs it.
    for point in sources:
        if below[point]:
            point.layer = min(lower.layer for lower in below[point]) - 1
    lowest = min(point.layer for point in points)
    for point in points:
        point.layer -= lowest


def _with_passing(
    points: dict[str, _Point], edges: list[tuple[str, str]]
) -> tuple[_Layers, dict[tuple[str, str], list[_Point]]]:
    """Return the layers, with a point wherever an edge passes one, and those points of each edge."""
    layers: _Layers = [[] for _ in range(max(point.layer for point in points.values()) + 1)]
    for point in points.values():
        layers[point.layer].append(point)
    order = {one: number for number, one in enumerate(points)}
    chains = {}
    for pair in sorted(edges, key=lambda pair: (order[pair[0]], order[pair[1]])):
        source, target = points[pair[0]], points[pair[1]]
        chain = [_Point(None, 12, 0, layer) for layer in range(source.layer + 1, target.layer)]
        for point in chain:
            layers[point.layer].append(point)
        for upper, lower in pairwise([source, *chain, target]):
            upper.down.append(lower)
            lower.up.append(upper)
        chains[pair] = chain
    return layers, chains


# --- the order within the layers ---------------------------------------------------------------------


def _reduce_crossings(layers: _Layers) -> int:
    for layer in layers:
        _renumber(layer)
    best, orders = _crossings(layers), [list(layer) for layer in layers]
    for sweep in range(SWEEPS):
        if not best:
            break
        downwards = sweep % 2 == 0
        for layer in layers[1:] if downwards else layers[-2::-1]:
            _sort_by_neighbours(layer, downwards, reverse_ties=sweep % 4 > 1)
        for layer in layers:
            _swap_neighbours(layer)
        count = _crossings(layers)
        if count < best:
            best, orders = count, [list(layer) for layer in layers]
    for layer, order in zip(layers, orders, strict=True):
        layer[:] = order
        _renumber(layer)
    return best


def _renumber(layer: list[_Point]) -> None:
    for number, point in enumerate(layer):
        point.order = number


def _sort_by_neighbours(layer: list[_Point], downwards: bool, reverse_ties: bool) -> None:
    def weight(point: _Point) -> tuple[float, int]:
        near = point.up if downwards else point.down
        mean = sum(other.order for other in near) / len(near) if near else point.order
        return mean, -point.order if reverse_ties else point.order

    layer.sort(key=weight)
    _renumber(layer)


def _swap_neighbours(layer: list[_Point]) -> None:
    def inverted(one: Iterable[_Point], other: list[_Point]) -> int:
        return sum(a.order > b.order for a in one for b in other)

    for index in range(len(layer) - 1):
        left, right = layer[index : index + 2]
        now = inverted(left.up, right.up) + inverted(left.down, right.down)
        then = inverted(right.up, left.up) + inverted(right.down, left.down)
        if then < now:
            layer[index : index + 2] = right, left
            left.order, right.order = right.order, left.order


def _crossings(layers: _Layers) -> int:
    """Count the pairs of lines between two layers that cross."""
    count = 0
    for layer in layers:
        ends: list[int] = []
        for point in layer:
            below = sorted(other.order for other in point.down)
            count += sum(len(ends) - bisect_right(ends, order) for order in below)
            for order in below:
                insort(ends, order)
    return count


# --- coordinates -------------------------------------------------------------------------------------


def _place_across(layers: _Layers) -> None:
    widest = max(layers, key=len)
    at = layers.index(widest)
    for layer in layers:
        _align(layer, [[] for _ in layer])
    for sweep in range(12):
        for layer in layers[at + 1 :]:
            _align(layer, [point.up + (point.down if sweep > 7 else []) for point in layer])
        for layer in reversed(layers[:at]):
            _align(layer, [point.down + (point.up if sweep > 7 else []) for point in layer])
        if sweep > 1:
            _align(widest, [point.up + point.down for point in widest])


def _align(layer: list[_Point], neighbours: Sequence[list[_Point]]) -> None:
    """Move each point of a layer as near to the mean of its neighbours as the order and the gaps allow.

    The least squares under an order, by pooling adjacent violators: exact, and linear in the points.
    """
    offset = 0.0
    blocks: list[tuple[float, float, list[tuple[_Point, float]]]] = []
    for index, (point, near) in enumerate(zip(layer, neighbours, strict=True)):
        if index:
            offset += layer[index - 1].width / 2 + NODE + point.width / 2
        # Long edges are kept straight first.
        weights = [8 if other.id is None and point.id is None else 1 for other in near]
        total = sum(weights)
        mean = sum(other.x * one for other, one in zip(near, weights, strict=True)) / total if total else point.x
        weight, wish, members = total or 0.1, mean - offset, [(point, offset)]
        while blocks and blocks[-1][1] > wish:
            its_weight, its_wish, before = blocks.pop()
            wish = (its_wish * its_weight + wish * weight) / (its_weight + weight)
            weight, members = its_weight + weight, before + members
        blocks.append((weight, wish, members))
    for _, wish, members in blocks:
        for point, shift in members:
            point.x = wish + shift


def _rows(layers: _Layers) -> list[tuple[float, float]]:
    """Return the top and the height of each layer."""
    rows, top = [], 0.0
    for layer in layers:
        height = max(point.height for point in layer)
        rows.append((top, height))
        top += height + LAYER
    return rows


def _lanes(
    back: Iterable[tuple[str, str]], layers: _Layers, placed: dict[str, Box]
) -> dict[tuple[str, str], Edge]:
    """Give each edge that goes back up a line of its own, beside all that it passes; short ones are inside."""

    def reach(pair: tuple[str, str]) -> tuple[int, int]:
        return placed[pair[1]].layer, placed[pair[0]].layer

    found: dict[tuple[str, str], Edge] = {}
    taken: list[tuple[int, int, float]] = []
    for pair in sorted(back, key=lambda pair: (reach(pair)[1] - reach(pair)[0], pair)):
        top, bottom = reach(pair)
        lane = LANE + max(point.x + point.width / 2 for layer in layers[top : bottom + 1] for point in layer)
        while any(
            its_top <= bottom and top <= its_bottom and abs(its_lane - lane) < LANE * 0.75
            for its_top, its_bottom, its_lane in taken
        ):
            lane += LANE
        taken.append((top, bottom, lane))
        under, over = layers[bottom][-1].id != pair[0], layers[top][-1].id != pair[1]
        found[pair] = Edge(*pair, "back", (), lane, under, over)
    return found
