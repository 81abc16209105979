"""Runs that wait: for a person, for an event, with a deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from django_workflows import service
from django_workflows.exceptions import HandlerFinished, InvalidEvent
from django_workflows.models import Handler, Message
from django_workflows.runtime import supervisor
from django_workflows.runtime.supervisor import INBOX_LIMIT
from django_workflows.runtime.writer import Writer
from django_workflows.runtime.writes import Changes
from tests.storage import PATIENCE

from .process import Process, outcome, until
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Answer(HumanResponseEvent):
    question: str
    text: str


class Question(Event):
    question: str


class Amount(HumanResponseEvent):
    number: int


class Ask(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="What is your name?")
        )
        return StopEvent(result=f"Hello, {answer.response}")


ask = (Ask, [HumanResponseEvent])


async def test_a_step_waits_for_an_answer(process: Process) -> None:
    await process.serve(ask)
    handler = await process.start(Ask)
    prompt = await process.seen(handler, "InputRequiredEvent")
    assert prompt.value["prefix"] == "What is your name?"
    await process.send(handler, "HumanResponseEvent", response="Ada")
    assert outcome(await process.finish(handler)) == "Hello, Ada"
    assert [seen.type for seen in await process.public_log(handler)] == ["InputRequiredEvent", "StopEvent"]


async def test_a_run_knows_at_its_end_whether_it_had_mail(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is mistaken, all that is written with it is written again, with a look at each run."""
    submit, mailed = Writer.submit, []

    def watch(writer: Writer, request: Any) -> Any:
        if isinstance(request, Changes) and request.ending is not None:
            mailed.append(request.mailed)
        return submit(writer, request)

    monkeypatch.setattr(Writer, "submit", watch)
    await process.serve(ask, SaysHello)
    await process.run(SaysHello)
    handler = await process.start(Ask)
    await process.seen(handler, "InputRequiredEvent")
    await process.send(handler, "HumanResponseEvent", response="Ada")
    await process.finish(handler)
    assert mailed == [False, True]


class SaysHello(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="Hello")


async def test_the_answer_may_come_before_the_question(process: Process) -> None:
    """What is sent before anybody waits for it is answered by UnhandledEvent, as by the engine itself."""
    await process.serve((HeldBack, [HumanResponseEvent]))
    handler = await process.start(HeldBack)
    await until(lambda: world.gate("before asking").reached, "the step never began")
    await process.send(handler, "HumanResponseEvent", response="too early")
    assert (await process.seen(handler, "UnhandledEvent")).value["event_type"] == "HumanResponseEvent"
    world.gate("before asking").open()
    await process.seen(handler, "InputRequiredEvent")
    await process.send(handler, "HumanResponseEvent", response="Ada")
    assert outcome(await process.finish(handler)) == "Ada"


class HeldBack(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await world.gate("before asking").passed()
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="?"))
        return StopEvent(result=answer.response)


class AskWithRequirements(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(
            Answer, waiter_event=InputRequiredEvent(prefix="Colour?"), requirements={"question": "colour"}
        )
        return StopEvent(result=answer.text)


async def test_requirements_pick_the_event(process: Process) -> None:
    await process.serve((AskWithRequirements, [Answer]))
    handler = await process.start(AskWithRequirements)
    await process.seen(handler, "InputRequiredEvent")
    await process.send(handler, "Answer", question="name", text="Ada")
    await process.seen(handler, "UnhandledEvent")
    await process.send(handler, "Answer", question="colour", text="blue")
    assert outcome(await process.finish(handler)) == "blue"


class TwoQuestions(Workflow):
    """Two waits in one step, one after the other, told apart by waiter_id."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        world.note("asked")
        found = []
        for question in ("name", "colour"):
            answer = await ctx.wait_for_event(
                Answer,
                waiter_event=InputRequiredEvent(prefix=question),
                waiter_id=question,
                requirements={"question": question},
            )
            found.append(answer.text)
        return StopEvent(result=found)


async def test_one_step_waits_twice(process: Process) -> None:
    await process.serve((TwoQuestions, [Answer]))
    handler = await process.start(TwoQuestions)
    for number, (question, text) in enumerate([("name", "Ada"), ("colour", "blue")]):
        prompt = await process.seen(handler, "InputRequiredEvent", times=number + 1)
        assert prompt.value["prefix"] == question
        await process.send(handler, "Answer", question=question, text=text)
    assert outcome(await process.finish(handler)) == ["Ada", "blue"]
    # The engine runs a waiting step again from its beginning.
    assert world.times("asked") == 3
    assert [seen.value.get("prefix") for seen in await process.public_log(handler)][:-1] == ["name", "colour"]


class Asked(Event):
    answer: str


class TwoAtOnce(Workflow):
    """Two steps that wait at the same time for events of one class."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Question | None:
        for question in ("name", "colour"):
            ctx.send_event(Question(question=question))
        return None

    @step
    async def ask(self, ctx: Context, ev: Question) -> Asked:
        answer = await ctx.wait_for_event(
            Answer,
            waiter_event=InputRequiredEvent(prefix=ev.question),
            waiter_id=ev.question,
            requirements={"question": ev.question},
        )
        return Asked(answer=answer.text)

    @step
    async def gather(self, ctx: Context, ev: Asked) -> StopEvent | None:
        found = ctx.collect_events(ev, [Asked, Asked])
        return None if found is None else StopEvent(result=sorted(one.answer for one in found))


async def test_two_steps_wait_at_once(process: Process) -> None:
    await process.serve((TwoAtOnce, [Answer]))
    handler = await process.start(TwoAtOnce)
    await process.seen(handler, "InputRequiredEvent", times=2)
    await process.send(handler, "Answer", question="colour", text="blue")
    await process.send(handler, "Answer", question="name", text="Ada")
    assert outcome(await process.finish(handler)) == ["Ada", "blue"]


class Impatient(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            answer = await ctx.wait_for_event(
                HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="?"), timeout=ev.timeout
            )
        except TimeoutError:
            return StopEvent(result="nobody answered")
        return StopEvent(result=answer.response)


async def test_a_wait_times_out(process: Process) -> None:
    await process.serve((Impatient, [HumanResponseEvent]))
    assert await process.result(Impatient, timeout=0.05) == "nobody answered"


async def test_an_answer_within_the_timeout_counts(process: Process) -> None:
    await process.serve((Impatient, [HumanResponseEvent]))
    handler = await process.start(Impatient, timeout=60)
    await process.seen(handler, "InputRequiredEvent")
    await process.send(handler, "HumanResponseEvent", response="here I am")
    assert outcome(await process.finish(handler)) == "here I am"


class BySignature(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="What is your name?")

    @step
    async def greet(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=f"Hello, {ev.response}")


async def test_question_and_answer_by_signature(process: Process) -> None:
    await process.serve(BySignature)
    handler = await process.start(BySignature)
    await process.seen(handler, "InputRequiredEvent")
    await process.send(handler, "HumanResponseEvent", response="Ada")
    assert outcome(await process.finish(handler)) == "Hello, Ada"


class Counts(Workflow):
    """Takes what it is sent until it has had enough."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="numbers, please")

    @step
    async def add(self, ctx: Context, ev: Amount) -> StopEvent | None:
        world.note(f"amount {ev.number}")
        return StopEvent(result="enough") if len(world.notes) == 300 else None


async def test_three_hundred_events_at_once_are_each_consumed_once(process: Process) -> None:
    await process.serve(Counts)
    handler = await process.start(Counts)
    await asyncio.gather(*(process.send(handler, "Amount", number=number) for number in range(300)))
    assert outcome(await process.finish(handler)) == "enough"
    assert sorted(world.notes) == sorted(f"amount {number}" for number in range(300))


class Regret(Exception):
    pass


async def test_events_from_synchronous_code_take_effect_with_its_transaction(process: Process) -> None:
    await process.serve(BySignature)
    handler = await process.start(BySignature)
    await process.seen(handler, "InputRequiredEvent")

    def send_and_regret() -> None:
        with transaction.atomic():
            service.send_event(handler.handler_id, HumanResponseEvent(response="regretted"))
            raise Regret

    def send_and_mean_it() -> None:
        with transaction.atomic():
            service.send_event(handler.handler_id, HumanResponseEvent(response="meant"))

    with pytest.raises(Regret):
        await process.in_thread(send_and_regret)
    await process.in_thread(send_and_mean_it)
    assert outcome(await process.finish(handler)) == "Hello, meant"


async def test_an_event_that_is_not_declared_is_refused(process: Process) -> None:
    await process.serve(BySignature)
    handler = await process.start(BySignature)
    with pytest.raises(InvalidEvent):
        await process.send(handler, "Amount", number=1)
    with pytest.raises(InvalidEvent):
        await process.send(handler, "HumanResponseEvent", step="ask", response="at the wrong step")
    assert await process.messages(handler) == 0


async def test_an_event_for_a_run_that_has_ended_is_refused(process: Process) -> None:
    await process.serve(BySignature)
    handler = await process.start(BySignature)
    await process.send(handler, "HumanResponseEvent", response="Ada", step="greet")
    await process.finish(handler)
    with pytest.raises(HandlerFinished):
        await process.send(handler, "HumanResponseEvent", response="late")


class Note(Event):
    pass


class InLine(Workflow):
    def __init__(self) -> None:
        super().__init__(num_concurrent_runs=1)

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        await world.gate("working").passed()
        return StopEvent()


async def test_a_run_in_line_can_be_cancelled_however_much_mail_it_has(process: Process) -> None:
    await process.serve((InLine, [Note]))
    await process.start(InLine)
    await until(lambda: world.gate("working").reached, "the first run never began")
    second = await process.start(InLine)
    current = supervisor.current()
    assert current is not None
    await asyncio.gather(*(process.send(second, "Note") for _ in range(INBOX_LIMIT + 20)))
    run = current.run_of(second.pk)
    assert run is not None
    await until(lambda: len(run.mail) == INBOX_LIMIT, "the mail never came")
    await service.acancel(second.handler_id)
    assert (await process.finish(second)).status == Handler.Status.CANCELLED


async def test_a_run_whose_mail_cannot_be_read_can_be_cancelled(process: Process) -> None:
    await process.serve(ask)
    handler = await process.start(Ask)
    await process.seen(handler, "InputRequiredEvent")
    illegible = [
        Message(
            handler_id=handler.pk,
            run=handler.run,
            kind=Message.Kind.EVENT,
            data="{}",
            key=str(number),
            created_at=timezone.now(),
        )
        for number in range(INBOX_LIMIT)
    ]
    await process.in_thread(Message.objects.bulk_create, illegible)
    current = supervisor.current()
    assert current is not None
    current.hint()
    run = current.run_of(handler.pk)
    assert run is not None
    await until(lambda: len(run.mail) == INBOX_LIMIT, "the mail never came")
    await service.acancel(handler.handler_id)
    assert (await process.finish(handler)).status == Handler.Status.CANCELLED


async def test_who_goes_away_as_the_run_leaves_waits_no_longer(process: Process) -> None:
    await process.serve(ask)
    handler = await process.start(Ask)
    await process.seen(handler, "InputRequiredEvent")
    current = supervisor.current()
    assert current is not None
    run = current.run_of(handler.pk)
    assert run is not None
    waiting = asyncio.ensure_future(service.wait(handler))
    await until(lambda: run.awaited == 1, "nobody waits")
    run.ended.cancel()
    waiting.cancel()
    await asyncio.wait([waiting], timeout=PATIENCE)
    assert waiting.cancelled()


class AsksPatiently(Workflow):
    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question = InputRequiredEvent(prefix="?")
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question, timeout=float(ev.seconds))
        return StopEvent(result=answer.response)


@pytest.mark.parametrize("seconds", ["1e12", "inf"])
async def test_a_deadline_that_no_calendar_has_never_comes(process: Process, seconds: str) -> None:
    await process.serve((AsksPatiently, [HumanResponseEvent]))
    handler = await process.start(AsksPatiently, seconds=seconds)
    await process.seen(handler, "InputRequiredEvent")
    await process.send(handler, "HumanResponseEvent", response="Ada")
    assert outcome(await process.finish(handler)) == "Ada"


async def test_a_waiting_run_says_that_it_is_idle(process: Process) -> None:
    await process.serve(BySignature)
    handler = await process.start(BySignature)
    await process.seen(handler, "WorkflowIdleEvent")
    stored = await process.stored(handler)
    assert stored.status == Handler.Status.RUNNING
    assert stored.idle_since is not None
