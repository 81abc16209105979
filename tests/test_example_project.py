"""The example project: how it reads and summarises, and its workflows in the engine's own memory."""

import asyncio
import io
import runpy
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, connections
from hypothesis import given
from hypothesis import strategies as st
from workflows import Context
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StepState, StepStateChanged

from django_workflows import registry
from django_workflows.database import ManagedExecutor
from example_project import digest_client
from example_project.newsroom import digest, summaries
from example_project.newsroom.digest import (
    ApprovalRequired,
    DigestFinished,
    DigestRequested,
    DigestWorkflow,
    Document,
    DraftComposed,
    EditorDecision,
    Summary,
)
from example_project.newsroom.events import Progress
from example_project.newsroom.models import Entry, Issue, ProcessedItem
from example_project.newsroom.workflows import (
    Greet,
    Greeted,
    GreetWorkflow,
    ProcessItems,
    ProcessItemsWorkflow,
    ask_name,
)

with_database = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def engine() -> AsyncIterator[None]:
    """Run steps in threads that close their connections, as the durable runtime does."""
    executor = ManagedExecutor(4)
    asyncio.get_running_loop().set_default_executor(executor)
    yield
    await sync_to_async(connections.close_all)()


# --- the site --------------------------------------------------------------------------------------------


def test_its_four_workflows_can_be_served(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = runpy.run_module("example_project.settings")["DJANGO_WORKFLOWS"]
    assert sorted(registry.names()) == ["ask_name", "digest", "greet", "process_items"]
    assert registry.problems() == []
    assert "EditorDecision" in registry.get("digest").events
    assert "HumanResponseEvent" in registry.get("ask_name").events


def test_a_run_that_waits_for_a_person_has_no_time_limit(settings: Any) -> None:
    settings.DJANGO_WORKFLOWS = runpy.run_module("example_project.settings")["DJANGO_WORKFLOWS"]
    for name in ("ask_name", "digest", "process_items"):
        assert registry.get(name).workflow._timeout is None


def test_the_api_is_open_only_while_developing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEBUG", raising=False)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    developing = runpy.run_module("example_project.settings")
    assert developing["DEBUG"]
    assert "AllowAny" in str(developing["REST_FRAMEWORK"])

    monkeypatch.setenv("DEBUG", "0")
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY"):
        runpy.run_module("example_project.settings")
    monkeypatch.setenv("SECRET_KEY", "a secret")
    deployed = runpy.run_module("example_project.settings")
    assert not deployed["DEBUG"]
    assert "AllowAny" not in str(deployed["REST_FRAMEWORK"])


def test_the_database_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_VENDOR", "postgresql")
    monkeypatch.setenv("DATABASE_NAME", "news")
    monkeypatch.setenv("PGHOST", "db.example.org")
    database = runpy.run_module("example_project.settings")["DATABASES"]["default"]
    assert database["ENGINE"].endswith("postgresql")
    assert (database["NAME"], database["HOST"]) == ("news", "db.example.org")


@pytest.mark.django_db
def test_the_migrations_are_complete() -> None:
    call_command("makemigrations", "newsroom", "--check", "--dry-run", verbosity=0)


# --- summaries -------------------------------------------------------------------------------------------

MARKDOWN = """\
# A heading

Some *text* with **emphasis**, `code` and [a link](https://example.org/page).
It goes on with snake_case and 2 * 3.

```python
# Not a heading. Not a sentence.
```

| a | table |

- One item.
- Another item.

    indented code
"""


def test_markdown_is_reduced_to_its_prose() -> None:
    text = summaries.plain_text(MARKDOWN)
    assert " ".join(text.split()) == (
        "Some text with emphasis, code and a link. It goes on with snake_case and 2 * 3. One item. Another item."
    )


def test_a_heading_is_not_taken_from_a_code_block() -> None:
    assert summaries.heading(MARKDOWN) == "A heading"
    assert summaries.heading("```\n# comment\n```\n\ntext") is None
    assert summaries.heading("text\n\n# Closed #") == "Closed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It costs 3.50 a day, e.g. On Sundays. Yes.", ["It costs 3.50 a day, e.g. On Sundays.", "Yes."]),
        ("Dr. A. Turing wrote it. He knew.", ["Dr. A. Turing wrote it.", "He knew."]),
        ('"Stop." (He did.) "Why?"', ['"Stop."', "(He did.)", '"Why?"']),
        ("version 1.2 of foo.py. It works", ["version 1.2 of foo.py.", "It works"]),
        ("One\nline\n\nanother paragraph", ["One line", "another paragraph"]),
        ("Größer. Österreich. Ähnlich.", ["Größer.", "Österreich.", "Ähnlich."]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    assert list(summaries.split_sentences(text)) == expected


def test_words_that_say_nothing_are_left_out() -> None:
    assert summaries.words("The Editors' re-read it: it isn't a well-known café, 42 times.") == [
        "editors",
        "re-read",
        "isn't",
        "well-known",
        "café",
        "times",
    ]


def test_a_word_is_the_rarer_the_fewer_documents_have_it() -> None:
    documents = [summaries.analyse(text) for text in ("common rare", "common frequent", "common frequent")]
    rare = summaries.rarity(documents)
    assert rare["common"] == 1 < rare["frequent"] < rare["rare"]


RIVER = """\
Tickets for the whole family cost as much as they did last year. A car park and a playground lie nearby.
The museum of the river opens its doors on Monday morning. Boats are shown by the river museum, for boats were
what the river lived from. Nobody was there to see it open. The museum of the river opens its doors again on
Monday morning. Zyzzyva!
"""
ROAD = """\
Tickets for the whole family cost as much as they did last year. A car park and a playground lie nearby.
The road to the north opens on Monday morning. Nobody was there to see it open.
"""


def summary(text: str, count: int, *others: str) -> list[str]:
    document = summaries.analyse(text)
    rare = summaries.rarity([document, *(summaries.analyse(other) for other in others)])
    return summaries.summarise(document, rare, count)


def test_a_summary_quotes_what_is_particular_to_the_document_in_its_order() -> None:
    assert summary(RIVER, 2, ROAD) == [
        "The museum of the river opens its doors on Monday morning.",
        "Boats are shown by the river museum, for boats were what the river lived from.",
    ]


def test_what_every_document_says_is_quoted_only_where_there_is_one() -> None:
    common = "All figures in this yearly report are thousands of Danish crowns."
    report = f"{common} Volcanoes near the northern village erupted in autumn."
    assert summary(report, 1) == [common]
    assert summary(report, 1, common, common, common) == ["Volcanoes near the northern village erupted in autumn."]


def test_a_summary_does_not_say_the_same_twice() -> None:
    chosen = summary(RIVER, 10, ROAD)
    assert "The museum of the river opens its doors again on Monday morning." not in chosen
    assert chosen == sorted(chosen, key=RIVER.replace("\n", " ").index)


def test_fragments_are_quoted_only_where_there_is_nothing_else() -> None:
    assert summary("Release notes and thanks\n\nThe parser now reads nested lists correctly.", 5) == [
        "The parser now reads nested lists correctly."
    ]
    assert summary("Release notes and thanks", 5) == ["Release notes and thanks"]
    assert summary("# Only a heading", 5) == []


@given(st.lists(st.text() | st.just(MARKDOWN) | st.just(RIVER), min_size=1), st.integers(1, 5))
def test_any_text_can_be_summarised(texts: list[str], count: int) -> None:
    documents = [summaries.analyse(text) for text in texts]
    rare = summaries.rarity(documents)
    for document in documents:
        chosen = summaries.summarise(document, rare, count)
        assert len(chosen) <= count
        assert bool(chosen) == bool(document)
        remaining = iter(sentence.text for sentence in document)
        assert all(text in remaining for text in chosen), "not in the document's order"


@pytest.mark.parametrize("unit", ["[", "<", "*", ".", "a. ", "- ", "# ", " ", "\n", "\n> ", "```\n", "x "])
def test_a_hostile_text_takes_no_longer_than_another(unit: str) -> None:
    begun = time.process_time()
    document = summaries.analyse(unit * (200_000 // len(unit)))
    summaries.summarise(document, summaries.rarity([document]), 3)
    assert time.process_time() - begun < 5, "an expression goes over the text again and again"


# --- greet and ask_name ------------------------------------------------------------------------------------


async def test_greet_greets() -> None:
    run = GreetWorkflow().run(start_event=Greet(name="Ada"))
    seen = [event async for event in run.stream_events()]
    assert [type(event) for event in seen] == [Progress, Greeted]
    assert (await run).greeting == "Hello, Ada!"
    assert (await GreetWorkflow().run(start_event=Greet())).greeting == "Hello, world!"


async def test_ask_name_asks_and_uses_the_answer() -> None:
    run = ask_name().run()
    async for event in run.stream_events():
        if isinstance(event, InputRequiredEvent):
            run.ctx.send_event(HumanResponseEvent(response="Ada"))
    assert await run == "Hello, Ada!"


# --- process_items -----------------------------------------------------------------------------------------


async def rows() -> list[tuple[int, str]]:
    found = ProcessedItem.objects.order_by("position").values_list("position", "label")
    return [row async for row in found]


@with_database
@pytest.mark.usefixtures("engine")
async def test_items_are_processed_in_order() -> None:
    run = ProcessItemsWorkflow().run(start_event=ProcessItems(todo=["a", "b", "a"], delay=0))
    seen = [event.done async for event in run.stream_events() if isinstance(event, Progress)]
    assert seen == [1, 2, 3]
    assert await run == ["a", "b", "a"]
    assert await rows() == [(0, "a"), (1, "b"), (2, "a")]


@with_database
@pytest.mark.usefixtures("engine")
async def test_an_interrupted_run_processes_the_items_that_are_left() -> None:
    workflow = ProcessItemsWorkflow()
    run = workflow.run(start_event=ProcessItems(todo=list("abcde"), delay=0.05))
    async for event in run.stream_events():
        if isinstance(event, Progress) and event.done == 2:
            break
    snapshot = run.ctx.to_dict()
    await run.cancel_run()
    before = {item.pk async for item in ProcessedItem.objects.all()}

    again = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    seen = [event.done async for event in again.stream_events() if isinstance(event, Progress)]
    assert seen == [3, 4, 5]
    assert await again == list("abcde")
    assert await rows() == list(enumerate("abcde"))
    assert before <= {item.pk async for item in ProcessedItem.objects.all()}


@with_database
@pytest.mark.usefixtures("engine")
async def test_an_item_whose_row_was_written_before_the_crash_gets_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The crash falls between the row and the state: the step fails there once, and is repeated.
    create, failures = ProcessedItem.objects.aget_or_create, [OperationalError("the database is gone")]

    async def create_and_fail(**arguments: Any) -> Any:
        result = await create(**arguments)
        if failures and arguments["position"] == 1:
            raise failures.pop()
        return result

    monkeypatch.setattr(type(ProcessedItem.objects), "aget_or_create", staticmethod(create_and_fail))
    result = await ProcessItemsWorkflow().run(start_event=ProcessItems(todo=list("abc"), delay=0))
    assert not failures
    assert result == list("abc")
    assert await rows() == list(enumerate("abc"))


# --- digest ------------------------------------------------------------------------------------------------

DOCUMENTS = [Document(title="River", text=RIVER), Document(title="Road", text=ROAD)]


async def digested(
    request: DigestRequested,
    *answers: EditorDecision,
    early: EditorDecision | None = None,
    on_heard: Callable[[], None] = lambda: None,
) -> tuple[DigestFinished, list[Event]]:
    """Run a digest with an editor who gives these answers when asked, and one of them early.

    ``on_heard`` is called when the workflow has dealt with the early one.
    """
    run = DigestWorkflow().run(start_event=request)
    seen = []
    if early is not None:
        run.ctx.send_event(early)
    async for event in run.stream_events(expose_internal=True):
        if isinstance(event, StepStateChanged):
            if (event.name, event.step_state) == ("decide", StepState.NOT_RUNNING):
                on_heard()
            continue
        seen.append(event)
        if isinstance(event, ApprovalRequired):
            for answer in answers:
                run.ctx.send_event(answer)
    return await run, seen


@with_database
@pytest.mark.usefixtures("engine")
async def test_an_approved_digest_is_published() -> None:
    finished, seen = await digested(
        DigestRequested(title="Local news", documents=DOCUMENTS, sentences=2),
        EditorDecision(approve=True, note="Well done"),
    )
    assert [(event.done, event.total) for event in seen if isinstance(event, Progress)] == [(1, 2), (2, 2)]
    (asked,) = [event for event in seen if isinstance(event, ApprovalRequired)]
    assert [entry.title for entry in asked.entries] == ["River", "Road"]
    assert asked.entries[0].sentences == summary(RIVER, 2, ROAD)

    issue = await Issue.objects.aget()
    assert (finished.issue, finished.status, finished.note) == (issue.pk, "published", "Well done")
    assert (issue.title, issue.status, issue.note) == ("Local news", "published", "Well done")
    assert issue.decided_at is not None
    entries = [(entry.title, entry.summary) async for entry in issue.entries.all()]
    assert entries == [(entry.title, "\n".join(entry.sentences)) for entry in asked.entries]


@with_database
@pytest.mark.usefixtures("engine")
async def test_a_rejected_digest_is_not_published() -> None:
    finished, _ = await digested(DigestRequested(documents=DOCUMENTS), EditorDecision(approve=False))
    assert finished.status == "rejected"
    assert (await Issue.objects.aget()).status == "rejected"


@with_database
@pytest.mark.usefixtures("engine")
async def test_the_first_decision_stands() -> None:
    finished, _ = await digested(
        DigestRequested(documents=DOCUMENTS), EditorDecision(approve=False), EditorDecision(approve=True)
    )
    assert finished.status == "rejected"
    assert (await Issue.objects.aget()).status == "rejected"


@with_database
@pytest.mark.usefixtures("engine")
async def test_a_decision_before_the_draft_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()
    analyse = summaries.analyse

    def analyse_later(text: str) -> Any:
        # No draft before that.
        assert heard.wait(30)
        return analyse(text)

    monkeypatch.setattr(summaries, "analyse", analyse_later)
    finished, _ = await digested(
        DigestRequested(documents=DOCUMENTS),
        EditorDecision(approve=True),
        early=EditorDecision(approve=False),
        on_heard=heard.set,
    )
    assert finished.status == "published"


async def test_a_digest_of_nothing_fails_and_says_why(tmp_path: Path, settings: Any) -> None:
    settings.BASE_DIR = tmp_path
    with pytest.raises(ValueError, match="nothing to digest"):
        await DigestWorkflow().run(start_event=DigestRequested())


def test_the_project_s_documentation_is_found(tmp_path: Path, settings: Any) -> None:
    settings.BASE_DIR = tmp_path
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# The project\n\nIt is ready.")
    (tmp_path / "docs" / "usage.md").write_text("Use it.")
    (tmp_path / "docs" / "logo.svg").write_text("<svg/>")
    assert [document.title for document in digest.project_documentation()] == ["The project", "usage"]


@with_database
def test_the_steps_that_write_can_be_repeated() -> None:
    draft = DraftComposed(key="k", title="News", entries=[Summary(title="River", sentences=["It flows."])])
    first, second = DigestWorkflow().save(draft), DigestWorkflow().save(draft)
    assert first == second
    assert Issue.objects.count() == Entry.objects.count() == 1


# --- the client --------------------------------------------------------------------------------------------


def test_the_client_says_when_there_is_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/workflows"
        assert digest_client.main(["--url", url]) == 1
    assert f"No server answers at {url}" in capsys.readouterr().err


def test_the_client_says_which_file_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    assert digest_client.main([str(tmp_path / "image.png")]) == 1
    assert "image.png cannot be read" in capsys.readouterr().err
    assert digest_client.main([str(tmp_path / "missing.md")]) == 1
    assert "missing.md cannot be read" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_bar_grows_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    bar = digest_client.ProgressBar()
    bar.show(done=1, total=2, what="read a long title")
    bar.show(done=2, total=2, what="read it")
    bar.close()
    _, half, full = terminal.getvalue().split("\r")
    assert half.count("#") * 2 == full.count("#") == bar.WIDTH
    assert len(full.rstrip("\n")) >= len(half), "the longer text before would show through"
    assert terminal.getvalue().count("\n") == 1


def test_the_progress_bar_does_not_fill_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    digest_client.ProgressBar().show(done=1, total=2, what="read")
    assert capsys.readouterr().err == ""
