"""The same requests to the reference and to us: a client cannot tell the answers apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.servers import ROOT
from tests.wire.cases import CASES, Case
from tests.wire.scenarios import SCENARIOS, Scenario
from tests.wire.transcript import Site
from tests.wire.workflows import SERVED


def make(case: Case, site: Site) -> None:
    """Make a case's request, and those that look at what came of it."""
    handler = ""
    if case.given is not None:
        workflow, start_event = case.given
        handler = site.start_waiting(workflow, start_event)

    def path_of(template: str) -> str:
        return template.replace("{handler}", handler)

    answer = site.request(case.method, path_of(case.path), free_detail=case.free_detail, **case.arguments)
    if case.ends:
        assert answer.status == 200, answer
        site.wait_for_end(handler)
    for path in case.then:
        site.get(path_of(path))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case: Case, reference: Site, ours: Site) -> None:
    make(case, reference)
    make(case, ours)
    assert ours.transcript == reference.transcript


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.__name__ for scenario in SCENARIOS])
def test_scenario(scenario: Scenario, reference: Site, ours: Site) -> None:
    scenario(reference)
    scenario(ours)
    assert ours.transcript == reference.transcript


@pytest.mark.parametrize("name", SERVED)
def test_representation(name: str, reference: Site, ours: Site) -> None:
    theirs = reference.get(f"/workflows/{name}/representation").json()
    answer = ours.get(f"/workflows/{name}/representation")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert str(ROOT) not in answer.text
    assert _without_sources(answer.json()) == _without_sources(theirs)


def _without_sources(graph: dict[str, Any]) -> dict[str, Any]:
    """Leave out where a resource's function is written; the reference derives the node's id from it."""
    text = json.dumps(graph)
    for node in graph["graph"]["nodes"]:
        if node["node_type"] == "resource":
            text = text.replace(json.dumps(node["id"]), '"<resource>"')
    result: dict[str, Any] = json.loads(text)
    for node in result["graph"]["nodes"]:
        node.pop("source_file", None)
    return result
