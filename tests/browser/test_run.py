"""A run as people see it: started with a form, watched, answered, cancelled, run again and deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, WebSocketRoute, expect

from tests import servers
from tests.browser.conftest import PATIENCE, Watch

Start = Callable[..., str]


def facts(page: Page) -> Any:
    return page.locator(".run-facts")


def node(page: Page, name: str) -> Any:
    return page.locator(".wf-node", has=page.locator(".wf-label", has_text=re.compile(f"^{name}$")))


def lines(page: Page) -> list[str]:
    """The lines of the graph's edges that are to be seen."""
    found = page.locator(".wf-edge:not([visibility]) .wf-line")
    paths: list[str] = found.evaluate_all("(all) => all.map((one) => one.getAttribute('d'))")
    return paths


def count(page: Page) -> Any:
    return page.locator(".log-tools").get_by_role("status")


def rows(page: Page) -> Any:
    return page.get_by_role("tabpanel", name="Events").get_by_role("row")


# --- the form ----------------------------------------------------------------------------------------------


def test_a_run_is_started_with_a_form_for_every_kind_of_field(page: Page, api: httpx.Client) -> None:
    page.goto("?workflow=order")
    form = page.locator("form.wf-form")
    form.get_by_label("Name").fill("Ada")
    form.get_by_label("Amount").fill("3")
    form.get_by_label("Gift").check()
    form.get_by_label("Colour").select_option("green")
    form.get_by_label("Street").fill("Hill 1")
    notes = form.get_by_role("group", name="Notes")
    notes.get_by_role("button", name="Add").click()
    notes.get_by_role("textbox").first.fill("quick")
    form.get_by_role("button", name="Run", exact=True).click()

    expect(facts(page)).to_contain_text("completed")
    handler = page.url.partition("run=")[2].partition("&")[0]
    result = api.get(f"/handlers/{handler}").json()["result"]["value"]["result"]
    assert result == {
        "name": "Ada",
        "amount": 3,
        "price": None,
        "gift": True,
        "colour": "green",
        "day": None,
        "at": None,
        "hour": None,
        "notes": ["quick"],
        "address": {"street": "Hill 1", "city": "Ghent"},
        "payment": None,
    }


def test_what_is_missing_is_said_by_the_field_before_anything_is_sent(page: Page) -> None:
    page.goto("?workflow=order")
    page.get_by_role("button", name="Run", exact=True).click()

    name = page.locator("form.wf-form").get_by_label("Name")
    expect(name).to_have_attribute("aria-invalid", "true")
    described = name.get_attribute("aria-describedby")
    assert described
    texts = [page.locator(f"#{one}").inner_text() for one in described.split()]
    assert any(re.search("required|empty|least|fill", text, re.I) for text in texts), texts
    assert "run=" not in page.url


def test_what_nobody_has_said_is_not_sent(page: Page, api: httpx.Client) -> None:
    page.goto("?workflow=survey")
    form = page.locator("form.wf-form")
    message = "This is required."
    form.get_by_role("group", name="Answers").get_by_role("button", name="Add").click()
    for switch in ("Nick", "Certain"):
        form.get_by_label(switch).check()
    words = form.get_by_role("group", name="Words")
    words.get_by_role("button", name="Add").click()
    words.get_by_label("Name").fill("tea")
    run = form.get_by_role("button", name="Run", exact=True)
    run.click()

    who = form.get_by_role("group", name="Who")
    yes_or_no = [
        form.get_by_role("radiogroup", name=re.compile(name)) for name in ("Open", "Adult", "Answers 1", "Certain")
    ]
    texts = [form.get_by_label("Title"), who.get_by_label("Name"), words.get_by_label("Value")]
    for one in yes_or_no:
        expect(one).to_have_attribute("aria-invalid", "true")
        expect(one.get_by_label("Yes").or_(one.get_by_label("No")).and_(page.locator(":checked"))).to_have_count(0)
    for field in [*yes_or_no, *texts]:
        expect(field).to_have_accessible_description(message)
    # A tick-box says no by itself where no is the default; who ticks that there is a nickname may leave it empty.
    expect(form.get_by_label("Public")).not_to_be_checked()
    expect(form.get_by_text(message)).to_have_count(len(yes_or_no) + len(texts))
    assert "run=" not in page.url

    for one, answer in zip(yes_or_no, ("No", "Yes", "No", "No"), strict=True):
        one.get_by_label(answer).check()
        expect(one).not_to_have_attribute("aria-invalid", "true")
    for field in texts:
        field.fill("a word")
    run.click()

    expect(facts(page)).to_contain_text("completed")
    handler = page.url.partition("run=")[2].partition("&")[0]
    assert api.get(f"/handlers/{handler}").json()["result"]["value"]["result"] == {
        "title": "a word",
        "open": False,
        "public": False,
        "answers": [False],
        "who": {"name": "a word", "adult": True},
        "nick": "",
        "certain": False,
        "words": {"tea": "a word"},
    }


def test_who_wants_an_empty_text_writes_it_as_json(page: Page) -> None:
    page.goto("?workflow=survey")
    form = page.locator("form.wf-form")
    form.get_by_role("button", name="JSON").click()
    text = page.get_by_label("JSON", exact=True)
    text.fill('{"title": "", "open": true, "who": {"name": "Ada", "adult": true}}')
    # The form keeps it.
    form.get_by_role("button", name="Form").click()
    expect(form.get_by_label("Title")).to_have_value("")
    expect(form.get_by_role("radiogroup", name="Open").get_by_label("Yes")).to_be_checked()
    form.get_by_role("button", name="Run", exact=True).click()

    expect(facts(page)).to_contain_text("completed")
    expect(page.get_by_role("region", name="Result")).to_contain_text('title: ""')


def test_what_the_server_refuses_is_said_by_the_field(page: Page, watch: Watch) -> None:
    watch.allow("400")
    page.goto("?workflow=order")
    page.get_by_role("button", name="JSON").click()
    text = page.get_by_label("JSON", exact=True)
    text.fill('{"name": "A", "amount": 99, "address": {"street": "Hill 1"}}')
    page.get_by_role("button", name="Run", exact=True).click()

    alert = page.locator("form.wf-form").get_by_role("alert")
    expect(alert).to_contain_text("at least 2 characters")
    expect(alert).to_contain_text("less than or equal to 10")
    # What was written stays, and what is corrected goes through.
    text.fill('{"name": "Ada", "amount": 9, "address": {"street": "Hill 1"}}')
    page.get_by_role("button", name="Run", exact=True).click()
    expect(facts(page)).to_contain_text("completed")


def test_json_that_is_none_is_said_at_once(page: Page) -> None:
    page.goto("?workflow=order")
    page.get_by_role("button", name="JSON").click()
    page.get_by_label("JSON", exact=True).fill('{"name": ')
    page.get_by_role("button", name="Run", exact=True).click()

    expect(page.locator("form.wf-form").get_by_role("alert")).to_be_visible()
    assert "run=" not in page.url


# --- the graph ---------------------------------------------------------------------------------------------


def test_the_graph_shows_steps_and_events_by_their_shapes(page: Page) -> None:
    page.goto("?workflow=desk")
    for name in ("write", "propose", "decide", "Draft", "Written", "ApprovalRequired", "Decision", "Published"):
        expect(node(page, name)).to_be_visible()

    shapes = {
        name: node(page, name)
        .locator(".wf-shape")
        .first.evaluate("(one) => one.outerHTML.replace(/[\\d.-]+/g, '0')")
        for name in ("write", "Written", "Draft", "Published", "ApprovalRequired", "Decision")
    }

    assert len(set(shapes.values())) >= 5, shapes
    expect(page.get_by_role("list", name="Shapes")).to_contain_text("Asks a person")


def test_a_node_can_be_moved_and_stays_where_it_was_put(page: Page) -> None:
    page.goto("?workflow=desk")
    box = node(page, "propose").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 20, steps=6)
    page.mouse.up()
    moved = node(page, "propose").bounding_box()
    assert moved["x"] - box["x"] > 50

    page.reload()
    expect(node(page, "propose")).to_be_visible()
    centre = node(page, "write").bounding_box()
    again = node(page, "propose").bounding_box()
    assert again["x"] - centre["x"] > 50

    page.get_by_role("button", name="Put the nodes back").click()
    back = node(page, "propose").bounding_box()
    assert abs(back["x"] - again["x"]) > 20


def test_lines_follow_a_node_that_is_moved(page: Page) -> None:
    page.goto("?workflow=desk")
    expect(node(page, "propose")).to_be_visible()
    placed = lines(page)
    assert len(placed) == 8

    box = node(page, "propose").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 40, steps=6)
    servers.wait_for(lambda: lines(page) != placed, what="a line that follows")
    page.mouse.move(box["x"] + 170, box["y"] + 40)
    moved = lines(page)
    page.mouse.up()
    assert [old in moved for old in placed].count(False) == 2, "those of the node"

    page.reload()
    servers.wait_for(lambda: lines(page) == moved, what="all lines where they were")
    page.get_by_role("button", name="Put the nodes back").click()
    assert lines(page) == placed


def test_a_moved_nodes_lines_are_straight_while_their_module_cannot_be_loaded(page: Page, watch: Watch) -> None:
    watch.allow("route.*js|ERR_FAILED")
    page.route("**/debugger/route*.js", lambda route: route.abort())
    page.goto("?workflow=desk")
    node(page, "propose").focus()
    placed = lines(page)

    page.keyboard.press("Shift+ArrowRight")

    servers.wait_for(lambda: lines(page) != placed, what="a line that follows")
    moved = [line for line in lines(page) if line not in placed]
    assert len(moved) == 2
    assert all(re.fullmatch(r"M\S+ \S+L\S+ \S+", line) for line in moved), moved


def test_it_zooms_pans_and_fits(page: Page) -> None:
    page.goto("?workflow=desk")
    expect(node(page, "write")).to_be_visible()
    before = node(page, "write").bounding_box()
    page.get_by_role("button", name="Zoom in").click()
    zoomed = node(page, "write").bounding_box()
    assert zoomed["width"] > before["width"] * 1.1

    canvas = page.locator(".wf-canvas").bounding_box()
    page.mouse.move(canvas["x"] + 30, canvas["y"] + 30)
    page.mouse.down()
    page.mouse.move(canvas["x"] + 90, canvas["y"] + 60, steps=4)
    page.mouse.up()
    panned = node(page, "write").bounding_box()
    assert round(panned["x"] - zoomed["x"]) == 60

    page.get_by_role("button", name="Show all").click()
    assert abs(node(page, "write").bounding_box()["x"] - before["x"]) < 2


def test_what_waits_is_in_sight_and_more_is_announced_where_the_graph_is_cut(page: Page, start: Start) -> None:
    start("desk", "deep", title="Tea")
    page.goto("?run=deep")
    canvas = page.locator(".wf-canvas")
    expect(page.locator(".prompt")).to_be_visible()
    # A little smaller, it is there as a whole.
    expect(canvas).to_have_attribute("data-more", "")

    page.set_viewport_size({"width": 390, "height": 600})
    try:
        expect(canvas).to_have_attribute("data-more", re.compile("bottom|top"))
        frame = canvas.bounding_box()
        waiting = node(page, "external_step").bounding_box()
        assert frame["y"] < waiting["y"]
        assert waiting["y"] + waiting["height"] < frame["y"] + frame["height"]
        page.get_by_role("button", name="Show all").click()
        expect(canvas).to_have_attribute("data-more", "")
    finally:
        page.set_viewport_size({"width": 1440, "height": 900})


# --- live --------------------------------------------------------------------------------------------------


def test_from_a_run_to_the_admin_and_back(page: Page, finish: Start) -> None:
    finish("notes", "both-ways", words=["a"])
    page.goto("?run=both-ways")
    expect(page.get_by_role("link", name="ada", exact=True)).to_have_attribute("href", re.compile("/auth/user/"))
    page.get_by_role("link", name="Admin").click()
    expect(page.locator(".wf-title")).to_contain_text("both-ways")
    page.get_by_role("link", name="Debugger").click()
    expect(page.get_by_role("heading", name="both-ways")).to_be_visible()


def test_a_run_lights_up_as_it_goes_and_counts_what_fans_out(page: Page, start: Start) -> None:
    start("fan", "live", parts=8, delay=2)
    page.goto("?run=live")

    expect(facts(page)).to_contain_text("running")
    expect(facts(page)).to_contain_text("Live")
    expect(node(page, "work")).to_have_class(re.compile("is-running"))
    expect(node(page, "work")).to_have_class(re.compile("is-done"), timeout=PATIENCE)
    expect(node(page, "work")).to_contain_text("8")
    expect(facts(page)).to_contain_text("completed", timeout=PATIENCE)
    expect(page.get_by_role("region", name="Result")).to_contain_text("7: 7")
    expect(page.get_by_role("tabpanel", name="Events")).to_contain_text("part 7")


def test_a_failed_run_says_why(page: Page, finish: Start) -> None:
    finish("order", "refused", name="Nobody", address={"street": "Here"})
    page.goto("?run=refused")

    expect(facts(page)).to_contain_text("failed")
    expect(page.get_by_role("region", name="Error")).to_contain_text("ValueError in the step take")
    expect(page.get_by_role("region", name="Error")).to_contain_text("Nobody cannot order.")
    expect(node(page, "take")).to_have_class(re.compile("is-failed"))


def test_a_run_that_failed_without_a_message_says_what_failed_and_where(page: Page, start: Start) -> None:
    start("flaky", "silent", silent=True)
    page.goto("?run=silent")

    error = page.get_by_role("region", name="Error")
    expect(error).to_contain_text("AssertionError in the step attempt")
    expect(error).to_contain_text("It came without a message.")
    page.reload()
    expect(error).to_contain_text("AssertionError in the step attempt")


def test_a_retry_is_seen_in_graph_and_timeline(page: Page, start: Start) -> None:
    start("flaky", "flaky-1")
    page.goto("?run=flaky-1&tab=timeline")

    expect(facts(page)).to_contain_text("completed")
    bars = page.get_by_role("tabpanel", name="Timeline").get_by_role("button", name=re.compile("^attempt ·"))
    expect(bars).to_have_count(3)
    expect(bars.nth(0)).to_have_accessible_name(re.compile("tried again"))
    expect(bars.nth(2)).to_have_accessible_name(re.compile("attempt 3"))


def test_a_server_that_restarts_is_found_again(
    page: Page, server: servers.Server, start: Start, watch: Watch
) -> None:
    watch.allow("ERR_|failed:")
    start("desk", "restarted", title="Coffee")
    page.goto("?run=restarted")
    expect(facts(page)).to_contain_text("Live")

    server.terminate()
    expect(facts(page)).to_contain_text("Reconnecting")
    server.start()
    expect(facts(page)).to_contain_text("Live", timeout=30_000)

    page.locator(".prompt").get_by_label("Yes").check()
    page.get_by_role("button", name="Answer").click()
    expect(facts(page)).to_contain_text("completed")
    sequences = page.evaluate(
        "() => [...document.querySelectorAll('.wf-log-sequence')].map((one) => Number(one.textContent))"
    )
    assert sequences == sorted(set(sequences))


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_a_server_that_lets_nobody_follow_says_why(page: Page, start: Start, watch: Watch, transport: str) -> None:
    watch.allow("503|WebSocket")
    start("desk", f"unfollowed-{transport}", title="Tea")
    detail = "Streams need the ASGI application"
    if transport == "websocket":

        def refuse(socket: WebSocketRoute) -> None:
            socket.send(json.dumps({"type": "error", "id": None, "status": 503, "detail": detail}))
            socket.close(code=4503, reason=detail)

        page.route_web_socket(re.compile("/ws/events/"), refuse)
    else:
        page.add_init_script("WebSocket = class { constructor() { throw new Error('none') } }")
        answer = {"status": 503, "json": {"detail": detail}}
        page.route(re.compile("/events/unfollowed"), lambda route: route.fulfill(**answer))
    page.goto(f"?run=unfollowed-{transport}")

    said = f"The run cannot be followed at present: {detail}. It is tried again by itself."
    told = page.locator("main").get_by_text(said)
    expect(told).to_be_visible()
    expect(facts(page)).to_contain_text("Reconnecting")
    if transport == "sse":
        page.unroute(re.compile("/events/unfollowed"))
        expect(facts(page)).to_contain_text("Live", timeout=30_000)
        expect(told).to_have_count(0)


# --- answers -----------------------------------------------------------------------------------------------


def test_a_question_and_its_form_come_up_by_themselves(page: Page, start: Start) -> None:
    start("desk", "asked", title="Tea")
    page.goto("?run=asked")
    prompt = page.locator(".prompt")

    expect(facts(page)).to_contain_text("waiting")
    expect(prompt.get_by_role("heading")).to_have_text("Publish “Tea”?")
    expect(prompt).to_contain_text("words: 3")
    prompt.get_by_label("Yes").check()
    prompt.get_by_label("Note").fill("well done")
    prompt.get_by_role("button", name="Answer").click()

    expect(page.get_by_text("Decision is sent")).to_be_visible()
    expect(prompt).to_be_hidden()
    expect(page.get_by_role("region", name="Result")).to_contain_text("well done")


def test_an_answer_that_nobody_has_chosen_is_not_sent(page: Page, start: Start) -> None:
    start("desk", "unchosen", title="Tea")
    page.goto("?run=unchosen")
    prompt = page.locator(".prompt")
    prompt.get_by_role("button", name="Answer").click()

    approve = prompt.get_by_role("radiogroup", name="Approve")
    expect(approve).to_have_accessible_description("This is required.")
    expect(approve.get_by_label("Yes")).to_be_focused()
    expect(facts(page)).to_contain_text("waiting")
    approve.get_by_label("No").check()
    prompt.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("region", name="Result")).to_contain_text("approved: false")


def test_the_prompt_of_a_plain_question_has_a_field_for_the_response(page: Page, start: Start) -> None:
    start("ask", "plain")
    page.goto("?run=plain")

    expect(page.get_by_role("heading", name="What is your name?")).to_be_visible()
    page.locator(".prompt").get_by_label("Response").fill("Grace")
    page.get_by_role("button", name="Answer").click()

    expect(page.get_by_role("region", name="Result")).to_contain_text("Hello, Grace!")


def test_an_answer_that_does_not_fit_is_said_by_its_field(page: Page, start: Start, watch: Watch) -> None:
    watch.allow("400")
    start("desk", "picky", title="Tea")
    page.goto("?run=picky")
    prompt = page.locator(".prompt")
    prompt.get_by_role("button", name="JSON").click()
    prompt.get_by_label("JSON", exact=True).fill('{"approve": "perhaps"}')
    prompt.get_by_role("button", name="Answer").click()

    expect(prompt.get_by_role("alert")).to_contain_text("boolean")
    expect(facts(page)).to_contain_text("waiting")


def test_a_refusal_that_names_no_field_is_told_in_its_words(page: Page, start: Start, watch: Watch) -> None:
    watch.allow("400")
    start("desk", "no-field", title="Tea")
    page.goto("?run=no-field")
    prompt = page.locator(".prompt")
    prompt.get_by_role("button", name="JSON").click()
    prompt.get_by_label("JSON", exact=True).fill("[1]")
    prompt.get_by_role("button", name="Answer").click()

    expect(prompt.get_by_role("alert").locator("p")).to_have_count(1)
    expect(prompt.get_by_role("alert")).to_contain_text("Failed to deserialize event")


def test_an_answer_that_cannot_be_sent_is_said_and_can_be_sent_again(
    page: Page, start: Start, watch: Watch, context: BrowserContext
) -> None:
    watch.allow("ERR_INTERNET_DISCONNECTED")
    start("desk", "offline", title="Tea")
    page.goto("?run=offline")
    prompt = page.locator(".prompt")
    prompt.get_by_label("Yes").check()
    context.set_offline(True)
    try:
        # What looks at the form before the server does has not been loaded yet.
        prompt.get_by_role("button", name="Answer").click()
        expect(prompt.get_by_role("alert")).to_contain_text("The server does not answer")
    finally:
        context.set_offline(False)

    prompt.get_by_role("button", name="Answer").click()
    expect(facts(page)).to_contain_text("completed")


def test_a_refusal_is_told_although_its_words_cannot_be_loaded(page: Page, start: Start, watch: Watch) -> None:
    watch.allow("400|errors.*js|ERR_FAILED")
    page.route("**/debugger/errors*.js", lambda route: route.abort())
    start("desk", "wordless", title="Tea")
    page.goto("?run=wordless")
    prompt = page.locator(".prompt")
    prompt.get_by_role("button", name="JSON").click()
    prompt.get_by_label("JSON", exact=True).fill("[1]")
    prompt.get_by_role("button", name="Answer").click()

    expect(prompt.get_by_role("alert")).to_contain_text("The server refused this (400). Check your connection")


def test_any_event_can_be_sent_from_the_tab(page: Page, start: Start) -> None:
    start("desk", "sent", title="Tea")
    page.goto("?run=sent&tab=answer")
    panel = page.get_by_role("tabpanel", name="Send event")

    expect(panel.get_by_label("Event")).to_have_value("Decision")
    panel.get_by_label("For").select_option("decide")
    panel.get_by_label("Yes").check()
    panel.get_by_role("button", name="Send event").click()

    expect(facts(page)).to_contain_text("completed")
    expect(panel).to_contain_text("The run has ended")


def test_a_run_is_started_and_answered_without_a_mouse(page: Page) -> None:
    page.goto("?workflow=desk")
    page.locator("form.wf-form").get_by_label("Title").focus()
    page.keyboard.type("Tea")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Publish “Tea”?")).to_be_visible()

    def reach(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            found = page.evaluate(
                """() => {
                  const here = document.activeElement;
                  return here.closest(".prompt") && (here.labels?.[0] ?? here).textContent;
                }"""
            )
            if name in (found or ""):
                return
        raise AssertionError(f"{name} cannot be reached")

    reach("Yes")
    page.keyboard.press("Space")
    reach("Answer")
    page.keyboard.press("Enter")

    expect(facts(page)).to_contain_text("completed")
    expect(page.get_by_role("region", name="Result")).to_contain_text("approved: true")


def test_tabs_go_with_the_arrow_keys(page: Page, finish: Start) -> None:
    finish("notes", "tabbed", words=["a"])
    page.goto("?run=tabbed")
    page.get_by_role("tab", name="Events").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Timeline")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Timeline")).to_be_visible()
    page.keyboard.press("End")
    expect(page.get_by_role("tabpanel", name="Input")).to_be_visible()
    assert page.url.endswith("tab=input")


# --- the log -----------------------------------------------------------------------------------------------


def test_events_are_filtered_by_type_and_text_and_the_engines_hidden(page: Page, finish: Start) -> None:
    finish("fan", "filtered", parts=3, delay=0)
    page.goto("?run=filtered")
    panel = page.get_by_role("tabpanel", name="Events")
    expect(panel).to_contain_text("StepStateChanged")

    panel.get_by_label("Engine").uncheck()
    expect(rows(page)).to_have_count(4)
    panel.get_by_label("Filter by text").fill("part 1")
    expect(rows(page)).to_have_count(1)
    expect(count(page)).to_contain_text("1 of")
    panel.get_by_label("Filter by text").fill("")
    panel.get_by_label("Type").select_option("StopEvent")
    expect(rows(page)).to_have_count(1)
    panel.get_by_label("Filter by text").fill("nothing like it")
    expect(panel).to_contain_text("No event matches")


def test_an_event_unfolds_and_its_step_is_highlighted_and_the_link_says_so(page: Page, finish: Start) -> None:
    finish("fan", "selected", parts=2, delay=0)
    page.goto("?run=selected")
    rows(page).filter(has_text="work running").first.click()

    expect(node(page, "work")).to_have_class(re.compile("is-selected"))
    selected = page.locator("[role=row][aria-selected=true]")
    expect(selected).to_contain_text("input_event_name")
    assert re.search(r"event=\d+", page.url)

    # Who gets the link sees the same.
    link = page.url
    other = page.context.new_page()
    other.goto(link)
    expect(node(other, "work")).to_have_class(re.compile("is-selected"))
    expect(other.locator("[role=row][aria-selected=true]")).to_contain_text("work running")
    other.close()


def test_a_step_that_is_chosen_highlights_its_event(page: Page, finish: Start) -> None:
    finish("fan", "step-chosen", parts=2, delay=0)
    page.goto("?run=step-chosen")
    expect(node(page, "collect")).to_have_class(re.compile("is-done"))
    node(page, "collect").click()

    expect(page.locator("[aria-selected=true][role=row]")).to_contain_text("collect")
    assert "step=collect" in page.url


def test_the_log_is_copied_and_saved_as_ndjson(page: Page, finish: Start, api: httpx.Client) -> None:
    finish("fan", "taken-along", parts=2, delay=0)
    page.goto("?run=taken-along")
    expect(page.get_by_role("tabpanel", name="Events")).to_contain_text("StopEvent")
    page.get_by_role("button", name="Copy all events").click()
    copied = page.evaluate("() => navigator.clipboard.readText()")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all events").click()

    saved = download.value.path().read_text()
    assert download.value.suggested_filename == "taken-along.ndjson"
    assert saved.strip() == copied.strip()
    found = [json.loads(line) for line in saved.splitlines()]
    stored = api.get("/handlers/taken-along/events").json()["events"]
    assert [one["sequence"] for one in found] == [one["sequence"] for one in stored]


def test_ten_thousand_events_stay_smooth(page: Page, finish: Start) -> None:
    finish("talk", "many", count=10_000)
    page.goto("?run=many")
    panel = page.get_by_role("tabpanel", name="Events")
    expect(count(page)).to_have_text(re.compile("^100\\d\\d$"))

    assert rows(page).count() < 120
    slowest = page.evaluate(
        """async () => {
          const list = document.querySelector(".wf-log");
          let last = performance.now(), slowest = 0;
          for (let step = 0; step < 60; step += 1) {
            list.scrollTop = (list.scrollHeight * step) / 60;
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            slowest = Math.max(slowest, now - last);
            last = now;
          }
          return slowest;
        }"""
    )
    # A frame, on a machine that does other things as well.
    assert slowest < 250
    panel.get_by_label("Filter by text").fill("word 9999")
    expect(count(page)).to_contain_text("1 of")


# --- state and timeline ------------------------------------------------------------------------------------


def test_the_state_is_shown_and_follows_the_run(page: Page, start: Start, api: httpx.Client) -> None:
    start("desk", "state-1", title="Tea", tags=["x"])
    page.goto("?run=state-1&tab=state")
    panel = page.get_by_role("tabpanel", name="State")
    expect(panel).to_contain_text('stage: "proposed"')

    api.post("/events/state-1", json={"event": {"type": "Decision", "value": {"approve": True}}})

    expect(panel).to_contain_text('stage: "decided"')


def test_a_run_without_state_says_so(page: Page, finish: Start) -> None:
    finish("fan", "stateless", parts=1, delay=0)
    page.goto("?run=stateless&tab=state")

    expect(page.get_by_role("tabpanel", name="State")).to_contain_text("No state yet")


def test_the_timeline_has_a_lane_for_each_step_and_a_bar_for_each_execution(page: Page, finish: Start) -> None:
    finish("fan", "timed", parts=5, delay=0.1)
    page.goto("?run=timed&tab=timeline")
    panel = page.get_by_role("tabpanel", name="Timeline")

    expect(panel.get_by_role("button", name=re.compile("^work ·"))).to_have_count(5)
    expect(panel.get_by_role("button", name=re.compile("^split ·"))).to_have_count(1)
    panel.get_by_role("button", name=re.compile("^work ·")).first.click()
    expect(node(page, "work")).to_have_class(re.compile("is-selected"))
    assert "event=" in page.url


# --- what is done with a run -------------------------------------------------------------------------------


def test_a_run_is_cancelled_after_asking(page: Page, start: Start) -> None:
    start("sleep", "cancelled")
    page.goto("?run=cancelled")
    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.get_by_role("dialog", name="Cancel this run?")
    dialog.get_by_role("button", name="Keep it").click()
    expect(facts(page)).to_contain_text("running")

    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog.get_by_role("button", name="Cancel the run").click()

    expect(facts(page)).to_contain_text("cancelled")


def test_a_run_is_deleted_after_asking(page: Page, finish: Start, api: httpx.Client) -> None:
    finish("notes", "deleted", words=["a"])
    page.goto("?run=deleted")
    page.get_by_role("button", name="Delete…").click()
    dialog = page.get_by_role("dialog", name="Delete this run?")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert api.get("/handlers/deleted").status_code == 200

    page.get_by_role("button", name="Delete…").click()
    dialog.get_by_role("button", name="Delete the run").click()

    expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()
    assert api.get("/handlers/deleted").status_code == 404


def test_a_run_is_run_again_with_the_same_input(page: Page, finish: Start) -> None:
    finish("notes", "first-time", words=["a", "b"])
    page.goto("?run=first-time")
    page.get_by_role("button", name="Run again", exact=True).click()

    expect(page).not_to_have_url(re.compile("first-time"))
    expect(facts(page)).to_contain_text("completed")
    page.get_by_role("tab", name="Input").click()
    expect(page.get_by_role("tabpanel", name="Input")).to_contain_text('"b"')


def test_a_run_is_run_again_with_its_input_changed(page: Page, finish: Start) -> None:
    finish("order", "ordered", name="Ada", amount=4, address={"street": "Hill 1"})
    page.goto("?run=ordered")
    page.get_by_role("link", name="Edit and run…").click()
    form = page.locator("form.wf-form")
    expect(form.get_by_label("Name")).to_have_value("Ada")
    expect(form.get_by_label("Amount")).to_have_value("4")
    form.get_by_label("Name").fill("Grace")
    form.get_by_role("button", name="Run again").click()

    expect(facts(page)).to_contain_text("completed")
    page.get_by_role("tab", name="Input").click()
    expect(page.get_by_role("tabpanel", name="Input")).to_contain_text('"Grace"')
    expect(page.get_by_role("tabpanel", name="Input")).to_contain_text("amount: 4")


def test_a_handler_that_is_continued_is_shown_anew(page: Page, finish: Start, start: Start) -> None:
    finish("notes", "continued", words=["first"])
    page.goto("?run=continued&tab=input")
    expect(page.get_by_role("tabpanel", name="Input")).to_contain_text('"first"')

    start("notes", "continued", words=["second"])
    page.reload()

    expect(page.get_by_role("tabpanel", name="Input")).to_contain_text('"second"')
    expect(facts(page)).to_contain_text("completed")


@pytest.mark.parametrize("hostile", ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"])
def test_what_a_run_says_is_text_and_never_markup(page: Page, finish: Start, hostile: str) -> None:
    handler = f"hostile-{len(hostile)}"
    finish("notes", handler, words=[hostile])
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    for tab in ("events", "state", "input"):
        page.goto(f"?run={handler}&tab={tab}")
        expect(facts(page)).to_contain_text("completed")
    expect(page.get_by_role("tabpanel", name="Input")).to_contain_text(hostile.partition(">")[0])
    assert page.locator("main img, main script").count() == 0
