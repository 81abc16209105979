"""The ``digest`` workflow: documents become the draft of an issue, an editor decides, the issue is published.

::

    DigestRequested → collect → DocumentFound   ⎫
                                DocumentFound   ⎬ → analyse, four at a time → DocumentAnalysed … → compose
                                …               ⎭
    DraftComposed → save → ApprovalRequired, to the editor
    EditorDecision, from the editor → decide → DigestFinished

Any step may be interrupted by a crash and then runs again, so each of them can be repeated: what it writes is
keyed, by the issue's key in the database and by the document's position in the state. Nothing here needs a
model or a network; ``summaries`` does the reading.
"""

import asyncio
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from example_project.newsroom import summaries
from example_project.newsroom.events import Progress
from example_project.newsroom.models import Entry, Issue
from example_project.newsroom.retries import WHEN_THE_DATABASE_IS_AWAY

# --- what comes in, goes round and comes out -----------------------------------------------------------


class Document(BaseModel):
    """A text to be summarised, in Markdown or plain."""

    title: str = Field(min_length=1, max_length=200)
    text: str


class Summary(BaseModel):
    """What the digest says of one document."""

    title: str
    sentences: list[str]


class DigestRequested(StartEvent):
    title: str = Field("Digest", min_length=1, max_length=200)
    documents: list[Document] = Field([], description="The project's own documentation when empty.")
    sentences: int = Field(3, ge=1, le=20, description="Sentences for each document.")


class DocumentFound(Event):
    position: int
    document: Document


class DocumentAnalysed(Event):
    position: int
    title: str
    sentences: list[summaries.Sentence]


class DraftComposed(Event):
    key: str
    title: str
    entries: list[Summary]


class ApprovalRequired(InputRequiredEvent):
    """Asks an editor whether the issue shall be published; answered by :class:`EditorDecision`."""

    issue: int
    title: str
    entries: list[Summary]


class EditorDecision(HumanResponseEvent):
    approve: bool
    note: str = ""


class DigestFinished(StopEvent):
    issue: int
    title: str
    status: Issue.Status
    note: str


class Desk(BaseModel):
    """The run's state."""

    # The key of the issue in the database.
    key: str = ""
    title: str = ""
    sentences: int = 0
    total: int = 0
    # Positions of the documents that are analysed. A set, so that one which is analysed again counts once.
    analysed: set[int] = set()


# --- the workflow --------------------------------------------------------------------------------------


class DigestWorkflow(Workflow):
    """Summarises documents, asks an editor, publishes."""

    def __init__(self) -> None:
        # An editor may take longer than the engine's 45 s for a run.
        super().__init__(timeout=None)

    @step
    async def collect(self, ctx: Context[Desk], ev: DigestRequested) -> list[DocumentFound]:
        """Find the documents and send each of them on: a list that is returned fans out."""
        documents = ev.documents or await asyncio.to_thread(project_documentation)
        if not documents:
            raise ValueError("There is nothing to digest: no document in the request, none in the project.")
        # Should this step be repeated, it makes another key; nobody has used this one by then.
        await ctx.store.set_state(
            Desk(key=uuid4().hex, title=ev.title, sentences=ev.sentences, total=len(documents))
        )
        return [DocumentFound(position=n, document=document) for n, document in enumerate(documents)]

    @step(num_workers=4)
    async def analyse(self, ctx: Context[Desk], ev: DocumentFound) -> DocumentAnalysed:
        """Read one document, in a thread, since it is work for the processor."""
        sentences = await asyncio.to_thread(summaries.analyse, ev.document.text)
        async with ctx.store.edit_state() as desk:
            desk.analysed.add(ev.position)
        ctx.write_event_to_stream(
            Progress(done=len(desk.analysed), total=desk.total, what=f"read {ev.document.title}")
        )
        return DocumentAnalysed(position=ev.position, title=ev.document.title, sentences=sentences)

    @step
    async def compose(self, ctx: Context[Desk], ev: list[DocumentAnalysed]) -> DraftComposed:
        """Choose the sentences, once all documents are analysed: a list parameter collects what fanned out."""
        desk = await ctx.store.get_state()
        documents = sorted(ev, key=lambda document: document.position)
        rare = summaries.rarity(document.sentences for document in documents)
        entries = [
            Summary(title=d.title, sentences=summaries.summarise(d.sentences, rare, desk.sentences))
            for d in documents
            if d.sentences
        ]
        return DraftComposed(key=desk.key, title=desk.title, entries=entries)

    @step(retry_policy=WHEN_THE_DATABASE_IS_AWAY)
    def save(self, ev: DraftComposed) -> ApprovalRequired:
        """Write the draft. An ordinary function runs in a thread and may use all of the ORM."""
        with transaction.atomic():
            issue, _ = Issue.objects.update_or_create(key=ev.key, defaults={"title": ev.title})
            for position, entry in enumerate(ev.entries):
                Entry.objects.update_or_create(
                    issue=issue,
                    position=position,
                    defaults={"title": entry.title, "summary": "\n".join(entry.sentences)},
                )
        # An InputRequiredEvent goes to those who watch, and the run waits for the answer.
        return ApprovalRequired(issue=issue.pk, title=ev.title, entries=ev.entries)

    @step(num_workers=1, retry_policy=WHEN_THE_DATABASE_IS_AWAY)
    async def decide(self, ctx: Context[Desk], ev: EditorDecision) -> DigestFinished | None:
        """Do what the editor says; one decision at a time, of which the first ends the run."""
        key = await ctx.store.get("key")
        issue = await Issue.objects.filter(key=key).afirst()
        if issue is None:
            return None  # An answer before the question: there is no draft yet.
        await issue.adecide(approve=ev.approve, note=ev.note)
        return DigestFinished(issue=issue.pk, title=issue.title, status=issue.status, note=issue.note)


def project_documentation() -> list[Document]:
    """Return the README and the pages of docs/, by their headings."""
    base = Path(settings.BASE_DIR)
    found = []
    for path in [base / "README.md", *sorted(base.glob("docs/*.md"))]:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            found.append(Document(title=(summaries.heading(text) or path.stem)[:200], text=text))
    return found
