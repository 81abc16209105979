from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from django_workflows import notify
from django_workflows.eventlog import EventEntry
from django_workflows.notify import Subscription
from tests.storage import PATIENCE

AT = datetime(2026, 1, 2, tzinfo=UTC)


def entries(*sequences: int) -> list[EventEntry]:
    return [EventEntry(sequence, False, "{}", "Step", AT) for sequence in sequences]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    notify._subscriptions.clear()
    notify._mail_listeners.clear()


async def woken(subscription: Subscription) -> bool:
    """Tell whether a hint is there already, or comes at once."""
    return await subscription.wait(subscription.loop.time() + PATIENCE)


async def not_woken(subscription: Subscription) -> bool:
    return not await subscription.wait(subscription.loop.time() + 0.05)


# --- a reader ------------------------------------------------------------------------------------------


async def test_a_reader_that_follows_gets_what_is_committed() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    assert subscription.take(-1) == []

    notify.committed(1, 1, entries(0, 1))
    notify.committed(1, 1, entries(2))

    assert await woken(subscription)
    assert subscription.take(-1) == entries(0, 1, 2)
    assert subscription.take(2) == []
    assert not subscription.ended


async def test_a_reader_that_does_not_follow_is_sent_to_the_log() -> None:
    subscription = notify.subscribe(1, 1)
    notify.committed(1, 1, entries(0))

    assert await woken(subscription)
    assert subscription.take(-1) is None


async def test_what_the_reader_has_already_is_left_out() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    notify.committed(1, 1, entries(3, 4, 5))

    assert subscription.take(4) == entries(5)


async def test_a_gap_sends_the_reader_to_the_log() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    notify.committed(1, 1, entries(3))

    assert subscription.take(1) is None
    # And so it stays until it has read the log.
    notify.committed(1, 1, entries(4))
    assert subscription.take(3) is None
    subscription.follow()
    notify.committed(1, 1, entries(5))
    assert subscription.take(4) == entries(5)


async def test_the_end() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    notify.committed(1, 1, entries(0), ended=True)

    assert await woken(subscription)
    assert subscription.ended
    assert subscription.take(-1) == entries(0)


async def test_an_end_without_events_wakes() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    notify.committed(1, 1, ended=True)

    assert await woken(subscription)
    assert subscription.ended
    assert subscription.take(-1) == []


async def test_a_hint_without_events_sends_the_reader_to_the_log() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    notify.committed(1, 1)

    assert await woken(subscription)
    assert subscription.take(-1) is None
    assert not subscription.ended


async def test_a_slow_reader_costs_no_memory() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    for sequence in range(notify.MAX_AHEAD):
        notify.committed(1, 1, entries(sequence))
    assert subscription.take(-1) == entries(*range(notify.MAX_AHEAD))

    for sequence in range(notify.MAX_AHEAD + 1):
        notify.committed(1, 1, entries(sequence))
    assert subscription.take(-1) is None
    assert await woken(subscription)


async def test_a_quick_reader_of_many_events_is_fed_from_memory() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    for sequence in range(2 * notify.MAX_AHEAD):
        notify.committed(1, 1, entries(sequence))
        assert subscription.take(sequence - 1) == entries(sequence)


async def test_a_reader_of_an_earlier_run_gets_nothing_of_the_next() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    notify.committed(1, 2, entries(0), ended=True)

    assert await woken(subscription)
    # It looks into the log, where its own run is over.
    assert subscription.take(-1) is None
    assert not subscription.ended


async def test_hints_are_for_readers_of_that_handler() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    notify.committed(2, 1, entries(0))

    assert await not_woken(subscription)


async def test_every_reader_gets_everything() -> None:
    readers = [notify.subscribe(1, 1) for _ in range(3)]
    for reader in readers:
        reader.follow()
    notify.committed(1, 1, entries(0))

    assert [reader.take(-1) for reader in readers] == [entries(0)] * 3


async def test_who_has_unsubscribed_gets_nothing() -> None:
    staying, leaving = notify.subscribe(1, 1), notify.subscribe(1, 1)
    for reader in (staying, leaving):
        reader.follow()
    notify.unsubscribe(leaving)
    notify.unsubscribe(leaving)
    notify.committed(1, 1, entries(0))

    assert staying.take(-1) == entries(0)
    assert leaving.take(-1) == []


async def test_nothing_is_kept_of_a_reader_that_has_left() -> None:
    subscription = notify.subscribe(1, 1)
    notify.unsubscribe(subscription)
    reference = weakref.ref(subscription)
    del subscription
    gc.collect()

    assert reference() is None
    assert not notify._subscriptions


async def test_a_wait_without_a_hint_ends() -> None:
    assert await not_woken(notify.subscribe(1, 1))


async def test_all_that_other_threads_say_comes_with_one_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = [notify.subscribe(handler, 1) for handler in (1, 1, 2)]
    for reader in readers:
        reader.follow()
    loop, wake_ups = asyncio.get_running_loop(), []
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: (wake_ups.append(call), wake(*call)))

    def commit() -> None:
        for number in range(3):
            notify.committed(1, 1, entries(number))
            notify.committed(2, 1, entries(number))

    committing = threading.Thread(target=commit)
    committing.start()
    # The loop is not free before everything was said.
    committing.join()
    for reader in readers:
        assert await woken(reader)
        assert reader.take(-1) == entries(0, 1, 2)
    assert len(wake_ups) == 1


async def test_a_nudge_wakes_every_reader() -> None:
    readers = [notify.subscribe(handler, 1) for handler in (1, 2)]
    notify.nudge()
    for reader in readers:
        assert await woken(reader)
        assert reader.nudged


async def test_a_hint_wakes_once() -> None:
    subscription = notify.subscribe(1, 1)
    notify.committed(1, 1, entries(0))

    assert await woken(subscription)
    assert await not_woken(subscription)


async def test_a_hint_between_the_look_and_the_wait_is_not_lost() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()
    assert subscription.take(-1) == []
    notify.committed(1, 1, entries(0))

    assert await woken(subscription)


# --- from other threads --------------------------------------------------------------------------------


async def test_a_commit_in_another_thread_wakes_in_order() -> None:
    subscription = notify.subscribe(1, 1)
    subscription.follow()

    def commit() -> None:
        for sequence in range(100):
            notify.committed(1, 1, entries(sequence), ended=sequence == 99)

    writing = asyncio.create_task(asyncio.to_thread(commit))
    seen: list[EventEntry] = []
    while not subscription.ended:
        assert await woken(subscription)
        found = subscription.take(len(seen) - 1)
        assert found is not None
        seen += found
    await writing

    assert seen == entries(*range(100))


async def test_who_waits_for_the_end_is_not_woken_before() -> None:
    subscription = notify.subscribe(1, 1, until_end=True)
    notify.committed(1, 1, entries(0))
    notify.hear_progress(1, 1, 5)
    assert not subscription.misses((1, 5))
    assert await not_woken(subscription)

    # Another run, no run, the end by hint, the end from memory.
    assert subscription.misses((2, 0))
    assert subscription.misses(None)
    notify.hear_progress(1, 1, -1)
    assert await woken(subscription)
    notify.committed(1, 1, entries(1), ended=True)
    assert await woken(subscription)
    assert subscription.ended


async def test_a_reader_waits_without_a_limit() -> None:
    subscription = notify.subscribe(1, 1)
    waiting = asyncio.ensure_future(subscription.wait(math.inf))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    notify.committed(1, 1, entries(0))
    assert await asyncio.wait_for(waiting, PATIENCE)


async def test_a_commit_in_another_thread_wakes_a_loop_that_sleeps() -> None:
    subscription = notify.subscribe(1, 1)
    commit = threading.Timer(0.1, notify.committed, (1, 1, entries(0)))
    commit.start()

    assert await woken(subscription)
    commit.join()


def test_a_reader_whose_loop_is_closed_hinders_nobody() -> None:
    async def subscribe() -> Subscription:
        return notify.subscribe(1, 1)

    gone = asyncio.run(subscribe())

    async def follow() -> list[EventEntry] | None:
        reader = notify.subscribe(1, 1)
        reader.follow()
        await asyncio.to_thread(notify.committed, 1, 1, entries(0))
        await reader.wait(reader.loop.time() + PATIENCE)
        return reader.take(-1)

    assert gone.loop.is_closed()
    assert asyncio.run(follow()) == entries(0)


# --- mail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_thread", [False, True])
def test_who_listens_hears_of_mail(in_thread: bool) -> None:
    heard: list[int] = []

    def listener(worker: int | None) -> bool:
        heard.append(threading.get_ident())
        return False

    notify.on_mail(listener)
    notify.on_mail(listener)

    if in_thread:
        thread = threading.Thread(target=notify.mail)
        thread.start()
        thread.join(PATIENCE)
    else:
        notify.mail()
    assert len(heard) == 1

    notify.off_mail(listener)
    notify.off_mail(listener)
    notify.mail()
    assert len(heard) == 1


def test_a_listener_may_leave_while_it_is_called() -> None:
    heard = []

    def once(worker: int | None) -> bool:
        heard.append(1)
        notify.off_mail(once)
        return False

    notify.on_mail(once)
    notify.mail()
    notify.mail()
    assert heard == [1]
