"""Courses of several requests whose answers must be the same from both servers.

A scenario talks to one :class:`~tests.wire.transcript.Site`, which writes the transcript that is compared.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from tests.servers import wait_for
from tests.wire.transcript import PATIENCE, Answer, Site

Scenario = Callable[[Site], None]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


# --- a run and its stream -------------------------------------------------------------------------


@scenario
def a_run_is_started_watched_and_asked_for(site: Site) -> None:
    answer = site.post("/workflows/greeting/run-nowait", {"start_event": {"name": "Ada"}})
    handler = answer.json()["handler_id"]
    site.wait_for_end(handler)
    site.get(f"/events/{handler}?after_sequence=-1")
    site.get(f"/handlers/{handler}")
    site.get(f"/results/{handler}")


@scenario
def the_id_is_chosen_by_the_client(site: Site) -> None:
    site.post("/workflows/greeting/run", {"handler_id": "my-own.id_~1", "start_event": {"name": "Ada"}})
    site.get("/handlers/my-own.id_~1")
    site.get("/events/my-own.id_~1?after_sequence=-1")


@scenario
def a_body_comes_in_chunks(site: Site) -> None:
    parts = [b'{"start_event": ', b'{"name": "', b"\xc3", b"\x84", b'da"}', b"}"]
    site.post("/workflows/greeting/run", content=iter(parts))


@scenario
def the_id_is_not_ascii(site: Site) -> None:
    site.post("/workflows/greeting/run", {"handler_id": "größe:1@x", "start_event": {"name": "Ada"}})
    site.get("/handlers/gr%C3%B6%C3%9Fe:1@x")
    site.get("/events/gr%C3%B6%C3%9Fe:1@x?after_sequence=-1")


@scenario
def a_stream_from_the_beginning_follows_the_run(site: Site) -> None:
    handler = site.start_waiting("chat")
    with site.stream(f"/events/{handler}?after_sequence=-1") as stream:
        stream.read_until_type("Progress")
        for text in ("one", "two"):
            site.post(f"/events/{handler}", {"event": {"type": "Tick", "value": {"text": text}}})
            stream.read_until(
                lambda live, text=text: any(m["value"].get("message") == text for m in live.messages)
            )
        site.post(f"/events/{handler}", {"event": {"type": "Enough", "value": {}}})
        stream.read_to_end()
    site.get(f"/events/{handler}")


@scenario
def a_stream_from_now_on_leaves_out_what_was(site: Site) -> None:
    handler = site.start_waiting("chat")
    with site.stream(f"/events/{handler}") as stream:
        site.post(f"/events/{handler}", {"event": {"type": "Enough", "value": {}}})
        stream.read_to_end()


@scenario
def ndjson_follows_the_run_as_well(site: Site) -> None:
    handler = site.start_waiting("chat")
    with site.stream(f"/events/{handler}?sse=false&after_sequence=-1&include_internal=true") as stream:
        stream.read_until_type("WorkflowIdleEvent")
        site.post(f"/events/{handler}", {"event": {"type": "Enough", "value": {}}})
        stream.read_to_end()


@scenario
def a_reader_goes_on_where_it_was_interrupted(site: Site) -> None:
    handler = site.start_waiting("chat")
    with site.stream(f"/events/{handler}?after_sequence=-1") as stream:
        stream.read_until_type("Progress")
        last = stream.messages[-1]["id"]
    site.post(f"/events/{handler}", {"event": {"type": "Tick", "value": {"text": "while you were away"}}})
    with site.stream(f"/events/{handler}", headers={"last-event-id": str(last)}) as stream:
        stream.read_until_type("Progress")
        last = stream.messages[-1]["id"]
    site.post(f"/events/{handler}", {"event": {"type": "Enough", "value": {}}})
    site.wait_for_end(handler)
    site.get(f"/events/{handler}?after_sequence={last}")


@scenario
def two_readers_see_the_same(site: Site) -> None:
    handler = site.start_waiting("chat")
    with (
        site.stream(f"/events/{handler}?after_sequence=-1") as one,
        site.stream(f"/events/{handler}?after_sequence=-1&sse=false") as other,
    ):
        site.post(f"/events/{handler}", {"event": {"type": "Tick", "value": {"text": "hello, both"}}})
        one.read_until_type("Progress", 2)
        other.read_until_type("Progress", 2)
        site.post(f"/events/{handler}", {"event": {"type": "Enough", "value": {}}})
        one.read_to_end()
        other.read_to_end()


@scenario
def silence_is_filled_with_heartbeats_on_sse(site: Site) -> None:
    handler = site.start_waiting("ask")
    with site.stream(f"/events/{handler}") as stream:
        stream.read_until(lambda live: live.text.count(": heartbeat\n\n") >= 2)
        site.note(text=stream.text)


@scenario
def the_stream_of_a_cancelled_run_ends(site: Site) -> None:
    handler = site.start("sleeping")
    with site.stream(f"/events/{handler}?after_sequence=-1") as stream:
        stream.read_until_type("Progress")
        site.post(f"/handlers/{handler}/cancel")
        stream.read_to_end()


@scenario
def the_stream_of_a_purged_run_ends(site: Site) -> None:
    handler = site.start_waiting("ask")
    with site.stream(f"/events/{handler}?after_sequence=-1") as stream:
        stream.read_until_type("Question")
        site.post(f"/handlers/{handler}/cancel?purge=true")
        stream.read_to_end()


@scenario
def the_stream_of_a_failing_run_ends(site: Site) -> None:
    handler = site.start("timing-out")
    with site.stream(f"/events/{handler}?after_sequence=-1&include_internal=true") as stream:
        stream.read_to_end()
    site.wait_for_end(handler)
    site.get(f"/handlers/{handler}")


# --- a person in the loop -------------------------------------------------------------------------


@scenario
def a_person_is_asked_and_answers(site: Site) -> None:
    answer = site.post("/workflows/ask/run-nowait", {})
    handler = answer.json()["handler_id"]
    with site.stream(f"/events/{handler}?after_sequence=-1") as stream:
        stream.read_until_type("Question")
        site.get(f"/handlers/{handler}")
        site.post(f"/events/{handler}", {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}})
        stream.read_to_end()
    site.wait_for_end(handler)
    site.get(f"/handlers/{handler}")
    site.post(f"/events/{handler}", {"event": {"type": "HumanResponseEvent", "value": {"response": "late"}}})


@scenario
def a_waiting_post_is_answered_when_the_person_has_answered(site: Site) -> None:
    with _InBackground(site, "/workflows/ask/run", {"handler_id": "asked-1"}) as waiting:
        _wait_until_known(site, "asked-1")
        site.wait_for_event("asked-1", "WorkflowIdleEvent")
        site.post("/events/asked-1", {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}})
    _note(site, waiting)


@scenario
def an_event_of_no_use_changes_nothing(site: Site) -> None:
    handler = site.start_waiting("ask")
    site.post(f"/events/{handler}", {"event": {"type": "StopEvent", "value": {"result": "no"}}})
    site.wait_for_event(handler, "UnhandledEvent")
    site.post(f"/events/{handler}", {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}})
    site.wait_for_end(handler)
    site.get(f"/events/{handler}?after_sequence=-1&include_internal=true")


# --- the same handler again -----------------------------------------------------------------------


@scenario
def a_handler_that_is_continued_keeps_its_state(site: Site) -> None:
    for by in (1, 10, 100):
        site.post("/workflows/counter/run", {"handler_id": "counter-1", "start_event": {"by": by}})
        # Positions begin anew with each run.
        site.get("/events/counter-1?after_sequence=-1&include_internal=true")
    site.get("/handlers/counter-1")
    listed = site.get("/handlers?workflow_name=counter", record=False).json()["handlers"]
    site.note(times_listed=sum(handler["handler_id"] == "counter-1" for handler in listed))


@scenario
def a_state_of_its_own_type_is_kept_as_well(site: Site) -> None:
    for name in ("Ada", "Bob"):
        site.post("/workflows/typed-state/run", {"handler_id": "typed-1", "start_event": {"name": name}})


@scenario
def handlers_do_not_share_their_state(site: Site) -> None:
    for handler in ("counter-2", "counter-3", "counter-2"):
        site.post("/workflows/counter/run", {"handler_id": handler, "start_event": {}})


@scenario
def a_failed_handler_can_be_started_again(site: Site) -> None:
    for _ in range(2):
        site.post("/workflows/failing/run", {"handler_id": "failing-1"})
        site.get("/events/failing-1?after_sequence=-1&sse=false")


@scenario
def a_cancelled_handler_can_be_started_again(site: Site) -> None:
    site.start_waiting("ask", handler_id="again-1")
    site.post("/handlers/again-1/cancel")
    site.post("/workflows/ask/run-nowait", {"handler_id": "again-1"})
    site.wait_for_event("again-1", "Question")
    site.post("/events/again-1", {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}})
    site.wait_for_end("again-1")
    site.get("/handlers/again-1")


@scenario
def a_purged_handler_begins_from_nothing(site: Site) -> None:
    site.post("/workflows/counter/run", {"handler_id": "counter-4", "start_event": {"by": 5}})
    site.post("/handlers/counter-4/cancel?purge=true")
    site.get("/handlers/counter-4")
    site.post("/workflows/counter/run", {"handler_id": "counter-4", "start_event": {"by": 5}})


@scenario
def a_running_handler_cannot_be_started(site: Site) -> None:
    handler = site.start_waiting("ask")
    body = {"handler_id": handler, "start_event": {"name": "Ada"}}
    site.post("/workflows/ask/run", body)
    site.post("/workflows/ask/run-nowait", body)
    site.post("/workflows/greeting/run", body)
    # What it is given to begin with is looked at first.
    site.post("/workflows/greeting/run", {**body, "start_event": {}})
    site.get(f"/handlers/{handler}")


# --- the list -------------------------------------------------------------------------------------


@scenario
def handlers_are_listed_and_filtered(site: Site) -> None:
    # These workflows are used nowhere else.
    site.post("/workflows/listed-greeting/run", {"handler_id": "l-1", "start_event": {"name": "Ada"}})
    site.start_waiting("listed-ask", handler_id="l-2")
    site.start_waiting("listed-ask", handler_id="l-3")
    site.post("/handlers/l-3/cancel")
    site.post("/workflows/listed-failing/run", {"handler_id": "l-4"})

    listed = "workflow_name=listed-greeting&workflow_name=listed-ask&workflow_name=listed-failing"
    for query in (
        listed,
        "workflow_name=listed-greeting",
        "workflow_name=%20listed-greeting%20",
        "workflow_name=listed-greeting&workflow_name=",
        "workflow_name=nobody",
        "workflow_name=never-run",
        "workflow_name=listed-greeting&workflow_name=nobody",
        "workflow_name=LISTED-GREETING",
        f"status=&{listed}",
        f"status=%20&{listed}",
        f"status=running&{listed}",
        f"status=completed&{listed}",
        f"status=failed&{listed}",
        f"status=cancelled&{listed}",
        f"status=running&status=failed&{listed}",
        f"status=running&status=running&{listed}",
        f"status=running&status=&{listed}",
        f"status=running&status=nonsense&{listed}",
        f"status=nonsense&{listed}",
        f"status=RUNNING&{listed}",
        f"status=running,failed&{listed}",
        f"foo=bar&{listed}",
    ):
        answer = site.get(f"/handlers?{query}", record=False)
        # The reference has no order.
        handlers = sorted(answer.json()["handlers"], key=lambda handler: handler["handler_id"])
        site.note(query=query, status=answer.status, type=answer.headers["content-type"], handlers=handlers)


@scenario
def an_empty_filter_is_none(site: Site) -> None:
    site.post("/workflows/greeting/run", {"handler_id": "unfiltered-1", "start_event": {"name": "Ada"}})
    for query in ("", "?status=&workflow_name=", "?status=", "?foo=bar"):
        handlers = site.get(f"/handlers{query}", record=False).json()["handlers"]
        site.note(query=query, found=[h for h in handlers if h["handler_id"] == "unfiltered-1"])


# --- the end --------------------------------------------------------------------------------------


@scenario
def a_run_is_cancelled_twice(site: Site) -> None:
    handler = site.start_waiting("ask")
    site.post(f"/handlers/{handler}/cancel")
    site.post(f"/handlers/{handler}/cancel")
    site.get(f"/handlers/{handler}")
    site.get(f"/events/{handler}?after_sequence=-1&include_internal=true")
    site.get(f"/events/{handler}")


@scenario
def a_busy_run_is_cancelled(site: Site) -> None:
    handler = site.start("sleeping")
    site.wait_for_event(handler, "Progress")
    site.post(f"/handlers/{handler}/cancel")
    site.get(f"/handlers/{handler}")
    site.get(f"/events/{handler}?after_sequence=-1")


@scenario
def an_ended_run_is_purged(site: Site) -> None:
    site.post("/workflows/greeting/run", {"handler_id": "purged-1", "start_event": {"name": "Ada"}})
    site.post("/handlers/purged-1/cancel?purge=true")
    site.post("/handlers/purged-1/cancel?purge=true")
    site.get("/handlers/purged-1")
    site.get("/events/purged-1?after_sequence=-1")
    site.post("/events/purged-1", {"event": {"type": "HumanResponseEvent", "value": {}}})


@scenario
def a_waiting_post_is_answered_when_the_run_is_cancelled(site: Site) -> None:
    with _InBackground(site, "/workflows/ask/run", {"handler_id": "asked-2"}) as waiting:
        _wait_until_known(site, "asked-2")
        site.wait_for_event("asked-2", "WorkflowIdleEvent")
        site.post("/handlers/asked-2/cancel")
    _note(site, waiting)


@scenario
def a_waiting_post_is_answered_when_the_run_is_purged(site: Site) -> None:
    with _InBackground(site, "/workflows/ask/run", {"handler_id": "asked-3"}) as waiting:
        _wait_until_known(site, "asked-3")
        site.wait_for_event("asked-3", "WorkflowIdleEvent")
        site.post("/handlers/asked-3/cancel?purge=true")
    _note(site, waiting)
    site.get("/handlers/asked-3")


# --- helpers --------------------------------------------------------------------------------------


class _InBackground:
    """Make a POST in a thread of its own; at the end, wait for its answer."""

    def __init__(self, site: Site, path: str, body: dict[str, Any]) -> None:
        self.answer: Answer | None = None

        def ask() -> None:
            self.answer = site.post(path, body, record=False)

        self._thread = threading.Thread(target=ask, name=f"POST {path}", daemon=True)

    def __enter__(self) -> _InBackground:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.join(PATIENCE)
        assert exception[0] is not None or self.answer is not None, "the request was not answered"


def _note(site: Site, waiting: _InBackground) -> None:
    assert waiting.answer is not None
    site.note(status=waiting.answer.status, body=json.loads(waiting.answer.content))


def _wait_until_known(site: Site, handler: str) -> None:
    wait_for(lambda: site.get(f"/handlers/{handler}", record=False).status == 202, what=f"the start of {handler}")
