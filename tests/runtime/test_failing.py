"""Steps that fail, are retried and caught; runs that fail, time out, are cancelled, or cannot be stored."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import Any

import pytest
from pydantic import field_serializer
from workflows import Context, Workflow, catch_error, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import retry_if_exception_type, retry_policy, stop_after_attempt, wait_fixed

from django_workflows import mailbox, service
from django_workflows.exceptions import HandlerFinished
from django_workflows.mailbox import Letter
from django_workflows.models import Handler, Message

from .process import Process, outcome, until
from .world import world

pytestmark = pytest.mark.django_db(transaction=True)


class Tried(Event):
    attempts: int


# --- retries -------------------------------------------------------------------------------------------


class Flaky(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        info = ctx.retry_info()
        world.note(f"attempt {info.retry_number}, after {info.last_exception!r}")
        if info.retry_number < ev.failures:
            raise ConnectionError("no answer")
        return StopEvent(result=info.retry_number)


async def test_a_failing_step_is_retried(process: Process) -> None:
    await process.serve(Flaky)
    assert await process.result(Flaky, failures=2) == 2
    assert world.notes == [
        "attempt 0, after None",
        "attempt 1, after ConnectionError('no answer')",
        "attempt 2, after ConnectionError('no answer')",
    ]


async def test_a_run_fails_when_all_retries_have_failed(process: Process) -> None:
    await process.serve(Flaky)
    handler = await process.run(Flaky, failures=10)
    assert (handler.status, handler.error) == (Handler.Status.FAILED, "no answer")
    last = (await process.public_log(handler))[-1]
    assert last.type == "WorkflowFailedEvent"
    assert last.value["step_name"] == "fetch"
    assert last.value["attempts"] == len(world.notes)


async def test_the_log_says_where_a_step_failed(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the step's own frames, however often it was tried."""
    await process.serve(Flaky)
    handler = await process.run(Flaky, failures=10)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.name == "django_workflows.runtime"
    assert record.getMessage() == "the run failed in step 'fetch'"
    assert vars(record)["handler_id"] == handler.handler_id
    assert 'raise ConnectionError("no answer")' in logging.Formatter().format(record)


class Bare(Workflow):
    @step
    async def check(self, ev: StartEvent) -> StopEvent:
        raise AssertionError


async def test_an_exception_without_a_text_is_called_by_its_name(process: Process) -> None:
    await process.serve(Bare)
    handler = await process.run(Bare)
    assert (handler.status, handler.error) == (Handler.Status.FAILED, "AssertionError")


class FlakyInThread(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(3)))
    def fetch(self, ev: StartEvent) -> StopEvent:
        world.note("fetch")
        if world.times("fetch") < 3:
            raise ConnectionError("no answer")
        return StopEvent(result="fetched")


async def test_a_failing_sync_step_is_retried_without_delay(process: Process) -> None:
    await process.serve(FlakyInThread)
    assert await process.result(FlakyInThread) == "fetched"


class Picky(Workflow):
    @step(
        retry_policy=retry_policy(
            retry=retry_if_exception_type(ConnectionError), wait=wait_fixed(0), stop=stop_after_attempt(5)
        )
    )
    async def fetch(self, ev: StartEvent) -> StopEvent:
        world.note("fetch")
        raise ConnectionError("try again") if world.times("fetch") < 3 else ValueError("this is final")


async def test_a_retry_policy_may_look_at_the_error(process: Process) -> None:
    await process.serve(Picky)
    assert (await process.run(Picky)).error == "this is final"
    assert world.times("fetch") == 3


# --- catch_error ---------------------------------------------------------------------------------------


class Caught(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def fetch(self, ev: StartEvent) -> StopEvent:
        raise ConnectionError("no answer")

    @catch_error(for_steps=["fetch"])
    async def give_up(self, ctx: Context, ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result=[ev.step_name, str(ev.exception), ev.attempts, type(ev.input_event).__name__])


async def test_an_error_handler_catches_what_retries_could_not(process: Process) -> None:
    await process.serve(Caught)
    assert await process.result(Caught) == ["fetch", "no answer", 2, "StartEvent"]


class CaughtAndRaisedAgain(Workflow):
    @step
    async def fetch(self, ev: StartEvent) -> StopEvent:
        raise ConnectionError("no answer")

    @catch_error
    async def complain(self, ev: StepFailedEvent) -> StopEvent:
        raise RuntimeError(f"giving up: {ev.exception}")


async def test_an_error_handler_may_fail(process: Process) -> None:
    await process.serve(CaughtAndRaisedAgain)
    handler = await process.run(CaughtAndRaisedAgain)
    assert (handler.status, handler.error) == (Handler.Status.FAILED, "giving up: no answer")


class Recovers(Workflow):
    @step
    async def fetch(self, ev: StartEvent | Tried) -> StopEvent:
        if isinstance(ev, StartEvent) or ev.attempts < 2:
            raise ConnectionError("no answer")
        return StopEvent(result=ev.attempts)

    @catch_error(for_steps=["fetch"], max_recoveries=2)
    async def recover(self, ev: StepFailedEvent) -> Tried:
        return Tried(attempts=1 if isinstance(ev.input_event, StartEvent) else ev.input_event.attempts + 1)


async def test_a_run_goes_on_from_its_error_handler(process: Process) -> None:
    await process.serve(Recovers)
    assert await process.result(Recovers) == 2


# --- failures ------------------------------------------------------------------------------------------


class Failing(Workflow):
    @step
    async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Tried(attempts=1))
        raise Broken(ev.message)


class Broken(Exception):
    pass


@pytest.mark.parametrize("message", ["it broke", "", "half a pair \ud83d", "NUL \x00", "a line\u2028break"])
async def test_the_log_of_a_failed_run_ends_with_the_reason(
    process: Process, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    # Pytest shows what was logged, and cannot write half a pair.
    monkeypatch.setattr(logging.getLogger("django_workflows.runtime"), "disabled", True)
    await process.serve(Failing)
    handler = await process.run(Failing, message=message)
    storable = message.replace("\ud83d", "\ufffd").replace("\x00", "\ufffd") or "Broken"
    assert (handler.status, handler.error) == (Handler.Status.FAILED, storable)
    stored = await process.stored(handler)
    assert (stored.status, stored.error, stored.result) == (Handler.Status.FAILED, storable, None)
    log = await process.public_log(handler)
    assert [seen.type for seen in log] == ["Tried", "WorkflowFailedEvent"]
    assert log[-1].value["exception"]["exception_type"].endswith("Broken")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this fails")


class FailsUnspeakably(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise Unspeakable


async def test_an_error_that_cannot_even_be_written_fails_its_run(process: Process) -> None:
    await process.serve(FailsUnspeakably)
    handler = await process.run(FailsUnspeakably)
    assert handler.status == Handler.Status.FAILED


class Exits(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def leave(self, ev: StartEvent) -> StopEvent:
        world.note("leave")
        sys.exit(3)


class ExitsInThread(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    def leave(self, ev: StartEvent) -> StopEvent:
        world.note("leave")
        sys.exit(3)


@pytest.mark.parametrize("workflow", [Exits, ExitsInThread])
async def test_a_step_that_exits_does_not_take_the_process_with_it(
    process: Process, workflow: type[Workflow]
) -> None:
    await process.serve(workflow, Flaky)
    handler = await process.run(workflow)
    assert (handler.status, handler.error) == (Handler.Status.FAILED, "the step called sys.exit(3)")
    assert world.times("leave") == 2
    assert await process.result(Flaky, failures=0) == 0


class CancelsItself(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        helper = asyncio.ensure_future(asyncio.sleep(3600))
        helper.cancel()
        await helper
        return StopEvent()


async def test_a_step_whose_helper_is_cancelled_fails_instead_of_hanging(process: Process) -> None:
    await process.serve(CancelsItself)
    handler = await process.run(CancelsItself)
    assert handler.status == Handler.Status.FAILED
    assert "cancelled by something inside" in (handler.error or "")


class Misbehaves(Workflow):
    @step
    async def misbehave(self, ev: StartEvent) -> StopEvent:
        return {"not": "an event"}


async def test_a_step_that_returns_no_event_fails_its_run(process: Process) -> None:
    await process.serve(Misbehaves)
    handler = await process.run(Misbehaves)
    assert handler.status == Handler.Status.FAILED
    assert "returned dict instead of an Event" in (handler.error or "")


async def test_one_failed_run_leaves_the_others_alone(process: Process) -> None:
    await process.serve(Failing, Flaky)
    failed, completed = await asyncio.gather(
        process.run(Failing, message="it broke"), process.run(Flaky, failures=1)
    )
    assert failed.status == Handler.Status.FAILED
    assert completed.status == Handler.Status.COMPLETED


# --- timeouts ------------------------------------------------------------------------------------------


class Slow(Workflow):
    def __init__(self) -> None:
        super().__init__(timeout=0.1)

    @step
    async def dawdle(self, ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            world.note("interrupted")
            raise
        return StopEvent(result="at last")


class SlowToAnswer(Workflow):
    def __init__(self) -> None:
        super().__init__(timeout=0.1)

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="?"))
        return StopEvent(result=answer.response)


@pytest.mark.parametrize(("workflow", "active"), [(Slow, ["dawdle"]), (SlowToAnswer, [])])
async def test_a_workflows_timeout_ends_its_run(
    process: Process, workflow: type[Workflow], active: list[str]
) -> None:
    await process.serve((workflow, [HumanResponseEvent]))
    handler = await process.run(workflow)
    assert (handler.status, handler.error) == (Handler.Status.FAILED, "Workflow timed out after 0.1s")
    last = (await process.public_log(handler))[-1]
    assert (last.type, last.value) == ("WorkflowTimedOutEvent", {"timeout": 0.1, "active_steps": active})
    assert world.notes == (["interrupted"] if active else [])


# --- cancellation --------------------------------------------------------------------------------------


class Long(Workflow):
    @step
    async def work(self, ctx: Context, ev: StartEvent) -> Tried:
        try:
            await world.gate("work").passed()
        except asyncio.CancelledError:
            world.note("interrupted")
            ctx.write_event_to_stream(Tried(attempts=99))
            raise
        return Tried(attempts=1)

    @step
    async def more(self, ev: Tried) -> StopEvent:
        world.note("went on")
        return StopEvent()


async def test_a_run_is_cancelled_while_a_step_runs(process: Process) -> None:
    await process.serve(Long)
    handler = await process.start(Long)
    await until(lambda: world.gate("work").reached, "the step never began")
    await service.acancel(handler.handler_id)
    handler = await process.finish(handler)
    assert (handler.status, handler.result, handler.error) == (Handler.Status.CANCELLED, None, None)
    assert (await process.public_log(handler))[-1].type == "WorkflowCancelledEvent"
    assert world.notes == ["interrupted"]


class LongInThread(Workflow):
    @step
    def work(self, ev: StartEvent) -> Tried:
        world.gate("work").passed_in_thread()
        world.note(f"done in {threading.current_thread().name.rsplit('_')[0]}")
        return Tried(attempts=1)

    @step
    async def more(self, ev: Tried) -> StopEvent:
        world.note("went on")
        return StopEvent()


async def test_a_run_is_cancelled_while_a_sync_step_runs(process: Process) -> None:
    """A thread cannot be interrupted, but its run ends, and what it returns later goes nowhere."""
    await process.serve(LongInThread)
    handler = await process.start(LongInThread)
    await until(lambda: world.gate("work").reached, "the step never began")
    await service.acancel(handler.handler_id)
    assert (await process.finish(handler)).status == Handler.Status.CANCELLED
    world.gate("work").open()
    await until(lambda: world.times("done in django-workflows-step") == 1, "the thread never ended")
    assert (await process.public_log(handler))[-1].type == "WorkflowCancelledEvent"
    assert world.times("went on") == 0


async def test_a_run_is_cancelled_while_it_waits(process: Process) -> None:
    await process.serve((SlowAsk, [HumanResponseEvent]))
    handler = await process.start(SlowAsk)
    await process.seen(handler, "InputRequiredEvent")
    await service.acancel(handler.handler_id)
    assert (await process.stored(handler)).status == Handler.Status.CANCELLED
    assert (await process.log(handler))[-1].type == "WorkflowCancelledEvent"


class SlowAsk(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="?"))
        return StopEvent(result=answer.response)


class OneByOne(Workflow):
    def __init__(self) -> None:
        super().__init__(num_concurrent_runs=1)

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        world.note(f"work {ev.number}")
        await world.gate("work").passed()
        return StopEvent(result=ev.number)


async def test_a_run_is_cancelled_while_it_waits_for_its_turn(process: Process) -> None:
    await process.serve(OneByOne)
    first = await process.start(OneByOne, number=1)
    await until(lambda: world.gate("work").reached, "the first run never began")
    second = await process.start(OneByOne, number=2)
    await service.acancel(second.handler_id)
    assert (await process.stored(second)).status == Handler.Status.CANCELLED
    world.gate("work").open()
    assert outcome(await process.finish(first)) == 1
    assert world.notes == ["work 1"]


async def test_a_run_is_cancelled_from_synchronous_code(process: Process) -> None:
    await process.serve((SlowAsk, [HumanResponseEvent]))
    handler = await process.start(SlowAsk)
    await process.seen(handler, "InputRequiredEvent")
    await process.in_thread(service.cancel, handler.handler_id)
    assert (await process.finish(handler)).status == Handler.Status.CANCELLED


async def test_a_cancellation_that_was_answered_comes_before_an_end_that_was_not_written(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    # So long that the mail is not fetched before the step is through.
    await process.serve(Long, POLL_INTERVAL=30)
    handler = await process.start(Long)
    await until(lambda: world.gate("work").reached, "the step never began")
    await process.in_thread(mailbox.post, Letter(handler.pk, handler.run, Message.Kind.CANCEL))
    world.gate("work").open()
    assert (await process.finish(handler)).status == Handler.Status.CANCELLED
    assert "taken the run over" not in caplog.text


async def test_a_run_that_has_ended_cannot_be_cancelled(process: Process) -> None:
    await process.serve(Flaky)
    handler = await process.run(Flaky, failures=0)
    with pytest.raises(HandlerFinished):
        await service.acancel(handler.handler_id)
    assert (await process.stored(handler)).status == Handler.Status.COMPLETED


# --- what cannot be stored -----------------------------------------------------------------------------


class Opaque:
    """Nothing that JSON knows."""


class Carries(Event):
    what: Any


class Unprintable(Event):
    number: int

    @field_serializer("number")
    def refuse(self, number: int) -> int:
        raise ValueError("this event does not want to be written")


class Undeclared(Event):
    pass


class CannotBeStored(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Carries | StopEvent:
        match ev.how:
            case "result":
                return StopEvent(result=Opaque())
            case "event":
                return Carries(what=Opaque())
            case "sent":
                ctx.send_event(Carries(what=Opaque()))
            case "undeclared":
                ctx.send_event(Undeclared())
            case "undeclared return":
                return Undeclared()
            case "state":
                await ctx.store.set("what", Opaque())
            case "stream":
                ctx.write_event_to_stream(Unprintable(number=1))
            case "requirements":
                await ctx.wait_for_event(HumanResponseEvent, requirements={"what": Opaque()})
            case "tuple":
                await ctx.wait_for_event(HumanResponseEvent, requirements={"what": (1, 2)})
        await world.gate(ev.how).passed()
        return Carries(what=1)

    @step
    async def end(self, ctx: Context, ev: Carries) -> StopEvent:
        ctx.write_event_to_stream(ev)
        return StopEvent(result="stored")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("result", "what step begin returned or sent cannot be stored: Unable to serialize unknown type"),
        ("event", "what step begin returned or sent cannot be stored: Unable to serialize unknown type"),
        ("sent", "cannot be stored: Unable to serialize unknown type"),
        ("undeclared", "Undeclared is not declared by the workflow"),
        ("undeclared return", "Undeclared is not declared by the workflow"),
        ("state", "Opaque"),
        ("stream", "Unprintable cannot be written as JSON"),
        ("requirements", "requirements of wait_for_event in step begin cannot be stored"),
        ("tuple", "would be others after a restart"),
    ],
)
async def test_what_cannot_be_stored_fails_its_run_and_says_why(process: Process, how: str, reason: str) -> None:
    await process.serve((CannotBeStored, [HumanResponseEvent]), Flaky)
    world.gate(how).open()
    handler = await process.run(CannotBeStored, how=how)
    assert handler.status == Handler.Status.FAILED
    assert reason in (handler.error or "")
    assert (await process.public_log(handler))[-1].type == "WorkflowFailedEvent"
    # Nobody else is hurt.
    assert await process.result(Flaky, failures=0) == 0


class LastWordCannotBeStored(Workflow):
    @step
    async def end(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Unprintable(number=1))
        return StopEvent(result="as if nothing had happened")


async def test_an_event_that_cannot_be_stored_is_not_lost_silently_in_the_last_step(process: Process) -> None:
    await process.serve(LastWordCannotBeStored)
    handler = await process.run(LastWordCannotBeStored)
    assert handler.status == Handler.Status.FAILED
    assert "Unprintable cannot be written as JSON" in (handler.error or "")
