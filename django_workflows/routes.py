"""The lines of a graph's edges between the boxes of its layout, as the data of SVG paths."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import dist
from typing import NamedTuple

from django_workflows.layout import Box, Edge

# Pixels: how far inside its source a line begins, since not every outline reaches down to the end of its box;
# between a box and the line that leads under or over it; the radius of a corner.
INSIDE, APART, CORNER = 6, 16, 10


class Point(NamedTuple):
    x: float
    y: float


class Route(NamedTuple):
    """Where an edge's line leads: its path, which ends at the target's border, and a place for a label."""

    path: str
    middle: Point


def route(edge: Edge, nodes: Mapping[str, Box]) -> Route:
    """Lead the line of an edge of a layout; boxes are to be drawn over the lines."""
    source, target = nodes[edge.source], nodes[edge.target]
    if edge.kind == "loop":
        return _loop(source)
    if edge.lane is not None:
        return _around(source, target, edge.lane, edge.under, edge.over)
    return _downwards(source, target, edge.via)


def _downwards(source: Box, target: Box, via: tuple[tuple[float, float], ...]) -> Route:
    begin = Point(_centre(source).x, source.y + source.height)
    points = [begin, *(Point(*one) for one in via), Point(_centre(target).x, target.y)]
    path = _move(Point(begin.x, begin.y - INSIDE)) + _line(begin)
    for one, other in pairwise(points):
        half = (one.y + other.y) / 2
        straight = abs(one.x - other.x) < 0.5
        path += _line(other) if straight else _curve(Point(one.x, half), Point(other.x, half), other)
    at = (len(points) - 1) // 2
    return Route(path, _between(points[at], points[at + 1]))


def _around(source: Box, target: Box, lane: float, under: bool, over: bool) -> Route:
    """Lead out of the right side, up the lane, and into the right side; or under and over what stands there."""
    begin, end = _right(source), _right(target)
    leaving, entering = begin.y, end.y
    if under:
        begin = Point(source.x + source.width * 0.8, source.y + source.height - INSIDE)
        leaving = source.y + source.height + APART
    if over:
        end = Point(target.x + target.width * 0.8, target.y)
        entering = target.y - APART
    turns = [Point(begin.x, leaving), Point(lane, leaving), Point(lane, entering), Point(end.x, entering)]
    path = _rounded(list(dict.fromkeys([begin, *turns, end])))
    return Route(path, Point(lane, (leaving + entering) / 2))


def _loop(box: Box) -> Route:
    x, y = _right(box)
    reach = min(box.height * 0.3, 12)
    out, back = Point(x + 32, y + reach + 10), Point(x + 32, y - reach - 10)
    path = _move(Point(x, y + reach)) + _curve(out, back, Point(x, y - reach))
    return Route(path, Point(x + 26, y))


# --- points ------------------------------------------------------------------------------------------


def _centre(box: Box) -> Point:
    return Point(box.x + box.width / 2, box.y + box.height / 2)


def _right(box: Box) -> Point:
    return Point(box.x + box.width, box.y + box.height / 2)


def _between(one: Point, other: Point, part: float = 0.5) -> Point:
    return Point(one.x + (other.x - one.x) * part, one.y + (other.y - one.y) * part)


# --- path data ---------------------------------------------------------------------------------------


def _rounded(corners: list[Point]) -> str:
    path = _move(corners[0])
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        path += _line(_towards(corner, before)) + _curve(corner, corner, _towards(corner, after))
    return path + _line(corners[-1])


def _towards(corner: Point, other: Point) -> Point:
    """Return the point at which a line to a corner begins to bend."""
    length = dist(corner, other)
    return _between(corner, other, min(CORNER, length / 2) / length)


def _move(point: Point) -> str:
    return f"M{_numbers(point)}"


def _line(point: Point) -> str:
    return f"L{_numbers(point)}"


def _curve(*points: Point) -> str:
    return f"C{_numbers(*points)}"


def _numbers(*points: Point) -> str:
    return " ".join(f"{number:.1f}".removesuffix(".0") for point in points for number in point)
