"""Starts that bring a serialized context along (ACCEPT_CONTEXT_API), to the reference and to us."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from workflows import Context

from tests import servers
from tests.wire import workflows
from tests.wire.conftest import SITE
from tests.wire.transcript import PATIENCE, Site

ACCEPTING = {"SITE_ACCEPT_CONTEXT_API": "1"}

Contexts = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[Site, Site]]:
    """The reference and ours, which accept contexts."""
    command = [sys.executable, "-m", "tests.wire.reference", "{port}"]
    with (
        servers.Database() as database,
        servers.Server(command, environment=ACCEPTING, name="reference with contexts") as theirs,
        servers.runworkflows(database, site=SITE, environment=ACCEPTING) as ours,
    ):
        pair = Site(theirs.url), Site(ours.url)
        yield pair
        for site in pair:
            site.close()


@pytest.fixture(scope="module")
def contexts() -> Contexts:
    """What clients may have kept of runs that were executed elsewhere."""

    async def make() -> Contexts:
        counter = workflows.Counter()
        counted: Context[Any] = Context(counter)
        await counter.run(ctx=counted, by=41)

        typed = workflows.TypedState()
        collected: Context[Any] = Context(typed)
        await typed.run(ctx=collected, name="Ada")

        asking = workflows.Ask().run()
        async with asyncio.timeout(PATIENCE):
            async for event in asking.stream_events(expose_internal=True):
                if type(event).__name__ == "WorkflowIdleEvent":
                    break
        assert asking.ctx is not None
        asked = asking.ctx.to_dict()
        await asking.cancel_run()
        await asyncio.gather(asking, return_exceptions=True)
        return {"counted": counted.to_dict(), "collected": collected.to_dict(), "asked": asked}

    return asyncio.run(make())


def a_state_is_gone_on_from(site: Site, contexts: Contexts) -> None:
    body = {"context": contexts["counted"], "handler_id": "counter-1"}
    site.post("/workflows/counter/run", body)
    site.post("/workflows/counter/run", {"handler_id": "counter-1"})
    # A context that is brought along comes before the handler's own state.
    site.post("/workflows/counter/run", body)


def a_typed_state_is_gone_on_from(site: Site, contexts: Contexts) -> None:
    start_event = {"name": "Bob"}
    site.post("/workflows/typed-state/run", {"context": contexts["collected"], "start_event": start_event})


def a_run_that_waits_is_gone_on_with(site: Site, contexts: Contexts) -> None:
    site.post("/workflows/ask/run-nowait", {"context": contexts["asked"], "handler_id": "asked-1"})
    event = {"type": "HumanResponseEvent", "value": {"response": "Ada"}}
    site.post("/events/asked-1", {"event": event})
    site.wait_for_end("asked-1")
    site.get("/handlers/asked-1")
    site.get("/events/asked-1?after_sequence=-1&sse=false")


def what_is_no_context_is_refused(site: Site, contexts: Contexts) -> None:
    counted = contexts["counted"]
    for context in (
        5,
        "context",
        [1],
        True,
        {"version": 99},
        {"version": 1, "state": 5},
        {**counted, "workers": 5},
        {**counted, "is_running": "perhaps"},
    ):
        body = {"context": context, "handler_id": "refused-1"}
        site.post("/workflows/counter/run", body, free_detail=True)
    site.get("/handlers/refused-1")


def what_is_empty_is_no_context(site: Site, contexts: Contexts) -> None:
    for context in ({}, None, [], "", 0, False):
        site.post("/workflows/counter/run", {"context": context})


@pytest.mark.parametrize(
    "scenario",
    [
        a_state_is_gone_on_from,
        a_typed_state_is_gone_on_from,
        a_run_that_waits_is_gone_on_with,
        what_is_no_context_is_refused,
        what_is_empty_is_no_context,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_same(scenario: Callable[[Site, Contexts], None], sites: tuple[Site, Site], contexts: Contexts) -> None:
    theirs, ours = sites
    for site in sites:
        site.new_transcript()
        scenario(site, contexts)
    assert ours.transcript == theirs.transcript


@pytest.mark.parametrize(
    "state",
    [
        {"state_type": "x", "state_data": {}},
        # The storage of another server.
        {"store_type": "sqlite", "run_id": "x"},
    ],
)
def test_better(state: dict[str, Any], sites: tuple[Site, Site]) -> None:
    """The reference answers 500, and has stored a handler that failed or that runs for ever."""
    _, ours = sites
    body = {"context": {"version": 1, "state": state}, "handler_id": "refused-2"}
    answer = ours.post("/workflows/counter/run", body)
    assert answer.status == 400
    assert "context cannot be read" in answer.json()["detail"]
    assert ours.get("/handlers/refused-2").status == 404
