"""What is done with runs from the admin goes through the service, says what happened, and is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from django_workflows import leases, mailbox
from django_workflows.mailbox import Letter
from django_workflows.models import Event, Handler, Message, Tick
from tests.admin.people import ORDER, PLACE, a_printing, a_question, an_event, everything, texts
from tests.storage import end, race


def log() -> list[tuple[str, str, str]]:
    return [
        (entry.user.username, entry.object_repr, entry.get_change_message())
        for entry in LogEntry.objects.order_by("pk")
    ]


# --- cancel ----------------------------------------------------------------------------------------------


def test_cancel_a_run() -> None:
    handler = a_printing("one")

    response = everything().post(f"{PLACE}{handler.pk}/cancel/")

    assert response.headers["Location"] == f"{PLACE}{handler.pk}/change/"
    assert Message.objects.get().kind == "cancel"
    assert texts(response) == ["1 run is being cancelled."]
    assert log() == [("ada", "one", "Cancelled.")]


def test_a_run_that_has_ended_meanwhile_is_no_error() -> None:
    handler = a_printing("one")
    end(handler)

    response = everything().post(f"{PLACE}{handler.pk}/cancel/")

    assert response.status_code == 302
    assert texts(response) == ["1 run was left as it is: The run has ended meanwhile. (one)"]
    assert log() == []


@pytest.mark.parametrize("verb", ["change", "cancel", "answer", "again", "purge"])
def test_a_run_that_is_gone_is_no_error(verb: str) -> None:
    response = everything().post(f"{PLACE}77/{verb}/", {"confirmed": "1"})

    assert response.status_code == 302
    assert "exist" in texts(response)[0]


def test_cancel_many() -> None:
    runs = [a_printing(f"run{number}") for number in range(3)]
    end(runs[1])

    response = everything().post(
        PLACE, {"action": "cancel_selected", "_selected_action": [run.pk for run in runs]}
    )

    assert set(Message.objects.values_list("handler__handler_id", flat=True)) == {"run0", "run2"}
    assert texts(response) == [
        "2 runs are being cancelled.",
        "1 run was left as it is: The run has ended meanwhile. (run1)",
    ]


# --- run again, start ------------------------------------------------------------------------------------


def test_run_again_with_the_same_input() -> None:
    runs = [a_printing("old"), a_printing("gone", workflow_name="no-longer-served")]
    client = everything()

    response = client.post(PLACE, {"action": "run_again_selected", "_selected_action": [run.pk for run in runs]})

    new = Handler.objects.exclude(handler_id__in=["old", "gone"]).get()
    assert json.loads(new.start_event)["value"]["title"] == "Invitation"
    assert (new.workflow_name, new.owner.username) == ("print", "ada")
    assert texts(response) == [
        "1 run was started.",
        "1 run was left as it is: Workflow not found (gone)",
    ]
    assert log() == [("ada", new.handler_id, "Started with the input of old.")]


def test_run_again_with_another_input() -> None:
    handler = a_printing("old")
    client = everything()
    page = client.get(f"{PLACE}{handler.pk}/again/")
    assert 'value="Invitation"' in page.content.decode()
    form = page.context["form"]
    data = {form.add_prefix(name): field.initial or "" for name, field in form.fields.items()}
    data |= {"Order-title": "Menu", "Order-tags": "[]", "handler_id": page.context["handler_id"]}

    response = client.post(f"{PLACE}{handler.pk}/again/", data)

    new = Handler.objects.exclude(pk=handler.pk).get()
    assert response.headers["Location"] == f"{PLACE}{new.pk}/change/"
    assert (
        json.loads(new.start_event)["value"] | {"title": "Menu", "copies": 3, "signed": True}
        == json.loads(new.start_event)["value"]
    )
    assert log() == [("ada", new.handler_id, "Started from the input of old.")]


def test_an_input_that_cannot_be_read_any_more_begins_with_an_empty_form() -> None:
    handler = a_printing("old", start_event='{"nonsense": 1}')

    page = everything().get(f"{PLACE}{handler.pk}/again/")

    assert page.status_code == 200
    assert "cannot be read" in page.content.decode()
    assert 'value="Invitation"' not in page.content.decode()


def test_start_a_run() -> None:
    client = everything()
    assert "start/print/" in client.get(f"{PLACE}start/").content.decode()
    page = client.get(f"{PLACE}start/bake/")
    data = {"Fragile-reason": "too hot", "handler_id": page.context["handler_id"]}

    response = client.post(f"{PLACE}start/bake/", data)

    started = Handler.objects.get()
    assert json.loads(started.start_event)["value"] == {"reason": "too hot"}
    assert started.owner.username == "ada"
    assert started.handler_id == page.context["handler_id"]
    assert log() == [("ada", started.handler_id, "Started.")]

    # The button is pressed twice.
    again = client.post(f"{PLACE}start/bake/", data)
    assert again.headers["Location"] == response.headers["Location"]
    assert "This run was started already." in texts(again)
    assert Handler.objects.count() == 1


def test_a_start_that_does_not_fit_says_so_by_the_field() -> None:
    page = everything().post(f"{PLACE}start/print/", {"Order-title": "lower case", "Order-signed": "true"})

    assert page.status_code == 200
    assert page.context["form"].errors["title"] == ["a title begins with a capital letter"]
    assert not Handler.objects.exists()


def test_a_handler_id_from_a_crafted_form_is_checked() -> None:
    page = everything().post(f"{PLACE}start/bake/", {"Fragile-reason": "x", "handler_id": "a/b"})

    assert page.status_code == 200
    assert "handler_id" in str(page.context["form"].non_field_errors())
    assert not Handler.objects.exists()


def test_what_no_page_and_no_database_can_hold_is_replaced() -> None:
    half = ORDER.replace("Invitation", r"half \ud800")
    handler = a_printing("old", start_event=half)
    client = everything()
    assert "half \ufffd" in client.get(f"{PLACE}{handler.pk}/change/").content.decode()
    assert client.get(f"{PLACE}{handler.pk}/again/").status_code == 200
    assert client.post(f"{PLACE}start/bake/", {"Fragile-reason": "x", "handler_id": "a\x00b"}).status_code == 200

    asked = a_question("q")
    answer = {"event": "Remark", "position": "1.0", "Remark-text": "a\ud800b".encode("utf-8", "replace").decode()}
    assert client.post(f"{PLACE}{asked.pk}/answer/", answer).status_code == 302


def test_what_is_not_served_cannot_be_started() -> None:
    assert everything().get(f"{PLACE}start/nothing/").status_code == 404


# --- purge -----------------------------------------------------------------------------------------------


def test_purge_says_what_would_be_gone_and_then_deletes_it() -> None:
    ended, running = a_printing("ended"), a_printing("running")
    for number in range(3):
        an_event(ended, number, "Progress")
    end(ended)
    client = everything()
    selected = {"action": "purge_selected", "_selected_action": [ended.pk, running.pk]}

    page = client.post(PLACE, selected)

    text = " ".join(page.content.decode().split())
    assert page.status_code == 200
    assert "These 2 runs will be deleted" in text
    assert "3 events" in text
    assert "1 run is under way" in text
    assert Handler.objects.count() == 2

    response = client.post(PLACE, {**selected, "confirmed": "1"})
    assert texts(response) == ["2 runs were deleted."]
    assert not Handler.objects.exists()
    assert not Event.objects.exists()
    assert not Tick.objects.exists()
    assert {entry[1] for entry in log()} == {"ended", "running"}


def test_purge_one() -> None:
    handler = a_printing("one")
    client = everything()
    assert "This run will be deleted" in client.get(f"{PLACE}{handler.pk}/purge/").content.decode()
    client.post(f"{PLACE}{handler.pk}/purge/")
    assert Handler.objects.exists(), "not before it is confirmed"

    response = client.post(f"{PLACE}{handler.pk}/purge/", {"confirmed": "1"})

    assert response.headers["Location"] == PLACE
    assert not Handler.objects.exists()


# --- answer ----------------------------------------------------------------------------------------------


def an_answer(handler: Handler, **fields: Any) -> dict[str, Any]:
    return {"event": "Decision", "position": f"{handler.run}.0", "Decision-approve": "true", **fields}


def test_answer_a_question() -> None:
    handler = a_question("q")

    response = everything().post(
        f"{PLACE}{handler.pk}/answer/?from=inbox", an_answer(handler, **{"Decision-note": "Fine."})
    )

    assert response.headers["Location"] == f"{PLACE}inbox/"
    message = Message.objects.get()
    assert json.loads(message.data)["value"] == {"approve": True, "note": "Fine."}
    assert json.loads(message.data)["qualified_name"].endswith("Decision")
    assert texts(response) == ["Your answer to q is sent."]
    assert log() == [("ada", "q", 'Answered Decision: {"approve": true, "note": "Fine."}')]


def test_an_answer_with_another_event() -> None:
    handler = a_question("q")
    client = everything()
    assert "event=Remark" in client.get(f"{PLACE}{handler.pk}/answer/").content.decode()

    client.post(
        f"{PLACE}{handler.pk}/answer/", {"event": "Remark", "position": "1.0", "Remark-text": "Not so fast"}
    )

    assert json.loads(Message.objects.get().data)["value"] == {"text": "Not so fast"}


def test_a_long_answer_is_kept_short() -> None:
    handler = a_question("q")

    everything().post(f"{PLACE}{handler.pk}/answer/", an_answer(handler, **{"Decision-note": "x" * 5000}))

    assert len(json.loads(Message.objects.get().data)["value"]["note"]) == 5000
    assert len(log()[0][2]) < 1100


def test_an_answer_that_does_not_fit_says_so_and_sends_nothing() -> None:
    handler = a_question("q")

    page = everything().post(f"{PLACE}{handler.pk}/answer/", {"event": "Decision", "position": "1.0"})

    assert page.status_code == 200
    assert page.context["form"].errors["approve"] == ["This field is required."]
    assert "Shall it be printed?" in page.content.decode()
    assert not Message.objects.exists()


def test_the_second_answer_is_told_that_it_comes_too_late() -> None:
    handler = a_question("q")
    where = f"{PLACE}{handler.pk}/answer/"
    everything().post(where, an_answer(handler))

    page = everything("bob").post(where, an_answer(handler, **{"Decision-note": "mine"}))

    assert page.status_code == 200
    assert "Somebody has answered this question meanwhile" in page.content.decode()
    assert "mine" in page.content.decode(), "what was written is still there"
    assert Message.objects.count() == 1
    assert [entry[0] for entry in log()] == ["ada"]


def test_an_answer_to_a_question_that_has_been_answered_and_asked_anew() -> None:
    from django_workflows import journal
    from django_workflows.journal import TickEntry

    handler = a_question("q")
    journal.append([(leases.of(handler), TickEntry(1, "{}"))])

    page = everything().post(f"{PLACE}{handler.pk}/answer/", an_answer(handler))

    assert "Somebody has answered" in page.content.decode()
    assert not Message.objects.exists()
    assert page.context["position"] == "1.1", "to answer the new question, one has to press again"


def test_a_question_stays_the_same_when_another_process_takes_the_run_over() -> None:
    handler = a_question("q")
    Handler.objects.filter(pk=handler.pk).update(idle_since=None, fence=2)

    everything().post(f"{PLACE}{handler.pk}/answer/", an_answer(handler))

    assert Message.objects.count() == 1


def test_two_people_answer_at_the_same_moment() -> None:
    handler = a_question("q")
    clients = [everything("ada"), everything("bob")]

    pages = race(
        *(lambda one=one: one.post(f"{PLACE}{handler.pk}/answer/", an_answer(handler)) for one in clients)
    )

    assert sorted(page.status_code for page in pages) == [200, 302]
    assert Message.objects.count() == 1
    assert len(log()) == 1


def test_an_answer_to_a_run_that_has_ended() -> None:
    handler = a_question("q")
    end(handler)

    response = everything().post(f"{PLACE}{handler.pk}/answer/", an_answer(handler))

    assert response.status_code == 302
    assert texts(response) == ["The run has ended meanwhile."]


def test_a_run_whose_workflow_is_no_longer_served_cannot_be_answered() -> None:
    handler = a_question("q", workflow_name="gone")
    client = everything()

    assert client.post(f"{PLACE}{handler.pk}/answer/", an_answer(handler)).status_code == 302
    assert "knows no event that answers it" in client.get(f"{PLACE}inbox/").content.decode()
    assert not Message.objects.exists()


def test_mail_that_was_consumed_is_not_on_its_way() -> None:
    handler = a_question("q")
    mailbox.post(Letter(handler.pk, handler.run, Message.Kind.EVENT, "{}"))
    from django.utils import timezone

    Message.objects.update(consumed_at=timezone.now())

    response = everything().post(f"{PLACE}{handler.pk}/answer/", an_answer(handler))

    assert response.status_code == 302
    assert Message.objects.filter(consumed_at=None).count() == 1
