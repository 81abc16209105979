"""The lines between the nodes of a graph: they begin and end where they should, and pass through nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import dist

import pytest

from django_workflows.layout import HEIGHT, Box, Edge, Layout, Size, layout
from django_workflows.routes import route
from tests.test_layout import edges, random_graph, sizes

Place = tuple[float, float]


def of_one_height(count: int) -> Layout:
    nodes, pairs = random_graph(count, count)
    return layout(tuple(Size(one, width, HEIGHT) for one, width, _ in nodes), pairs)


def line(found: Layout, pair: str) -> str:
    return next(route(edge, found.nodes).path for edge in found.edges if edge.source + edge.target == pair)


def points(path: str) -> Iterator[Place]:
    """Yield the points of a path, close to one another."""
    here: Place = (0, 0)
    for letter, rest in re.findall(r"([MLC])([^MLC]+)", path):
        numbers = [float(number) for number in rest.split()]
        given = list(zip(numbers[::2], numbers[1::2], strict=True))
        # A straight line is a curve whose handles are its ends.
        one, other, end = given if letter == "C" else (here, given[0], given[0])
        for step in range(1, 21) if letter != "M" else [20]:
            part = step / 20
            weights = ((1 - part) ** 3, 3 * part * (1 - part) ** 2, 3 * part**2 * (1 - part), part**3)
            way = list(zip(weights, (here, one, other, end), strict=True))
            yield sum(weight * x for weight, (x, _) in way), sum(weight * y for weight, (_, y) in way)
        here = end


def inside(box: Box, place: Place, margin: float = 0) -> bool:
    x, y = place
    beside = box.x + margin < x < box.x + box.width - margin
    return beside and box.y + margin < y < box.y + box.height - margin


@pytest.mark.parametrize("count", [*range(1, 12), 25, 40, 60])
def test_a_line_leads_from_its_source_to_its_target_and_through_no_other_box(count: int) -> None:
    found = of_one_height(count)
    for edge in found.edges:
        begin, *way, end = points(route(edge, found.nodes).path)
        source, target = found.nodes[edge.source], found.nodes[edge.target]
        assert inside(source, begin, -0.1)
        assert inside(target, end, -0.1), "at the border, where the arrow is seen"
        assert not inside(target, end, 0.1), "at the border, where the arrow is seen"
        for name in found.nodes.keys() - {edge.source, edge.target}:
            assert not any(inside(found.nodes[name], place, 0.1) for place in way), f"{edge} meets {name}"


@pytest.mark.parametrize("count", [5, 25, 60])
def test_a_label_stands_on_its_line_and_in_the_drawing(count: int) -> None:
    found = of_one_height(count)
    for edge in found.edges:
        path, middle = route(edge, found.nodes)
        assert min(dist(middle, place) for place in points(path)) < 12
        assert 0 <= middle.x <= found.width
        assert 0 <= middle.y <= found.height


def test_lines_are_drawn_in_whole_pixels_and_tenths() -> None:
    found = layout(sizes("a", "b"), edges("ab", "bb"))
    assert line(found, "ab") == "M80 34L80 40L80 76"
    assert line(found, "bb") == "M130 108C162 118 162 74 130 84"


def test_a_way_back_turns_round_corners_beside_what_it_passes() -> None:
    found = layout(sizes(*"abc"), edges("ab", "bc", "ca"))
    assert line(found, "ca") == "M100 172L109 172C118 172 118 172 118 162L118 30C118 20 118 20 109 20L100 20"


def test_a_way_back_leads_under_and_over_those_that_stand_beside_its_nodes() -> None:
    nodes = {"a": Box(0, 0, 100, 40, 0), "b": Box(0, 76, 100, 40, 1)}
    path, _ = route(Edge("b", "a", "back", (), 300, under=True, over=True), nodes)
    heights = [y for _, y in points(path)]
    assert (min(heights), max(heights)) == pytest.approx((-16, 76 + 40 + 16))
    assert path.startswith("M80 ")
    assert path.endswith("L80 0")
