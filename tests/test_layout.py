"""The drawing of a workflow's graph: nothing overlaps, lines keep clear, and the same graph looks the same."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from django_workflows.layout import Layout, Size, layout


def sizes(*ids: str) -> tuple[Size, ...]:
    return tuple(Size(one, 100, 40) for one in ids)


def edges(*pairs: str) -> tuple[tuple[str, str], ...]:
    return tuple((pair[0], pair[1]) for pair in pairs)


def random_graph(count: int, seed: int) -> tuple[tuple[Size, ...], tuple[tuple[str, str], ...]]:
    chance = random.Random(seed)
    ids = [f"n{number}" for number in range(count)]
    nodes = tuple(Size(one, chance.randrange(60, 220), chance.randrange(30, 60)) for one in ids)
    pairs = [(chance.choice(ids), chance.choice(ids)) for _ in range(int(count * chance.uniform(0.5, 1.8)))]
    return nodes, tuple(pairs)


def assert_sound(nodes: tuple[Size, ...], found: Layout) -> None:
    assert found.nodes.keys() == {node.id for node in nodes}
    for (a, one), (b, other) in combinations(found.nodes.items(), 2):
        beside = one.x + one.width <= other.x or other.x + other.width <= one.x
        assert beside or one.y + one.height <= other.y or other.y + other.height <= one.y, f"{a} and {b} overlap"
    for name, box in found.nodes.items():
        assert box.x >= -0.01, name
        assert box.y >= -0.01, name
        assert box.x + box.width <= found.width + 0.01, name
        assert box.y + box.height <= found.height + 0.01, name
    for edge in found.edges:
        source, target = found.nodes[edge.source], found.nodes[edge.target]
        if edge.kind == "down":
            assert source.y + source.height < target.y
        if edge.kind == "back":
            assert edge.lane is not None
            assert 0 < edge.lane <= found.width + 0.01


@pytest.mark.parametrize("count", range(1, 61))
def test_graphs_with_cycles_loops_and_parts_are_laid_out_without_overlaps(count: int) -> None:
    nodes, pairs = random_graph(count, count)
    assert_sound(nodes, layout(nodes, pairs))


def test_no_nodes_make_no_picture_and_no_error() -> None:
    assert layout((), ()) == Layout({}, [], 0, 0, 0)


def test_the_same_graph_gets_the_same_picture_in_whatever_order_its_edges_come() -> None:
    nodes, pairs = random_graph(25, 4)
    assert layout(nodes, pairs).nodes == layout(nodes, pairs[::-1]).nodes


def test_a_chain_is_straight_and_goes_down() -> None:
    found = layout(sizes(*"abc"), edges("ab", "bc"))
    assert len({box.x for box in found.nodes.values()}) == 1
    assert found.nodes["a"].y < found.nodes["b"].y < found.nodes["c"].y
    assert [edge.kind for edge in found.edges] == ["down", "down"]


def test_what_can_be_untangled_is_and_k33_keeps_its_nine_crossings() -> None:
    assert layout(sizes(*"rabcxyz"), edges("ra", "rb", "rc", "az", "by", "cx")).crossings == 0
    complete = edges("ax", "ay", "az", "bx", "by", "bz", "cx", "cy", "cz")
    assert layout(sizes(*"abcxyz"), complete).crossings == 9


def test_random_graphs_are_drawn_with_few_crossings() -> None:
    assert sum(layout(*random_graph(count, count)).crossings for count in range(5, 61)) <= 1000


def test_a_long_edge_keeps_clear_of_what_it_passes() -> None:
    found = layout(sizes(*"abcd"), edges("ab", "bc", "cd", "ad"))
    long = next(edge for edge in found.edges if (edge.source, edge.target) == ("a", "d"))
    assert len(long.via) == 4
    for name in "bc":
        box = found.nodes[name]
        assert all(x < box.x or x > box.x + box.width for x, _ in long.via)


def test_the_edge_that_closes_a_cycle_is_drawn_round_beside_what_it_passes() -> None:
    found = layout(sizes(*"abc"), edges("ab", "bc", "ca"))
    back = next(edge for edge in found.edges if edge.kind == "back")
    assert (back.source, back.target) == ("c", "a")
    assert all((back.lane or 0) > box.x + box.width for box in found.nodes.values())


def test_two_edges_back_do_not_share_a_line() -> None:
    found = layout(sizes(*"abcd"), edges("ab", "bc", "cd", "ca", "db"))
    one, other = [edge.lane or 0 for edge in found.edges if edge.kind == "back"]
    assert abs(one - other) >= 10


def test_a_node_may_lead_to_itself_repeated_edges_are_one_and_edges_to_nowhere_none() -> None:
    found = layout(sizes("a", "b"), edges("aa", "ab", "ab", "a?"))
    assert sorted(edge.kind for edge in found.edges) == ["down", "loop"]


def test_a_source_that_is_needed_late_stands_just_above_the_first_that_needs_it() -> None:
    pairs = (("start", "b"), ("b", "c"), ("c", "end"), ("answer", "end"))
    found = layout(sizes("start", "b", "c", "answer", "end"), pairs)
    assert found.nodes["answer"].layer == found.nodes["end"].layer - 1
