"""A real server, asked by schemathesis what its own document describes, and what it does not allow.

No answer is an error of the server, and each has a status, a media type and a body that the document names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.access.conftest import Site, serving
from tests.access.people import OTHER, OWNER

load_all_checks()
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]

# Their answers wait for a person.
ENDLESS = {"run_ask"}
NAMES = ["echo", "shop", "nowhere"]
ANSWER = {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}}
# Requests that are let in, which chance would rarely make: path and body.
RIGHT: dict[str, Any] = {
    "run_workflow": lambda described: ({"name": "echo"}, {"start_event": {"a": 1}}),
    "run_workflow_nowait": lambda described: ({"name": "ask"}, {"start_event": {"answers": 2}}),
    "send_event": lambda described: ({"handler_id": described.site.start(OWNER, "ask")}, ANSWER),
}


class Described:
    """The server, its document, and handlers to ask about."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.headers = {"Authorization": f"Token {site.tokens[OWNER.name]}"}
        self.schema = schemathesis.openapi.from_url(f"{site.server.url}/openapi.json", headers=self.headers)
        self.schema.config.update(base_url=site.server.url)
        self.ended = [site.start(OWNER, "echo", start_event={"a": [1, "é"]}) for _ in range(3)]
        self.waiting = [site.start(OWNER, "ask") for _ in range(10)]
        self.theirs = site.start(OTHER, "ask")

    def operations(self) -> dict[str, Any]:
        found = {}
        for result in self.schema.get_all_operations():
            operation = result.ok()
            found[operation.definition.raw["operationId"]] = operation
        return found

    def handlers(self, operation_id: str) -> list[str]:
        """Return ids that an operation may be asked about; a stream of a run under way would not end."""
        if operation_id == "stream_events":
            return [*self.ended, self.theirs]
        return [*self.ended, *self.waiting, self.theirs]


@pytest.fixture(scope="module")
def described() -> Iterator[Described]:
    with serving(MAX_JSON_DEPTH=50) as site:
        yield Described(site)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_every_answer_is_described(described: Described, session: requests.Session, mode: GenerationMode) -> None:
    seen: dict[str, set[int]] = {}
    for operation_id, operation in described.operations().items():
        if operation_id in ENDLESS:
            continue
        if mode == GenerationMode.NEGATIVE and not _can_be_wrong(operation):
            continue
        seen[operation_id] = _ask(described, session, operation_id, operation, mode)
    if mode == GenerationMode.POSITIVE:
        # What is asked is not refused throughout.
        refused = {name for name, statuses in seen.items() if not statuses & {200, 202, 204}}
        # An ordinary request is told that it is a WebSocket's place.
        refused -= {name for name in refused if seen[name] == {426}}
        assert not refused, seen


def _can_be_wrong(operation: Any) -> bool:
    return bool(operation.body or operation.query or operation.path_parameters)


def _ask(
    described: Described, session: requests.Session, operation_id: str, operation: Any, mode: GenerationMode
) -> set[int]:
    statuses: set[int] = set()

    @settings(
        max_examples=15,
        deadline=None,
        # The same in every run; a failure needs no smaller one to be understood.
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def ask(case: Any, data: Any) -> None:
        if "handler_id" in (case.path_parameters or {}) and data.draw(st.integers(0, 3)):
            case.path_parameters["handler_id"] = data.draw(st.sampled_from(described.handlers(operation_id)))
        if "name" in (case.path_parameters or {}) and data.draw(st.integers(0, 3)):
            case.path_parameters["name"] = data.draw(st.sampled_from(NAMES))
        if operation_id in RIGHT and data.draw(st.booleans()):
            case.path_parameters, case.body = RIGHT[operation_id](described)
        response = case.call(session=session, headers=described.headers, timeout=20)
        statuses.add(response.status_code)
        if response.status_code >= 500:
            # A run that failed or was cancelled is answered so, as by the reference; and nothing else.
            assert response.status_code == 500, response.text
            assert "handler_id" in response.json(), response.text
        checks = CHECKS
        if any(value.startswith("text/event-stream") for value in response.headers.get("content-type", [])):
            # Its schema is that of the whole text, and not, as in OpenAPI 3.2, that of each event.
            checks = [check for check in CHECKS if check is not response_schema_conformance]
        case.validate_response(response, checks=checks)

    ask()
    return statuses
