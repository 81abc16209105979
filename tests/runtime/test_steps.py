"""What the engine offers for writing steps works when the workflow is served."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows import workflow as engine_workflow
from workflows.events import Event, StartEvent, StopEvent
from workflows.resource import Resource, ResourceConfig

from django_workflows import service
from django_workflows.models import Handler

from .process import Process, outcome, until
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Number(Event):
    value: int


class AsyncAndSync(Workflow):
    @step
    async def double(self, ev: StartEvent) -> Number:
        return Number(value=ev.number * 2)

    @step
    def describe(self, ev: Number) -> StopEvent:
        return StopEvent(result=f"{ev.value} in {threading.current_thread().name.rsplit('_')[0]}")


async def test_async_and_sync_steps_run(process: Process) -> None:
    await process.serve(AsyncAndSync)
    assert await process.result(AsyncAndSync, number=21) == "42 in django-workflows-step"


class Sync(Workflow):
    @step
    def sleep(self, ev: StartEvent) -> StopEvent:
        world.gate("sync step").passed_in_thread()
        return StopEvent(result="awake")


class Remembers(Workflow):
    """Keeps something at the instance, and has a method beside its steps."""

    seen = 0

    @step
    async def first(self, ctx: Context, ev: StartEvent) -> Number:
        self.seen += 1
        return Number(value=self.twice(ev.value))

    @step
    def second(self, ev: Number) -> StopEvent:
        return StopEvent(result=[ev.value, self.seen, type(self).__name__, isinstance(self, Workflow)])

    def twice(self, value: int) -> int:
        return 2 * value


async def test_steps_get_the_workflow_itself_and_are_looked_up_once(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine would look for them among all members of the instance at each execution of one."""
    await process.serve(Remembers)
    assert await process.result(Remembers, value=3) == [6, 1, "Remembers", True]
    look_up, looks = engine_workflow.get_steps_from_instance, []

    def counted(workflow: object) -> Any:
        looks.append(workflow)
        return look_up(workflow)

    monkeypatch.setattr(engine_workflow, "get_steps_from_instance", counted)
    for number in range(2, 4):
        assert await process.result(Remembers, value=3) == [6, number, "Remembers", True]
    assert looks == []


class Spans(BaseSpanHandler[BaseSpan]):
    """Remembers which spans there were, and inside of which."""

    entered: ClassVar[list[tuple[str, str | None]]] = []

    def new_span(self, id_: str, bound_args: Any, parent_span_id: str | None = None, **more: Any) -> BaseSpan:
        self.entered.append((id_, parent_span_id))
        return BaseSpan(id_=id_, parent_id=parent_span_id)

    def prepare_to_exit_span(self, id_: str, *args: Any, **more: Any) -> BaseSpan:
        return self.open_spans[id_]

    prepare_to_drop_span = prepare_to_exit_span


class Heard(BaseEventHandler):
    """Remembers in which spans there were events."""

    spans: ClassVar[list[str | None]] = []

    def handle(self, event: BaseEvent, **more: Any) -> None:
        self.spans.append(event.span_id)


@pytest.mark.parametrize("at", ["root", "workflows.workflow"])
async def test_who_listens_hears_of_each_step(process: Process, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Be it of its span, or of what happened in which span; and from when on it listens."""
    await process.serve(AsyncAndSync)
    await process.result(AsyncAndSync, number=21)
    dispatcher = get_dispatcher() if at == "root" else get_dispatcher(at)
    monkeypatch.setattr(Spans, "entered", [])
    monkeypatch.setattr(Heard, "spans", [])
    with monkeypatch.context() as listening:
        listening.setattr(dispatcher, "span_handlers", [*dispatcher.span_handlers, Spans()])
        await process.result(AsyncAndSync, number=21)
    steps = [id for id, _ in Spans.entered if "AsyncAndSync.run" not in id]
    assert [id.rpartition(".")[2].partition("-")[0] for id in steps] == ["double", "describe"]
    if at == "root":
        run = next(id for id, _ in Spans.entered if "AsyncAndSync.run" in id)
        assert [parent for id, parent in Spans.entered if id in steps] == [run, run]

        root = get_dispatcher()
        with monkeypatch.context() as listening:
            listening.setattr(root, "event_handlers", [*root.event_handlers, Heard()])
            await process.result(AsyncAndSync, number=21)
        names = [(id or "").rpartition(".")[2].partition("-")[0] for id in Heard.spans]
        assert {"double", "describe"} <= set(names)

    Spans.entered.clear()
    await process.result(AsyncAndSync, number=21)
    assert Spans.entered == []


async def test_a_sync_step_does_not_hold_up_other_runs(process: Process) -> None:
    await process.serve(Sync, AsyncAndSync)
    sleeping = await process.start(Sync)
    await until(lambda: world.gate("sync step").reached, "the sync step never began")
    await process.result(AsyncAndSync, number=1)
    world.gate("sync step").open()
    assert outcome(await process.finish(sleeping)) == "awake"


class SyncORM(Workflow):
    @step
    def create(self, ev: StartEvent) -> Number:
        return Number(value=Group.objects.create(name=ev.name).pk)

    @step
    def read(self, ev: Number) -> StopEvent:
        return StopEvent(result=Group.objects.get(pk=ev.value).name)


async def test_a_sync_step_uses_the_orm(process: Process) -> None:
    await process.serve(SyncORM)
    assert await process.result(SyncORM, name="editors") == "editors"


class AsyncORM(Workflow):
    @step
    async def create(self, ev: StartEvent) -> Number:
        return Number(value=(await Group.objects.acreate(name=ev.name)).pk)

    @step
    async def read(self, ev: Number) -> StopEvent:
        return StopEvent(result=(await Group.objects.aget(pk=ev.value)).name)


async def test_an_async_step_uses_the_async_orm(process: Process) -> None:
    await process.serve(AsyncORM)
    assert await process.result(AsyncORM, name="editors") == "editors"


# --- num_workers ---------------------------------------------------------------------------------------


class Job(Event):
    number: int


class JobDone(Event):
    number: int


class TwoAtATime(Workflow):
    @step
    async def hand_out(self, ctx: Context, ev: StartEvent) -> Job | None:
        for number in range(6):
            ctx.send_event(Job(number=number))
        return None

    @step(num_workers=2)
    async def work(self, ev: Job) -> JobDone:
        with world:
            for _ in range(5):
                await asyncio.sleep(0)
            if ev.number < 2:
                await world.gate("both at work").passed()
        return JobDone(number=ev.number)

    @step
    async def gather(self, ctx: Context, ev: JobDone) -> StopEvent | None:
        done = ctx.collect_events(ev, [JobDone] * 6)
        return None if done is None else StopEvent(result=sorted(one.number for one in done))


async def test_num_workers_bounds_how_many_run_at_once(process: Process) -> None:
    await process.serve(TwoAtATime)
    handler = await process.start(TwoAtATime)
    await until(lambda: world.now_running == 2, "the two workers never ran at once")
    world.gate("both at work").open()
    assert outcome(await process.finish(handler)) == [0, 1, 2, 3, 4, 5]
    assert world.most_running == 2


# --- num_concurrent_runs -------------------------------------------------------------------------------


class OneByOne(Workflow):
    def __init__(self) -> None:
        super().__init__(num_concurrent_runs=1)

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        with world:
            await world.gate("work").passed()
        return StopEvent(result=ev.number)


async def test_num_concurrent_runs_makes_others_wait(process: Process) -> None:
    await process.serve(OneByOne, AsyncAndSync)
    started = [await process.start(OneByOne, number=number) for number in range(3)]
    await until(lambda: world.gate("work").reached, "no run began")
    # A run that waits for its turn is no obstacle to other workflows.
    await process.result(AsyncAndSync, number=1)
    assert {handler.status for handler in started} == {Handler.Status.RUNNING}
    world.gate("work").open()
    assert [outcome(await process.finish(handler)) for handler in started] == [0, 1, 2]
    assert world.most_running == 1


# --- custom start and stop events ----------------------------------------------------------------------


class Order(StartEvent):
    product: str
    amount: int = 1


class Receipt(StopEvent):
    product: str
    total: int


class Shop(Workflow):
    @step
    async def sell(self, ev: Order) -> Receipt:
        return Receipt(product=ev.product, total=ev.amount * 5)


async def test_custom_start_and_stop_events(process: Process) -> None:
    await process.serve(Shop)
    handler = await process.run(Shop, product="tea", amount=3)
    assert handler.status == Handler.Status.COMPLETED
    assert json.loads(handler.result or "")["value"] == {"product": "tea", "total": 15}
    last = (await process.public_log(handler))[-1]
    assert (last.type, last.types) == ("Receipt", ("StopEvent",))


async def test_a_start_event_may_be_an_instance(process: Process) -> None:
    await process.serve(Shop)
    handler = await process.finish(await service.astart("Shop", Order(product="tea")))
    assert json.loads(handler.result or "")["value"]["total"] == 5


async def test_a_result_of_structure_and_unicode_comes_back_as_it_was(process: Process) -> None:
    await process.serve(Echo)
    value = {"text": "naïve ☕ \u2028 line", "list": [1, 2.5, None, True], "nested": {"a": {"b": []}}}
    assert await process.result(Echo, payload=value) == value


class Echo(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.payload)


async def test_one_run_may_have_no_result(process: Process) -> None:
    await process.serve(Echo)
    assert await process.result(Echo, payload=None) is None


# --- free functions ------------------------------------------------------------------------------------


class OfFunctions(Workflow):
    pass


@step(workflow=OfFunctions)
async def first(ctx: Context, ev: StartEvent) -> Number:
    await ctx.store.set("seen", "first")
    return Number(value=ev.number + 1)


@step(workflow=OfFunctions)
def second(ev: Number) -> StopEvent:
    return StopEvent(result=ev.value * 10)


async def test_free_function_steps(process: Process) -> None:
    await process.serve(OfFunctions)
    assert await process.result(OfFunctions, number=1) == 20


# --- verbose -------------------------------------------------------------------------------------------


class Verbose(Workflow):
    def __init__(self) -> None:
        super().__init__(verbose=True)

    @step
    async def speak(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="spoken")


async def test_a_verbose_workflow_tells_what_it_does(process: Process, capsys: pytest.CaptureFixture[str]) -> None:
    await process.serve(Verbose)
    assert await process.result(Verbose) == "spoken"
    output = capsys.readouterr().out
    assert "[speak:0] started from StartEvent" in output
    assert "[speak:0] complete with StopEvent" in output


# --- resources -----------------------------------------------------------------------------------------


class Prices(BaseModel):
    tea: int
    coffee: int


def open_account(**kwargs: Any) -> list[str]:
    world.note("account opened")
    return []


async def open_ledger(account: Annotated[list[str], Resource(open_account)]) -> dict[str, list[str]]:
    return {"account": account}


class WithResources(Workflow):
    @step
    async def look_up(
        self,
        ev: StartEvent,
        account: Annotated[list[str], Resource(open_account)],
        prices: Annotated[
            Prices,
            ResourceConfig(config_file=str(Path(__file__).with_name("prices.json")), path_selector="drinks"),
        ],
    ) -> Number:
        account.append("looked up")
        return Number(value=prices.tea)

    @step
    def pay(
        self,
        ev: Number,
        account: Annotated[list[str], Resource(open_account)],
        ledger: Annotated[dict[str, list[str]], Resource(open_ledger)],
    ) -> StopEvent:
        account.append("paid")
        return StopEvent(result=[ev.value, *ledger["account"]])


async def test_resources_are_injected_and_cached(process: Process) -> None:
    await process.serve(WithResources)
    assert await process.result(WithResources) == [3, "looked up", "paid"]
    assert world.times("account opened") == 1


# --- children ------------------------------------------------------------------------------------------


class Square(Workflow):
    @step
    async def square(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Number(value=-1))
        await ctx.store.set("mine", "child")
        return StopEvent(result=ev.number**2)


class Parent(Workflow):
    def __init__(self, child: Workflow | None = None) -> None:
        super().__init__()
        self.child = child or Square()

    @step
    async def delegate(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("mine", "parent")
        result = await self.child.run(number=ev.number)
        return StopEvent(result=[result, await ctx.store.get("mine")])


async def test_a_child_made_in_init_runs_inside_of_its_parents_step(process: Process) -> None:
    await process.serve(Parent)
    handler = await process.run(Parent, number=7)
    assert outcome(handler) == [49, "parent"]
    assert "Number" not in [seen.type for seen in await process.log(handler)]
    assert await process.query(Handler.objects.count) == 1


square = Square()


def served_square() -> Workflow:
    return square


def parent_of_served() -> Workflow:
    return Parent(square)


async def test_a_child_may_be_served_itself(process: Process) -> None:
    await process.serve(served_square, parent_of_served)
    for _ in range(2):
        assert await process.result(parent_of_served, number=7) == [49, "parent"]
        assert await process.result(served_square, number=3) == 9


async def test_a_served_workflow_can_still_be_run_by_itself(process: Process) -> None:
    await process.serve(served_square)
    assert await square.run(number=5) == 25
    assert not await process.query(Handler.objects.exists)


class Family(Workflow):
    """Many children at once, as a fan-out over a sub-workflow."""

    @step
    async def delegate(self, ev: StartEvent) -> StopEvent:
        child = Parent()
        results = await asyncio.gather(*(child.run(number=number) for number in range(5)))
        return StopEvent(result=[result[0] for result in results])


async def test_children_may_run_at_once_and_have_children(process: Process) -> None:
    await process.serve(Family)
    assert await process.result(Family) == [0, 1, 4, 9, 16]


class StartsAnother(Workflow):
    @step
    async def start(self, ev: StartEvent) -> StopEvent:
        handler = await service.astart("Square", {"number": 4})
        return StopEvent(result=handler.handler_id)


async def test_a_step_may_start_a_durable_run(process: Process) -> None:
    await process.serve(StartsAnother, Square)
    other = await process.result(StartsAnother)
    handler = await process.query(_by_id, other)
    assert outcome(await process.finish(handler)) == 16
    assert "Number" in [seen.type for seen in await process.log(handler)]


def _by_id(handler_id: str) -> Handler:
    return Handler.objects.get(handler_id=handler_id)


# --- what surrounds a run ------------------------------------------------------------------------------

request_user: contextvars.ContextVar[str] = contextvars.ContextVar("request_user", default="nobody")


class WhoAmI(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Number:
        world.note(request_user.get())
        return Number(value=1)

    @step
    def ask_in_thread(self, ev: Number) -> StopEvent:
        return StopEvent(result=request_user.get())


async def test_context_variables_do_not_leak_from_whoever_starts_a_run(process: Process) -> None:
    await process.serve(WhoAmI)
    request_user.set("Ada")
    assert await process.result(WhoAmI) == "nobody"
    assert world.notes == ["nobody"]


async def test_a_run_is_marked_in_the_log(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    await process.serve(Fails)
    with caplog.at_level(logging.INFO, logger="django_workflows"):
        handler = await process.run(Fails)
    record = next(record for record in caplog.records if "failed" in record.getMessage())
    assert record.handler_id == handler.handler_id
    assert record.workflow == "Fails"


class Fails(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError("no luck today")


async def test_the_owner_is_kept_with_the_run(process: Process) -> None:
    await process.serve(Echo)
    ada = await process.in_thread(get_user_model().objects.create_user, "ada")
    handler = await process.finish(await service.astart("Echo", {"payload": 1}, owner=ada))
    assert (await process.stored(handler)).owner_id == ada.pk


# --- one instance --------------------------------------------------------------------------------------


def the_same_square() -> Workflow:
    return square


async def test_one_instance_may_be_served_under_two_names(process: Process) -> None:
    await process.serve(served_square, the_same_square)
    for workflow in (served_square, the_same_square, served_square):
        assert await process.result(workflow, number=3) == 9
