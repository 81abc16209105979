"""Three small workflows, each with one thing to show; ``digest.py`` has a large one.

Django apps keep their workflows in a module of this name: it is imported when the site starts, so that
``@register`` takes effect. ``GreetWorkflow`` is registered the other way, in the site's settings.
"""

import asyncio
from uuid import uuid4

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from django_workflows.registry import register
from example_project.newsroom.events import Progress
from example_project.newsroom.models import ProcessedItem
from example_project.newsroom.retries import WHEN_THE_DATABASE_IS_AWAY

# --- greet: the smallest one -------------------------------------------------------------------------


class Greet(StartEvent):
    name: str = "world"


class Greeted(StopEvent):
    greeting: str


class GreetWorkflow(Workflow):
    """Greets somebody, and says so to those who watch."""

    @step
    async def greet(self, ctx: Context, ev: Greet) -> Greeted:
        ctx.write_event_to_stream(Progress(done=1, total=1, what=f"thought of {ev.name}"))
        return Greeted(greeting=f"Hello, {ev.name}!")


# --- process_items: one thing after another, none of them twice ----------------------------------------


class ProcessItems(StartEvent):
    todo: list[str] = Field(description="The items, in the order in which they are processed.")
    delay: float = Field(0.5, ge=0, description="Seconds that each item takes.")


class BatchOpened(Event):
    """The items are about to be processed."""

    batch: str
    todo: list[str]
    delay: float


class Batch(BaseModel):
    """The run's state, stored in the database each time that it changes."""

    done: list[str] = []


@register("process_items")
class ProcessItemsWorkflow(Workflow):
    """Processes items one by one and can be killed at any moment.

    A completed step never runs again; an interrupted or failed one runs again from its beginning. So
    :meth:`process` saves each item in the state as soon as it is done, and looks there first for where to go on.
    Should the crash fall between the two writes, the item's row is found by its key instead of written twice.
    """

    def __init__(self) -> None:
        # The engine's limit of 45 s for a whole run would be short for many items.
        super().__init__(timeout=None)

    @step
    async def open_batch(self, ctx: Context[Batch], ev: ProcessItems) -> BatchOpened:
        # The key is made in a step of its own, which is completed before anybody uses the key: however often
        # the next step is repeated, it gets the same one. The state is emptied for a handler that is
        # started again, since it keeps the state of its last run.
        await ctx.store.set_state(Batch())
        return BatchOpened(batch=uuid4().hex, todo=ev.todo, delay=ev.delay)

    @step(retry_policy=WHEN_THE_DATABASE_IS_AWAY)
    async def process(self, ctx: Context[Batch], ev: BatchOpened) -> StopEvent:
        state = await ctx.store.get_state()
        for position in range(len(state.done), len(ev.todo)):
            label = ev.todo[position]
            await asyncio.sleep(ev.delay)  # the work
            await ProcessedItem.objects.aget_or_create(
                batch=ev.batch, position=position, defaults={"label": label}
            )
            async with ctx.store.edit_state() as state:
                state.done.append(label)
            ctx.write_event_to_stream(Progress(done=position + 1, total=len(ev.todo), what=label))
        return StopEvent(result=state.done)


# --- ask_name: waiting for a person --------------------------------------------------------------------


class AskNameWorkflow(Workflow):
    """Asks for a name and waits for the answer, for a week if need be.

    While it waits, it costs a row in the database and nothing else.
    """

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        # The step is left here and runs again from its beginning when the answer comes: what stands before
        # a wait must bear repetition. The engine would give up after 2000 s by itself.
        answer = await ctx.wait_for_event(
            HumanResponseEvent,
            waiter_event=InputRequiredEvent(prefix="What is your name?"),
            timeout=None,
        )
        return StopEvent(result=f"Hello, {answer.response}!")


# No step's signature names the answer, so it has to be declared: only declared events come in from outside.
@register("ask_name", additional_events=[HumanResponseEvent])
def ask_name() -> Workflow:
    # A factory instead of the class: it is the place for arguments.
    return AskNameWorkflow(timeout=None)
