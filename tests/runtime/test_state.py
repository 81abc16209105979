"""A run's state: what steps keep in ctx.store, and what a handler's next run and the Context API begin with."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows import Context as EngineContext
from workflows.context.serializers import PickleSerializer
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from django_workflows import contexts, registry, service
from django_workflows.exceptions import InvalidRequest
from django_workflows.models import Handler

from .process import Process, outcome, until
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


def stored_state(handler: Handler) -> Any:
    context = contexts.read(handler.pk)
    return None if context is None or context.state is None else json.loads(context.state)


class Count(Event):
    number: int


# --- untyped ---------------------------------------------------------------------------------------------


class Untyped(Workflow):
    @step
    async def write(self, ctx: Context, ev: StartEvent) -> Count:
        await ctx.store.set("user.name", "Ada")
        await ctx.store.set("user.languages", ["Python"])
        async with ctx.store.edit_state() as state:
            state["visits"] = state.get("visits", 0) + 1
        return Count(number=1)

    @step
    async def read(self, ctx: Context, ev: Count) -> StopEvent:
        missing = await ctx.store.get("nothing", default="a default")
        state = (await ctx.store.get_state()).to_dict()
        await ctx.store.clear()
        return StopEvent(result=[state, missing, (await ctx.store.get_state()).to_dict()])


async def test_untyped_state(process: Process) -> None:
    await process.serve(Untyped)
    state = {"user": {"name": "Ada", "languages": ["Python"]}, "visits": 1}
    assert await process.result(Untyped) == [state, "a default", {}]


# --- typed -----------------------------------------------------------------------------------------------


class Basket(BaseModel):
    items: dict[str, int] = Field(default_factory=dict)
    paid: bool = False


class Typed(Workflow):
    @step
    async def fill(self, ctx: Context[Basket], ev: StartEvent) -> Count:
        async with ctx.store.edit_state() as basket:
            basket.items["tea"] = 2
        await ctx.store.set("paid", True)
        return Count(number=1)

    @step
    async def check(self, ctx: Context[Basket], ev: Count) -> StopEvent:
        basket = await ctx.store.get_state()
        assert isinstance(basket, Basket)
        await ctx.store.set_state(Basket(items={"coffee": 1}))
        after = await ctx.store.get_state()
        return StopEvent(result=[basket.model_dump(), after.model_dump()])


async def test_typed_state(process: Process) -> None:
    await process.serve(Typed)
    assert await process.result(Typed) == [
        {"items": {"tea": 2}, "paid": True},
        {"items": {"coffee": 1}, "paid": False},
    ]


class Added(Event):
    pass


class Concurrent(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> list[Count]:
        return [Count(number=number) for number in range(20)]

    @step(num_workers=8)
    async def add(self, ctx: Context, ev: Count) -> Added:
        async with ctx.store.edit_state() as state:
            before = state.get("sum", 0)
            await asyncio.sleep(0)
            state["sum"] = before + ev.number
        return Added()

    @step
    async def total(self, ctx: Context, done: list[Added]) -> StopEvent:
        return StopEvent(result=await ctx.store.get("sum"))


async def test_steps_that_edit_the_state_at_once_lose_nothing(process: Process) -> None:
    await process.serve(Concurrent)
    assert await process.result(Concurrent) == sum(range(20))


class Saves(Workflow):
    @step
    async def save(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("set", 1)
        await world.gate("set").passed()
        async with ctx.store.edit_state() as state:
            state["edited"] = 2
        await world.gate("edited").passed()
        await ctx.store.clear()
        await world.gate("cleared").passed()
        return StopEvent()


async def test_state_is_committed_when_the_call_that_changes_it_returns(process: Process) -> None:
    await process.serve(Saves)
    handler = await process.start(Saves)
    for gate, expected in (("set", ["set"]), ("edited", ["edited", "set"]), ("cleared", [])):
        await until(lambda gate=gate: world.gate(gate).reached, f"it never came to {gate}")
        assert sorted((await process.query(stored_state, handler))["_data"]) == expected
        world.gate(gate).open()
    await process.finish(handler)


class Carries(Event):
    what: Any


class Pickles(Workflow):
    """A workflow may bring a serializer of its own, and with it state and events that JSON does not know."""

    def __init__(self) -> None:
        super().__init__(serializer=PickleSerializer())

    @step
    async def keep(self, ctx: Context, ev: StartEvent) -> Carries:
        await ctx.store.set("numbers", {1, 2, 3})
        return Carries(what=complex(1, 2))

    @step
    async def give(self, ctx: Context, ev: Carries) -> StopEvent:
        return StopEvent(result=[sorted(await ctx.store.get("numbers")), str(ev.what)])


class Begun(Event):
    pass


class Broken(Event):
    pass


class CleansUp(Workflow):
    """Saves how far it came, however it ends."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Begun | Broken:
        if not ev.breaks:
            return Begun()
        ctx.send_event(Begun())
        return Broken()

    @step(num_workers=1)
    async def work(self, ctx: Context, ev: Begun) -> StopEvent:
        try:
            await world.gate("working").passed()
        finally:
            await ctx.store.set("reached", 7)
        return StopEvent()

    @step
    async def fail(self, ev: Broken) -> StopEvent:
        await until(lambda: world.gate("working").reached, "the other step never began")
        raise RuntimeError("no")


@pytest.mark.parametrize("breaks", [False, True], ids=["cancelled", "failed"])
async def test_state_that_is_saved_while_a_step_is_cancelled_is_kept(
    process: Process, caplog: pytest.LogCaptureFixture, breaks: bool
) -> None:
    await process.serve(CleansUp)
    handler = await process.start(CleansUp, breaks=breaks)
    await until(lambda: world.gate("working").reached, "the step never began")
    if not breaks:
        await service.acancel(handler.handler_id)
    ended = await process.finish(handler)
    assert ended.status == (Handler.Status.FAILED if breaks else Handler.Status.CANCELLED)
    stored = await process.query(contexts.read, handler.pk)
    assert stored is not None
    assert '"reached": "7"' in stored.state
    assert not [record for record in caplog.records if "taken the run over" in record.getMessage()]


async def test_a_workflow_brings_its_own_serializer(process: Process) -> None:
    await process.serve(Pickles)
    assert await process.result(Pickles) == [[1, 2, 3], "(1+2j)"]


# --- another run of a handler ----------------------------------------------------------------------------


class Chat(Workflow):
    @step
    async def answer(self, ctx: Context, ev: StartEvent) -> StopEvent:
        history = [*await ctx.store.get("history", default=[]), ev.text]
        await ctx.store.set("history", history)
        ctx.write_event_to_stream(Count(number=len(history)))
        return StopEvent(result=history)


async def test_a_handlers_next_run_goes_on_with_its_state(process: Process) -> None:
    await process.serve(Chat)
    first = await process.finish(await service.astart("Chat", {"text": "hello"}, handler_id="chat"))
    second = await process.finish(await service.astart("Chat", {"text": "again"}, handler_id="chat"))
    third = await process.finish(await process.in_thread(_chat, "from a thread"))
    assert outcome(first) == ["hello"]
    assert outcome(second) == ["hello", "again"]
    assert outcome(third) == ["hello", "again", "from a thread"]
    assert first.pk == second.pk == third.pk
    assert len({first.run_id, second.run_id, third.run_id}) == 3
    # Its log begins anew, from 0.
    log = await process.log(third)
    assert [seen.value["number"] for seen in log if seen.type == "Count"] == [3]


def _chat(text: str) -> Handler:
    return service.start("Chat", {"text": text}, handler_id="chat")


async def test_a_handler_goes_on_after_a_run_that_failed(process: Process) -> None:
    await process.serve(FailsAtFirst)
    handler = await process.finish(await service.astart("FailsAtFirst", {}, handler_id="mine"))
    assert handler.status == Handler.Status.FAILED
    handler = await process.finish(await service.astart("FailsAtFirst", {}, handler_id="mine"))
    assert (handler.error, outcome(handler)) == (None, "tried before")


class FailsAtFirst(Workflow):
    @step
    async def attempt(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if await ctx.store.get("tried", default=False):
            return StopEvent(result="tried before")
        await ctx.store.set("tried", True)
        raise ValueError("not yet")


# --- the Context API -------------------------------------------------------------------------------------


async def test_a_run_begins_with_a_context_of_another_program(process: Process) -> None:
    await process.serve(Chat, ACCEPT_CONTEXT_API=True)
    elsewhere = Chat()
    run = elsewhere.run(text="far away")
    await run
    context = run.ctx.to_dict()
    handler = await process.finish(await start_with(context, "Chat", {"text": "here"}))
    assert outcome(handler) == ["far away", "here"]
    again = await process.finish(await service.astart("Chat", {"text": "again"}, handler_id=handler.handler_id))
    assert outcome(again) == ["far away", "here", "again"]


class Reply(HumanResponseEvent):
    question: str
    text: str


class Asks(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("asked", ev.question)
        answer = await ctx.wait_for_event(
            Reply, waiter_event=InputRequiredEvent(prefix=ev.question), requirements={"question": ev.question}
        )
        return StopEvent(result=[await ctx.store.get("asked"), answer.text])


async def test_a_run_goes_on_from_a_context_that_was_waiting(process: Process) -> None:
    await process.serve((Asks, [Reply]), ACCEPT_CONTEXT_API=True)
    run = Asks().run(question="name")
    async for event in run.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    context = run.ctx.to_dict()
    await run.cancel_run()
    await asyncio.gather(run, return_exceptions=True)

    handler = await start_with(context, "Asks", None)
    await process.send(handler, "Reply", question="colour", text="blue")
    await process.seen(handler, "UnhandledEvent")
    await process.crash()
    await process.restart()
    await process.send(handler, "Reply", question="name", text="Ada")
    assert outcome(await process.finish(handler)) == ["name", "Ada"]


async def start_with(context: Any, workflow: str, start_event: Any) -> Handler:
    request = service.prepare_start(registry.get(workflow), start_event, context=context)
    return await service.abegin(request)


async def test_the_context_api_is_off_by_default(process: Process) -> None:
    await process.serve(Chat)
    with pytest.raises(InvalidRequest, match="Context API is disabled"):
        await start_with({"state": {}}, "Chat", {"text": "here"})


@pytest.mark.parametrize(
    "context", ["text", {"version": 99}, {"is_running": "perhaps"}, {"version": 1, "workers": 7}]
)
async def test_a_context_that_cannot_be_read_is_refused(process: Process, context: Any) -> None:
    await process.serve(Chat, ACCEPT_CONTEXT_API=True)
    with pytest.raises(InvalidRequest):
        await start_with(context, "Chat", {"text": "here"})


async def test_a_context_made_for_the_occasion_is_accepted(process: Process) -> None:
    await process.serve(Chat, ACCEPT_CONTEXT_API=True)
    context: EngineContext[Any] = EngineContext(Chat())
    await context.store.set("history", ["prepared"])
    handler = await process.finish(await start_with(context.to_dict(), "Chat", {"text": "here"}))
    assert outcome(handler) == ["prepared", "here"]
