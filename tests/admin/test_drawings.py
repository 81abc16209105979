"""A run's graph and timeline, the colours of both, and what else its page and that of the workers show."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

import django_workflows
from django_workflows import eventlog, leases, mailbox
from django_workflows.admin import graph, timeline
from django_workflows.eventlog import EventEntry
from django_workflows.mailbox import Letter
from django_workflows.models import Handler, Message, Worker
from tests.admin.people import PLACE, a_printing, a_question, a_state, an_event, everything
from tests.storage import a_run, a_worker, an_ending, end

CSS = Path(django_workflows.__file__).parent / "static/django_workflows/admin/admin.css"


# --- graph -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", ["print", "digest", "bake", "sleep", "ask_name", "process_items"])
def test_no_box_lies_over_another(workflow: str) -> None:
    drawn = graph.of(workflow, {}, {})

    assert drawn is not None
    for node in drawn.nodes:
        assert 0 <= node.left < node.right <= drawn.width
        assert 0 <= node.top < drawn.height
    for one, other in itertools.combinations(drawn.nodes, 2):
        assert one.y != other.y or one.right <= other.left or other.right <= one.left


def test_what_leads_on_stands_below() -> None:
    drawn = graph.of("print", {"write": 12}, {"write": "running"})

    assert drawn is not None
    nodes = {node.label: node for node in drawn.nodes}
    order = ["Order", "write", "Draft", "ask", "Approval", "Decision", "decide", "Printed"]
    assert [nodes[name].y for name in order] == sorted(nodes[name].y for name in order)
    kinds = {node.label: node.kind for node in drawn.nodes}
    assert (kinds["Order"], kinds["Printed"], kinds["write"]) == ("start", "stop", "step")
    assert (kinds["Approval"], kinds["Decision"], kinds["Remark"]) == ("asks", "answer", "answer")
    assert (nodes["write"].count, nodes["write"].state) == (12, "running")
    assert len(drawn.edges) == 10, "with the way back from Remark to write"


@pytest.mark.parametrize("workflow", ["print", "digest", "process_items"])
def test_nodes_stand_in_the_layers_in_which_the_debugger_shows_them(workflow: str) -> None:
    drawn = graph.of(workflow, {"write": 12}, {})
    placed = everything().get(f"/workflows/workflows/{workflow}/layout").json()

    assert drawn is not None
    rows = sorted({node.y for node in drawn.nodes})
    assert {node.id: rows.index(node.y) for node in drawn.nodes} == {
        name: box["layer"] for name, box in placed["nodes"].items()
    }
    assert len(drawn.edges) == len(placed["edges"])


def test_loops_of_any_kind_are_drawn() -> None:
    kinds = dict.fromkeys("abcd", "step")
    drawn = graph._draw(
        kinds, {name: name for name in kinds}, [("a", "b"), ("b", "a"), ("c", "c"), ("a", "d"), ("d", "b")], {}, {}
    )
    assert len(drawn.edges) == 5


def test_what_is_not_served_has_no_graph() -> None:
    assert graph.of("nothing", {}, {}) is None
    handler = a_run("old", workflow_name="nothing")
    assert everything().get(f"{PLACE}{handler.pk}/change/").status_code == 200


def test_a_workflow_that_cannot_be_drawn_has_a_page(settings: Any) -> None:
    opaque = {"opaque": "tests.browser.admin_workflows.OpaqueWorkflow"}
    settings.DJANGO_WORKFLOWS = {**settings.DJANGO_WORKFLOWS, "WORKFLOWS": opaque}
    handler = a_run("one", workflow_name="opaque")
    client = everything()

    assert graph.of("opaque", {}, {}) is None
    assert client.get(f"{PLACE}{handler.pk}/change/").status_code == 200
    assert client.get(f"{PLACE}start/opaque/").status_code == 200


# --- timeline --------------------------------------------------------------------------------------------


def a_course(handler: Handler, *changes: tuple[float, str, str, Any]) -> None:
    """Write changes of steps: seconds after the start, step, state, and the event that came of it."""
    begin = timezone.now() - timedelta(hours=3)
    entries = []
    for sequence, (after, step, state, output) in enumerate(changes):
        value = {"name": step, "step_state": state, "worker_id": "0", "output_event_name": output}
        import json

        data = json.dumps({"value": value, "type": "StepStateChanged"})
        entries.append(EventEntry(sequence, True, data, "StepStateChanged", begin + timedelta(seconds=after)))
    eventlog.append([(leases.of(handler), entry) for entry in entries])
    ended = begin + timedelta(seconds=changes[-1][0])
    if changes[-1][2] != "running":
        Handler.objects.filter(pk=handler.pk).update(completed_at=ended, status="completed")
        handler.refresh_from_db()


def test_a_bar_for_each_execution() -> None:
    handler = a_run()
    a_course(
        handler,
        (0, "write", "running", None),
        (1, "write", "not_running", None),
        (1, "write", "running", None),
        (2, "write", "not_running", "Draft"),
        (2, "ask", "running", None),
        (4, "ask", "not_running", "Approval"),
    )

    found = timeline.of(handler)

    assert [(lane.step, lane.count, lane.time) for lane in found.lanes] == [
        ("write", 2, "2.0 s"),
        ("ask", 1, "2.0 s"),
    ]
    assert [bar.state for bar in found.lanes[0].bars] == ["bare", "done"]
    assert [(bar.x, bar.width) for lane in found.lanes for bar in lane.bars] == [
        *((0, 250), (250, 250)),
        (500, 500),
    ]
    assert found.total == "4.0 s"
    assert not found.pauses


def test_a_night_of_waiting_leaves_the_steps_to_be_seen() -> None:
    handler = a_run()
    a_course(
        handler,
        (0, "ask", "running", None),
        (1, "ask", "not_running", "Approval"),
        (9001, "decide", "running", None),
        (9002, "decide", "not_running", "Printed"),
    )

    found = timeline.of(handler)

    assert [bar.text for bar in found.pauses] == ["2 h 30 min"]
    (ask,), (decide,) = (lane.bars for lane in found.lanes)
    assert ask.width == decide.width > 400
    assert ask.x + ask.width == found.pauses[0].x
    assert found.pauses[0].x + found.pauses[0].width == decide.x


def test_what_goes_on_what_was_cut_off_and_what_failed() -> None:
    running, cut, failed = a_run(), a_run(), a_run()
    a_course(running, (0, "bake", "running", None))
    a_course(cut, (0, "bake", "running", None), (1, "bake", "running", None), (2, "bake", "not_running", "X"))
    a_course(failed, (0, "bake", "running", None), (1, "bake", "not_running", None))
    an_event(failed, 9, "WorkflowFailedEvent", step_name="bake")

    def states(handler: Handler) -> list[str]:
        return [bar.state for lane in timeline.of(handler).lanes for bar in lane.bars]

    assert states(running) == ["running"]
    assert states(cut) == ["cut", "done"]
    assert states(failed) == ["failed"]
    assert timeline.of(failed).states == {"bake": "failed"}
    assert timeline.of(a_run()).lanes == []


def test_every_bar_is_inside_the_drawing() -> None:
    handler = a_run()
    changes: list[tuple[float, str, str, Any]] = []
    for number in range(200):
        changes += [(number * number, f"s{number % 5}", "running", None)]
        changes += [(number * number + 0.5, f"s{number % 5}", "not_running", "X")]
    a_course(handler, *changes)

    found = timeline.of(handler)

    for bar in itertools.chain(found.pauses, *(lane.bars for lane in found.lanes)):
        assert bar.x >= 0
        assert bar.x + bar.width <= timeline.WIDTH + 0.1


# --- the page of one run -----------------------------------------------------------------------------------


def page(handler: Handler, query: str = "", name: str = "ada") -> str:
    response = everything(name).get(f"{PLACE}{handler.pk}/change/{query}")
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_a_completed_run() -> None:
    handler = a_printing("one")
    an_event(handler, 0, "StepStateChanged", internal=True, name="write", step_state="running")
    an_event(handler, 1, "Progress", text="<b>half</b>")
    a_state(handler, '{"key": "value"}')
    result = '{"value": {"printed": true}, "qualified_name": "x.Printed", "type": "Printed"}'
    from django_workflows import handlers

    handlers.end([(leases.of(handler), an_ending(result=result))])

    text = page(handler)

    assert "&quot;printed&quot;: true" in text
    assert "&quot;title&quot;: &quot;Invitation&quot;" in text
    assert "&lt;b&gt;half&lt;/b&gt;" in text
    assert "&quot;key&quot;: &quot;value&quot;" in text
    assert "<strong>StepStateChanged</strong>" not in text
    assert "<strong>StepStateChanged</strong>" in page(handler, "?internal=1", "bob")
    assert "/cancel/" not in text
    assert "/answer/" not in text


def test_a_failed_run() -> None:
    handler = a_run("one")
    end(handler, status=Handler.Status.FAILED, error="the oven is <cold>")
    assert "the oven is &lt;cold&gt;" in page(handler)


def test_a_run_that_failed_without_a_message_says_what_failed_and_where() -> None:
    handler = a_run("one")
    exception = {"exception_type": "builtins.AssertionError", "exception_message": ""}
    an_event(handler, 0, "WorkflowFailedEvent", step_name="bake", exception=exception)
    end(handler, status=Handler.Status.FAILED, error="AssertionError")
    text = page(handler)
    assert "AssertionError in the step bake" in text
    assert "It came without a message." in text

    other = a_run("other")
    an_event(other, 0, "WorkflowFailedEvent", exception="of another time")
    end(other, status=Handler.Status.FAILED, error="no flour")
    assert "no flour" in page(other, name="bob")


def test_a_run_that_is_executed_and_one_whose_worker_is_silent() -> None:
    living, silent = a_worker(), a_worker(silent_for=timedelta(minutes=9))
    one, other = a_run("one", worker=living.pk), a_run("other", worker=silent.pk)

    assert "wf-living" in page(one)
    assert "wf-orphaned" not in page(one, name="bob")
    text = page(other, name="eve")
    assert "wf-orphaned" in text
    assert "wf-silent" in text
    assert "heartbeat 9 min" in text


def test_mail_that_waits() -> None:
    handler = a_run("one")
    mailbox.post(
        Letter(handler.pk, handler.run, Message.Kind.EVENT, '{"value": {"a": 1}, "qualified_name": "x"}', "s")
    )
    text = page(handler)
    assert "Mail that waits" in text
    assert "for the step s" in text
    assert "&quot;a&quot;: 1" in text


def test_what_is_enormous_is_cut() -> None:
    handler = a_run("one", start_event='{"value": {"a": "%s"}, "qualified_name": "x"}' % ("y" * 500_000))
    an_event(handler, 0, "Large", text="z" * 500_000)
    a_state(handler, "w" * 500_000)
    text = page(handler)
    assert len(text) < 150_000
    assert "cut here" in text


def test_documents_that_are_no_json_are_shown_as_they_are() -> None:
    handler = a_run("one", start_event="gASVnonsense")
    a_state(handler, "gASVstate")
    text = page(handler)
    assert "gASVnonsense" in text
    assert "gASVstate" in text


@pytest.mark.parametrize(
    "query", ["?after=x", "?after=-5", "?before=99999999999999", "?before=", "?after=1&before=2"]
)
def test_positions_that_are_none(query: str) -> None:
    page(a_question("one"), f"?{query}")


def test_who_did_what_is_on_the_page() -> None:
    handler = a_question("one")
    client = everything()
    client.post(
        f"{PLACE}{handler.pk}/answer/", {"event": "Decision", "position": "1.0", "Decision-approve": "true"}
    )
    text = client.get(f"{PLACE}{handler.pk}/change/").content.decode()
    assert "Answered Decision: {&quot;approve&quot;: true, &quot;note&quot;: &quot;&quot;}" in text
    assert "Answered Decision" in client.get(f"{PLACE}{handler.pk}/history/").content.decode()


def test_the_link_to_the_debugger_is_there_when_the_site_has_it(settings: Any) -> None:
    handler = a_run("one")
    settings.ROOT_URLCONF = "tests.admin.own_site"
    from django_workflows.admin import detail

    assert detail.debugger_url(handler) is None


# --- workers ---------------------------------------------------------------------------------------------


def test_workers_and_what_they_run() -> None:
    living, silent = a_worker(), a_worker(silent_for=timedelta(minutes=5))
    for worker, workflow, number in ((living, "print", 3), (living, "bake", 1), (silent, "print", 2)):
        for _ in range(number):
            a_run(worker=worker.pk, workflow_name=workflow)
    client = everything()

    text = " ".join(client.get("/admin/django_workflows/worker/").content.decode().split())

    assert text.count("wf-living") == text.count("wf-silent") == 1
    assert f'?worker={living.pk}&amp;workflow=print">3 print</a>' in text
    assert f'?worker={living.pk}&amp;workflow=bake">1 bake</a>' in text
    assert f'<span class="wf-orphans"><a href="{PLACE}?worker={silent.pk}&amp;workflow=print">2 print</a>' in text
    assert "held by a worker that is silent" in text
    listed = client.get(f"{PLACE}?worker={living.pk}&workflow=print").context["cl"].result_list
    assert len(listed) == 3
    assert client.get(f"/admin/django_workflows/worker/{living.pk}/change/").status_code == 302


def test_nobody_works() -> None:
    a_run("one")
    text = everything().get("/admin/django_workflows/worker/").content.decode()
    assert "No process executes runs now" in text
    assert "Runs have something to do, and no worker." in text
    assert not Worker.objects.exists()


# --- colours ---------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_label_can_be_read_in_both_themes() -> None:
    themes = re.findall(
        r"^ *(?:html\[data-theme=\"\w+\"\](?:,\n *:root)?|:root) \{(.*?)\}", CSS.read_text(), re.S | re.M
    )
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--(wf-[\w-]+): (#[0-9a-f]{6});", theme))
        pairs = [name.removesuffix("-bg") for name in colours if name.endswith("-bg")]
        assert len(pairs) == 6
        for name in pairs:
            assert contrast(colours[f"{name}-bg"], colours[f"{name}-fg"]) >= 4.5, name
    light, by_system, dark = (re.findall(r"--[\w-]+: [^;]+", theme) for theme in themes)
    assert by_system == dark
    assert len(light) == len(dark)
