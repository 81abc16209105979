"""What a process does for its runs: claim them, feed them their mail, take over what the dead left, let go.

One supervisor serves a process, on the event loop that the server runs. It can die at any line: all that it
knows is in the database, and whoever comes next begins there.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from django_workflows import conf, database, leases, mailbox, notify, registry
from django_workflows.exceptions import Unavailable
from django_workflows.handlers import Ending, Start
from django_workflows.leases import Lease
from django_workflows.models import Handler, Message
from django_workflows.registry import Served
from django_workflows.runtime import replay
from django_workflows.runtime.liveness import Life, forget, is_dead
from django_workflows.runtime.run import Beginning, Run
from django_workflows.runtime.runtime import DjangoRuntime
from django_workflows.runtime.writer import Writer

logger = logging.getLogger("django_workflows.runtime")

# Runs claimed and messages fetched in one round; more follow in the next, at once.
CLAIM_LIMIT = 100
MAIL_LIMIT = 500
# The engine copies a run's queue at every tick: its mail is fed in portions.
INBOX_LIMIT = 100
# Journals read at the same time.
LOADING = 4
# Seconds that requests under way may take to end when the process is asked to stop.
GRACE = 10.0

_runtime = DjangoRuntime()


class Supervisor:
    """The runs of this process. Start and use it on one event loop."""

    def __init__(self) -> None:
        settings = conf.get()
        self.executes = settings.EXECUTE
        # Set when the process shall end: streams end, and requests that wait are given GRACE seconds.
        self.draining = asyncio.Event()
        # Set when that time is over.
        self.closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._lease_timeout = settings.LEASE_TIMEOUT
        self._poll_interval = settings.POLL_INTERVAL
        self._writer = Writer(on_interval=self._heartbeat, interval=settings.LEASE_TIMEOUT / 3)
        self._steps = database.ManagedExecutor(settings.STEP_THREADS, thread_name_prefix="django-workflows-step")
        self._worker: int | None = None
        self._life: Life | None = None
        self._runs: dict[int, Run] = {}
        self._loading: set[int] = set()
        # Handlers of runs that had no room for all of their mail.
        self._turned_away: set[int] = set()
        # Handlers of runs that are ours but could not be loaded; their mail must not stand before that of others.
        self._unreadable: set[int] = set()
        self._to_let_go: set[Lease] = set()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._load_limit = asyncio.Semaphore(LOADING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._beginnings: set[asyncio.Task[tuple[Handler, Run | None]]] = set()
        self._hint = asyncio.Event()
        self._stopped = False

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
            await self._enlist()
            notify.on_mail(self.hint)
            self._spawn(self._look_after_runs(), "django-workflows supervisor")
            self._spawn(self._look_after_workers(), "django-workflows takeover")

    def drain(self) -> None:
        """Begin to end: take up no more runs, and let requests that wait know that their time is limited."""
        if not self.draining.is_set():
            self.draining.set()
            self._loop.call_later(GRACE, self.closing.set)

    async def stop(self) -> None:
        """Let go of all runs, so that others can claim them at once, and write what is under way."""
        if self._stopped:
            return
        self._stopped = True
        self.draining.set()
        self.closing.set()
        notify.off_mail(self.hint)
        tasks = [*self._tasks, *self._beginnings]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        runs = [run for run in self._runs.values() if run.task is not None]
        for run in runs:
            run.interrupt()
        if runs:
            await asyncio.wait([run.task for run in runs if run.task is not None], timeout=10)
        if self._worker is not None:
            worker, self._worker = self._worker, None
            try:
                count = await self._writer.submit(lambda: leases.retire(worker))
                if count:
                    logger.info("let go of %d runs, which go on elsewhere or at the next start", count)
            except Exception:
                logger.warning("could not let go of the runs; they are taken over when the lease ends")
        await self._join_writer()
        if self._life is not None:
            self._life.end()
        # The step threads go on as the loop's default executor, which whatever else runs there may need.

    async def _join_writer(self) -> None:
        with database.ManagedExecutor(1) as joining:
            await self._loop.run_in_executor(joining, self._writer.stop)

    async def _enlist(self) -> None:
        worker = await self._writer.submit(leases.enlist)
        with contextlib.suppress(OSError):
            self._life = Life(worker.token)
        self._worker = worker.pk

    def _heartbeat(self) -> None:
        """Called in the writer's thread, so that a step that blocks the event loop does not cost the lease."""
        worker = self._worker
        if worker is not None and not leases.heartbeat(worker):
            self._loop.call_soon_threadsafe(self._declared_dead)

    def _declared_dead(self) -> None:
        """Others took this process for dead: its runs are theirs. Begin anew as another worker."""
        if self._stopped:
            return
        logger.error(
            "this worker sent no heartbeat for %.0f s and was declared dead; dropping its %d runs",
            self._lease_timeout,
            len(self._runs),
        )
        self._worker = None
        for run in list(self._runs.values()):
            run.interrupt()
        if self._life is not None:
            self._life.end()
        self._spawn(self._enlist(), "django-workflows enlist")

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

    async def begin(self, request: Start) -> tuple[Handler, Run | None]:
        """Store a start and, when this process executes, begin it; returns when it is committed.

        Raises:
            HandlerRunning: the handler has a run under way.
            PersistenceFailed: the database does not take it.
        """
        # In a task of its own: when the caller goes away after the commit, the run must begin all the same.
        beginning = self._loop.create_task(
            self._begin(request), name=f"start {request.run_id}", context=contextvars.Context()
        )
        self._beginnings.add(beginning)
        beginning.add_done_callback(self._begun)
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            if beginning.cancelled():
                raise Unavailable("The server is shutting down") from None
            raise

    async def _begin(self, request: Start) -> tuple[Handler, Run | None]:
        handler: Handler = await self._writer.submit(request)
        if handler.worker_id is None or handler.worker_id != self._worker:
            notify.mail()
            return handler, None
        served = registry.get(handler.workflow_name)
        if request.chosen or request.snapshot is not None or request.state is not None:
            # There may be a state to begin with.
            return handler, await self._load(served, handler)
        return handler, self._launch(served, handler, replay.fresh(served, handler))

    def _begun(self, beginning: asyncio.Task[tuple[Handler, Run | None]]) -> None:
        self._beginnings.discard(beginning)
        if not beginning.cancelled():
            # Retrieved here for a caller that went away; one that is there raises it.
            beginning.exception()

    @property
    def worker(self) -> int | None:
        """Primary key of this process's worker, None when it does not execute runs (now)."""
        return None if self._stopped or self.draining.is_set() else self._worker

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

    def hint(self) -> None:
        """Look for mail and claimable runs now; from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._hint.set)

    # --- runs -----------------------------------------------------------------------------------------

    def _launch(self, served: Served, handler: Handler, beginning: Beginning) -> Run:
        run = Run(
            served,
            _runtime.adopt(served),
            handler,
            beginning,
            writer=self._writer,
            slot=self._slot(served),
            on_consumed=lambda: self._consumed(handler.pk),
        )
        self._runs[handler.pk] = run
        self._unreadable.discard(handler.pk)
        run.launch(self._left)
        return run

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
            self._to_let_go.add(run.lease)
            self._hint.set()

    async def _load(self, served: Served, handler: Handler) -> Run | None:
        """Read where a claimed run stands and let it go on."""
        self._loading.add(handler.pk)
        try:
            async with self._load_limit:
                beginning = await database.read(replay.load, served, handler)
            if self._stopped:
                return None
            return self._launch(served, handler, beginning)
        except Exception as error:
            extra = {
                "handler_id": handler.handler_id,
                "run_id": handler.run_id,
                "workflow": handler.workflow_name,
            }
            if database.is_transient(error):
                logger.warning("the run's journal could not be read, trying again: %s", error, extra=extra)
                await asyncio.sleep(self._poll_interval)
                self._to_let_go.add(leases.of(handler))
                return None
            # It stays with this worker, so that it is not tried over and over; the next start tries again.
            self._unreadable.add(handler.pk)
            logger.error(
                "the run cannot go on here, because its journal cannot be read: %s",
                error,
                exc_info=error,
                extra=extra,
            )
            return None
        finally:
            self._loading.discard(handler.pk)
            self._hint.set()

    # --- loops ----------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(coroutine, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

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
        worker = self._worker
        if worker is None:
            return False
        known = [message for run in self._runs.values() for message in run.mail]
        full = {key for key, run in self._runs.items() if len(run.mail) >= INBOX_LIMIT}
        self._turned_away |= full
        full |= self._unreadable
        releases, self._to_let_go = self._to_let_go, set()
        names = registry.names()
        claims = not self.draining.is_set()

        def look() -> tuple[list[Handler], list[Message]]:
            for lease in releases:
                leases.let_go(lease)
            claimed = leases.claim(worker, CLAIM_LIMIT, names) if claims else []
            return claimed, mailbox.fetch(worker, MAIL_LIMIT, known, full)

        try:
            claimed, messages = await self._writer.submit(look)
        except BaseException:
            self._to_let_go |= releases
            raise
        for handler in claimed:
            self._take(handler)
        delivered = [self._deliver(message) for message in messages]
        return len(claimed) == CLAIM_LIMIT or (len(messages) == MAIL_LIMIT and any(delivered))

    def _take(self, handler: Handler) -> None:
        served = registry.get(handler.workflow_name)
        self._spawn(self._resume(served, handler), f"resume {handler.run_id}")

    async def _resume(self, served: Served, handler: Handler) -> None:
        previous = self._runs.get(handler.pk)
        if previous is not None and previous.task is not None:
            # It lost its lease and is on its way out.
            previous.interrupt()
            await asyncio.wait([previous.task])
        run = await self._load(served, handler)
        if run is not None:
            run.log.info("the run goes on here")

    def _deliver(self, message: Message) -> bool:
        run = self._runs.get(message.handler_id)
        if run is None or run.lease.run != message.run:
            return False
        if len(run.mail) >= INBOX_LIMIT:
            self._turned_away.add(message.handler_id)
            return False
        try:
            run.receive(message)
        except Exception as error:
            # It stays in the mailbox, where it can be seen, and is tried again by the next process.
            run.log.error("a message cannot be read and stays in the mailbox: %s", error, exc_info=error)
        return True

    def _consumed(self, handler: int) -> None:
        """A run has consumed mail: fetch what it had no room for."""
        run = self._runs.get(handler)
        if handler in self._turned_away and (run is None or len(run.mail) <= INBOX_LIMIT // 2):
            self._turned_away.discard(handler)
            self._hint.set()

    async def _look_after_workers(self) -> None:
        """Retire workers that are dead, so that their runs can be claimed."""
        while True:
            try:
                for token in await self._writer.submit(self._bury):
                    forget(token)
            except Exception as error:
                logger.warning("looking for dead workers failed: %s", error)
            await asyncio.sleep(self._lease_timeout / 3)

    def _bury(self) -> list[str]:
        """Retire dead workers and return their tokens; in the writer's transaction."""
        me = self._worker
        if me is None:
            return []
        buried = []
        silent = {worker.pk: worker for worker in leases.silent(timedelta(seconds=self._lease_timeout))}
        for worker in leases.colleagues(me):
            if worker.pk in silent or is_dead(worker.token):
                runs = leases.retire(worker.pk)
                buried.append(worker.token)
                logger.warning("worker %s is dead; %d runs of it can be claimed", worker, runs)
                if runs:
                    self.hint()
        mailbox.sweep()
        return buried


_current: Supervisor | None = None


def current() -> Supervisor | None:
    """Return this process's supervisor, None before :func:`start` and after :func:`stop`."""
    return _current


async def start() -> Supervisor:
    """Start this process's supervisor on the running loop; returns the one that runs when there is one."""
    global _current
    if _current is not None and _current.is_running:
        return _current
    _current = Supervisor()
    await _current.start()
    return _current


async def stop() -> None:
    """Stop this process's supervisor, if any."""
    global _current
    if _current is not None:
        supervisor = _current
        await supervisor.stop()
        _current = None


__all__ = ["Ending", "Supervisor", "current", "start", "stop"]
