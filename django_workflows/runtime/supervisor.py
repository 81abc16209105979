"""What a process does for its runs: claim them, feed them their mail, take over what the dead left, let go.

One supervisor serves a process, on the event loop that the server runs. It can die at any line: all that it
knows is in the database, and whoever comes next begins there.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django_workflows import conf, leases, mailbox, notify, registry
from django_workflows.exceptions import PersistenceFailed, Unavailable
from django_workflows.handlers import Ending, Start
from django_workflows.leases import Lease
from django_workflows.models import Handler, Message
from django_workflows.registry import Served
from django_workflows.runtime import loading, replay
from django_workflows.runtime.housekeeping import Housekeeping
from django_workflows.runtime.loading import Loading
from django_workflows.runtime.membership import Membership
from django_workflows.runtime.replay import Beginning
from django_workflows.runtime.run import Run
from django_workflows.runtime.runtime import DjangoRuntime
from django_workflows.runtime.steps import StepExecutor
from django_workflows.runtime.writer import Writer

logger = logging.getLogger("django_workflows.runtime")

# Messages fetched in one round; more follow in the next, at once.
MAIL_LIMIT = 500
# The engine copies a run's queue at every tick: its mail is fed in portions.
INBOX_LIMIT = 100
# Seconds that requests under way may take to end when the process is asked to stop.
GRACE = 10.0
# Seconds that a start may take to be stored; after that its run begins anew, as its timeout has begun by then.
STALE = 1.0

_runtime = DjangoRuntime()


@dataclass(frozen=True, slots=True)
class _Starting:
    """A start that is under way.

    Attributes:
        begun: resolved when its run has begun.
        ahead: the run, when it does what comes before its first step meanwhile.
        since: when that was (on the event loop's clock).
    """

    begun: asyncio.Future[Handler]
    ahead: Run | None
    since: float


class Supervisor:
    """The runs of this process. Start and use it on one event loop."""

    def __init__(self) -> None:
        settings = conf.get()
        self.executes = settings.EXECUTE
        # Set when the process shall end: streams end, and requests that wait are given GRACE seconds.
        self.draining = asyncio.Event()
        # Resolved when that time is over.
        self._closing: set[asyncio.Future[None]] = set()
        self._is_closing = False
        self._loop = asyncio.get_running_loop()
        self._poll_interval = settings.POLL_INTERVAL
        self._membership = Membership(settings.LEASE_TIMEOUT, self._hear_of_death)
        self._writer = Writer(on_interval=self._membership.beat, interval=settings.LEASE_TIMEOUT / 3)
        self._steps = StepExecutor(settings.STEP_THREADS)
        self._runs: dict[int, Run] = {}
        # Whether the last claim left runs for which there was no room, as far as is known.
        self._may_claim = False
        # Handlers of runs that had no room for all of their mail, or were not loaded when it was there.
        self._turned_away: set[int] = set()
        self._to_let_go: set[Lease] = set()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # By run id.
        self._starting: dict[str, _Starting] = {}
        # Up to which of the writer's failures it was made sure that no run is ours without our knowing.
        self._sure_up_to = 0
        self._hint = asyncio.Event()
        self._rejoining = False
        self._stopped = False
        self._housekeeping = Housekeeping(self._runs, self._writer, self._spawn, self._let_go)
        self._loading = Loading(
            self._runs,
            spawn=self._spawn,
            launch=self._launch_unless_stopped,
            let_go=self._let_go,
            on_loaded=self._loaded,
        )

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Enlist as a worker and begin to look after runs."""
        self._loop.set_default_executor(self._steps)
        self._writer.start()
        for problem in registry.problems():
            # ``manage.py check`` says it as well, but a server need not have run it.
            logger.error("workflow %r is not served: %s. %s", problem.name, problem.message, problem.hint)
        for served in registry.all_served():
            _runtime.adopt(served)
        if self.executes:
            try:
                await self._membership.join(self._writer)
            except PersistenceFailed:
                logger.error("the database does not answer; this process executes runs as soon as it does")
                self._rejoining = True
                self._spawn(self._rejoin(), "django-workflows enlist")
            notify.on_mail(self.hint)
            self._spawn(self._look_after_runs(), "django-workflows supervisor")
            self._spawn(self._look_after_workers(), "django-workflows takeover")
            for name, loop in self._housekeeping.loops():
                self._spawn(loop, f"django-workflows {name}")

    def drain(self) -> None:
        """Begin to end: take up no more runs, and let requests that wait know that their time is limited."""
        if not self.draining.is_set():
            self.draining.set()
            notify.nudge()
            self._loop.call_later(GRACE, self._close)
            if self._membership.worker is not None:
                self._spawn(self._hand_over(), "django-workflows hand over")

    @contextlib.contextmanager
    def closing(self, future: asyncio.Future[None]) -> Iterator[None]:
        """Resolve a future when the time of requests that wait is over, while the block goes on."""
        if self._is_closing and not future.done():
            future.set_result(None)
        self._closing.add(future)
        try:
            yield
        finally:
            self._closing.discard(future)

    def _close(self) -> None:
        self._is_closing = True
        for future in self._closing:
            if not future.done():
                future.set_result(None)

    async def _hand_over(self) -> None:
        """Let go of the runs at once: who waits for one here hears of its end elsewhere.

        Where there is no other worker, those that somebody waits for get the time that the requests have.
        """
        alone = await self._writer.submit(self._membership.is_alone)
        for run in list(self._runs.values()):
            if not (alone and run.awaited):
                run.interrupt()

    async def stop(self) -> None:
        """Let go of all runs, so that others can claim them at once, and write what is under way."""
        if self._stopped:
            return
        self._stopped = True
        self.draining.set()
        self._close()
        notify.nudge()
        notify.off_mail(self.hint)
        for starting in self._starting.values():
            _refuse(starting.begun, Unavailable("The server is shutting down"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        runs = [run for run in self._runs.values() if run.task is not None]
        for run in runs:
            run.interrupt()
        if runs:
            await asyncio.wait([run.task for run in runs if run.task is not None], timeout=10)
        try:
            count = await self._membership.leave(self._writer)
            if count:
                notify.mail()
                logger.info("let go of %d runs, which go on elsewhere or at the next start", count)
        except Exception:
            logger.warning("could not let go of the runs; they are taken over when the lease ends")
        await self._writer.close()
        self._membership.end()
        # The step threads go on as the loop's default executor, which whatever else runs there may need.

    def _hear_of_death(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._declared_dead)

    def _declared_dead(self) -> None:
        """Others took this process for dead, or may have: its runs are theirs. Begin anew as another worker."""
        if self._stopped or self._rejoining:
            return
        logger.error(
            "this worker's heartbeat was not taken for %.0f s, so others may have its runs; dropping all %d",
            self._membership.lease_timeout,
            len(self._runs),
        )
        self._rejoining = True
        for run in list(self._runs.values()):
            run.interrupt()
        self._spawn(self._rejoin(), "django-workflows enlist")

    async def _rejoin(self) -> None:
        try:
            while self._membership.worker is None or not self._membership.is_sure:
                try:
                    await self._membership.join(self._writer)
                except PersistenceFailed:
                    # Until the database is back.
                    await asyncio.sleep(self._poll_interval)
        finally:
            self._rejoining = False

    # --- verbs of the service -------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return not self._stopped

    @property
    def is_here(self) -> bool:
        """Whether it runs on the caller's event loop, where alone it can be used."""
        try:
            return not self._stopped and asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    async def begin(self, request: Start) -> Handler:
        """Store a start and, when this process executes, begin it; returns when it is committed.

        Raises:
            HandlerRunning: the handler has a run under way.
            PersistenceFailed: the database does not take it.
            Unavailable: this process ends.
        """
        starting = _Starting(self._loop.create_future(), self._begin_ahead(request), self._loop.time())
        self._starting[request.run_id] = starting
        # Not awaited here: when the caller goes away before the commit, the run must begin all the same.
        self._writer.submit(request).add_done_callback(lambda stored: self._stored(request, stored, starting))
        if starting.ahead is not None:
            starting.ahead.launch()
        return await starting.begun

    def _begin_ahead(self, request: Start) -> Run | None:
        """Return a run for what comes before its first step, which can be done while its start is being stored.

        None where it may not begin here, or would keep a slot from those that are stored.
        """
        if not request.is_plain or request.worker is None or request.worker != self.worker:
            return None
        served = registry.get(request.workflow_name)
        return self._make(served, request, replay.fresh(served, request)) if self._slot(served) is None else None

    def _stored(self, request: Start, stored: asyncio.Future[Handler], starting: _Starting) -> None:
        """Begin a run whose start is committed, and tell whoever waits for that."""
        begun, ahead = starting.begun, starting.ahead
        is_stale = self._loop.time() - starting.since > STALE
        try:
            handler = stored.result()
            loading = self._set_off(request, handler, None if is_stale else ahead)
        except Exception as error:
            del self._starting[request.run_id]
            _refuse(begun, error)
            return
        finally:
            if ahead is not None and not ahead.is_owned:
                ahead.interrupt()

        def tell(*_: Any) -> None:
            del self._starting[request.run_id]
            if not begun.done():
                begun.set_result(handler)

        if loading is None:
            tell()
        else:
            loading.add_done_callback(tell)

    def _set_off(self, request: Start, handler: Handler, ahead: Run | None) -> asyncio.Task[None] | None:
        """Let a run begin here if it is ours; returns what it has to be waited for, None for nothing."""
        if handler.run_id != request.run_id or self._stopped:
            # An earlier start with the same key began it; or it is let go with all the others.
            return None
        if handler.worker_id is None or handler.worker_id != self._membership.worker:
            notify.mail()
            return None
        if handler.run > 1 or request.snapshot is not None or request.state is not None:
            # There is more to begin with than the start event.
            (loading,) = self._loading.take([handler])
            return loading
        if ahead is not None and ahead.task is not None:
            self._own(ahead, handler)
        else:
            served = registry.get(handler.workflow_name)
            self._launch(served, handler, replay.fresh(served, request))
        return None

    @property
    def worker(self) -> int | None:
        """Primary key of this process's worker, None when it does not execute runs (now)."""
        return None if self._stopped or self.draining.is_set() else self._membership.worker

    async def write(self, call: Any) -> Any:
        """Run a storage function in one of the writer's transactions; returns its result when committed."""
        if self._stopped:
            raise Unavailable("The server is shutting down")
        return await self._writer.submit(call)

    def run_of(self, handler: int) -> Run | None:
        """Return the run of a handler, when this process executes it."""
        return self._runs.get(handler)

    def drop(self, handler: int) -> None:
        """Stop executing a run that was deleted."""
        run = self._runs.get(handler)
        if run is not None:
            run.interrupt()

    def hint(self, worker: int | None = None) -> bool:
        """Look for mail and claimable runs now, unless the hint is for another worker; from any thread.

        Returns whether it is for this worker alone.
        """
        if worker not in (None, self._membership.worker):
            return False
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._hint.set)
        return worker is not None

    # --- runs -----------------------------------------------------------------------------------------

    def _make(self, served: Served, of: Handler | Start, beginning: Beginning) -> Run:
        return Run(
            served,
            _runtime.adopt(served),
            of.handler_id,
            of.run_id,
            beginning,
            writer=self._writer,
            slot=self._slot(served),
            on_consumed=self._consumed,
            on_journaled=self._housekeeping.journaled,
            on_left=self._left,
        )

    def _own(self, run: Run, handler: Handler) -> None:
        self._runs[handler.pk] = run
        run.own(leases.of(handler))

    def _launch(self, served: Served, handler: Handler, beginning: Beginning) -> Run:
        run = self._make(served, handler, beginning)
        self._own(run, handler)
        run.launch()
        return run

    def _launch_unless_stopped(self, served: Served, handler: Handler, beginning: Beginning) -> Run | None:
        return None if self._stopped else self._launch(served, handler, beginning)

    def _slot(self, served: Served) -> asyncio.Semaphore | None:
        limit = served.workflow._num_concurrent_runs
        if limit is None:
            return None
        return self._slots.setdefault(served.name, asyncio.Semaphore(limit))

    def _left(self, run: Run) -> None:
        if self._runs.get(run.lease.handler) is run:
            del self._runs[run.lease.handler]
            self._turned_away.discard(run.lease.handler)
        if run.ended.cancelled():
            # Its readers here were fed from memory.
            notify.committed(run.lease.handler, run.lease.run)
        if run.was_refused and not self._stopped:
            # It may still be ours: after a commit whose answer was lost, or an outage of the database.
            self._let_go(run.lease)

    def _let_go(self, lease: Lease) -> None:
        """Give up a run that may still be ours, in the next round."""
        self._to_let_go.add(lease)
        self._hint.set()

    def _loaded(self, handler: int) -> None:
        # Not after each: runs that are claimed together share the price of that.
        claims = self._may_claim and self._loading.room >= loading.MOST // 2
        if claims or self._to_let_go or handler in self._turned_away:
            self._turned_away.discard(handler)
            self._hint.set()

    # --- loops ----------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.critical("%s died", task.get_name(), exc_info=task.exception())

    async def _look_after_runs(self) -> None:
        while True:
            more = False
            try:
                more = await self._round()
            except Exception as error:
                logger.warning("looking for work failed: %s", error)
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_interval):
                        await self._hint.wait()
            self._hint.clear()

    async def _round(self) -> bool:
        """Claim runs and deliver mail once; True when there was more than fits."""
        worker = self._membership.worker
        if worker is None or not self._membership.is_sure:
            return False
        asked = dict(self._runs)
        known = [message for run in asked.values() for message in run.mail]
        full = {key for key, run in asked.items() if len(run.mail) >= INBOX_LIMIT}
        self._turned_away |= full
        full |= self._loading.unreadable
        releases, self._to_let_go = self._to_let_go, set()
        names = registry.names()
        room = 0 if self.draining.is_set() else self._loading.room

        def look() -> tuple[list[Handler], list[Message]]:
            for lease in releases:
                leases.let_go(lease)
            claimed = leases.claim(worker, room, names) if room else []
            return claimed, mailbox.fetch(worker, MAIL_LIMIT, known, full)

        try:
            claimed, messages = await self._writer.submit(look)
        except BaseException:
            self._to_let_go |= releases
            raise
        if releases and not room:
            # They are for others.
            notify.mail()
        self._loading.take(claimed)
        self._may_claim = len(claimed) == room
        if self._writer.failures != self._sure_up_to and not self.draining.is_set():
            await self._take_unheard(worker)
        delivered = [self._deliver(message, asked) for message in messages]
        return len(messages) == MAIL_LIMIT and any(delivered)

    async def _take_unheard(self, worker: int) -> None:
        """Take up runs that are ours without our knowing: the connection was lost while that was committed."""
        failures = self._writer.failures
        held = await self._writer.submit(lambda: leases.held(worker))
        # Of a start that is under way, or a run that is about to leave, the next round can tell.
        leaving = {key for key, run in self._runs.items() if run.was_refused}
        is_settled = self._starting.keys().isdisjoint(held.values()) and leaving.isdisjoint(held)
        letting_go = {lease.handler for lease in self._to_let_go}
        unknown = [
            run_id for key, run_id in held.items() if key not in letting_go and not self._is_known(key, run_id)
        ]
        if unknown:
            # What it was to write when it left, its release above all, may still be tried again.
            self._loading.take(await self._writer.submit(lambda: leases.renew(unknown, worker)))
        if is_settled:
            self._sure_up_to = failures

    def _is_known(self, handler: int, run_id: str) -> bool:
        """Whether a run of ours is in memory, or on its way there."""
        return (
            handler in self._runs
            or handler in self._loading.under_way
            or handler in self._loading.unreadable
            or run_id in self._starting
        )

    def _deliver(self, message: Message, asked: Mapping[int, Run]) -> bool:
        """Give a message to its run; False when that is not here, or has no room.

        Args:
            asked: the runs that were here when their mail was asked for.
        """
        run = self._runs.get(message.handler_id)
        if run is None or run.lease.run != message.run:
            if message.handler_id in self._loading.under_way:
                self._turned_away.add(message.handler_id)
            return False
        if asked.get(message.handler_id) is not run:
            # Left and taken up again meanwhile. What it had in memory before was left out, and comes first.
            self._hint.set()
            return False
        if len(run.mail) >= INBOX_LIMIT and message.kind == Message.Kind.EVENT:
            self._turned_away.add(message.handler_id)
            return False
        try:
            run.receive(message)
        except Exception as error:
            # It stays in the mailbox, where it can be seen, and is tried again by the next process.
            run.log.error("a message cannot be read and stays in the mailbox: %s", error, exc_info=error)
        return True

    def _consumed(self, run: Run) -> None:
        """A run has consumed mail: fetch what it had no room for."""
        handler = run.lease.handler
        if handler in self._turned_away and len(run.mail) <= INBOX_LIMIT // 2:
            self._turned_away.discard(handler)
            self._hint.set()

    async def _look_after_workers(self) -> None:
        """Retire workers that are dead, so that their runs can be claimed, and be none oneself."""
        while True:
            if not self._membership.is_sure:
                self._declared_dead()
            try:
                if await self._writer.submit(self._membership.bury):
                    notify.mail()
                await self._writer.submit(mailbox.sweep)
            except Exception as error:
                logger.warning("looking for dead workers failed: %s", error)
            await asyncio.sleep(self._membership.lease_timeout / 3)


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    """Answer with an error, unless there is an answer or nobody waits for one."""
    if not future.done():
        future.set_exception(error)
        # Whoever waits may go away before it looks.
        future.exception()


_current: Supervisor | None = None


def current() -> Supervisor | None:
    """Return this process's supervisor, None before :func:`start` and after :func:`stop`."""
    return _current


async def start() -> Supervisor:
    """Start this process's supervisor on the running loop; returns the one that runs when there is one."""
    global _current
    if _current is not None and _current.is_running:
        return _current
    starting = Supervisor()
    try:
        await starting.start()
    except BaseException:
        await starting.stop()
        raise
    _current = starting
    return starting


async def stop() -> None:
    """Stop this process's supervisor, if any."""
    global _current
    if _current is not None:
        supervisor = _current
        await supervisor.stop()
        _current = None


__all__ = ["Ending", "Supervisor", "current", "start", "stop"]
