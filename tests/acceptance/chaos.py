"""Chance against the promises: clients that do not give up, faults, and books that must balance in the end.

``python -m tests.acceptance --help`` runs it for as long as one likes; a test runs a bounded part of it. All that
is random comes from one seed. What is done is the same for the same seed; when it is done, the machine has a say.

What was answered is written into the books. In the end, when the faults are over and every run has ended:

- a start, an event, a cancellation or a deletion that was answered has taken effect (else it is *lost*);
- an event is in the journal once at most, a handler has one run, and a step that was completed has not run again:
  it may have begun once more for each time that its run changed hands, and no more (else it is *duplicated*);
- journals and logs have no gap, each log one terminal event, at its end, and each reader has seen just that;
- no row is left of what was deleted, no mail of what has ended, and no worker but those that live.
"""

from __future__ import annotations

import math
import random
import re
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from tests.acceptance import services
from tests.acceptance.scene import Scene, new_key
from tests.servers import Server, administer

# Seconds without a heartbeat after which a process is dead: short enough to wait for.
LEASE = 5.0
# Seconds that a run gets to come to its end, and what it leaves to be swept, when the faults are over.
PATIENCE = 60.0
QUIET = 30.0
# Seconds that a client waits for an answer before it asks somebody else.
ANSWER_TIMEOUT = 8.0
CLIENTS = 6


@dataclass
class Books:
    """What clients were told.

    Attributes:
        starts: handler id -> how many requests to start it were not answered, besides the one that was.
        once: handler ids whose starts all had the same idempotency key, so that they are one.
        events: token -> (handler id, whether it was answered).
        cancelled: handler ids whose cancellation was answered.
        purged: handler ids whose deletion was answered.
        told: handler id -> what is wrong with it as its client saw it.
    """

    starts: dict[str, int] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)
    events: dict[str, tuple[str, bool]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    purged: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)


@dataclass
class Figures:
    """What came out of it."""

    seed: int
    runs: int = 0
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    # Seconds from a fault until every run of that process was with another, for each kind of fault.
    takeovers: dict[str, list[float]] = field(default_factory=dict)
    # Where the processes' output was kept, because something is wrong.
    logs: Path | None = None

    def __str__(self) -> str:
        faults = ", ".join(f"{number} {name}" for name, number in sorted(self.faults.items()))
        lines = [
            f"seed        {self.seed}",
            f"runs        {self.runs}, by {self.requests} requests",
            f"faults      {self.faults.total()}: {faults}",
            f"lost        {len(self.lost)}",
            f"duplicated  {len(self.duplicated)}",
            f"broken      {len(self.broken)}",
        ]
        for name, seconds in sorted(self.takeovers.items()):
            p50, most = statistics.median(seconds), max(seconds)
            lines.append(f"taken over  after {name}: p50 {p50:.1f} s, max {most:.1f} s ({len(seconds)} times)")
        lines += [f"  {what}" for what in [*self.lost, *self.duplicated, *self.broken][:40]]
        if self.logs is not None:
            lines.append(f"  what the processes wrote is in {self.logs}")
        return "\n".join(lines)

    @property
    def are_good(self) -> bool:
        return not (self.lost or self.duplicated or self.broken)


class Chaos:
    """Processes on one database, clients that use them, and faults.

    Args:
        vendor: the database's.
        seed: what all chance comes from.
        processes: how many execute runs; one more only answers. Every other one seems to be on another machine,
            where nobody sees that it is dead before its lease is over.
        with_outages: whether the database, and Redis, are servers of its own, which are killed too.
    """

    def __init__(self, vendor: str, *, seed: int, processes: int = 3, with_outages: bool = True) -> None:
        self.figures = Figures(seed)
        # Seconds within which the runs of a process must be with another.
        self.limits = {"SIGTERM": LEASE, "a crash": LEASE * 2}
        self.books = Books()
        self._vendor = vendor
        self._processes = processes
        self._with_outages = with_outages
        self._over = threading.Event()
        self._give_up_at = math.inf
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._database: services.Service | None = None
        self._redis: services.Service | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._enter(stack)
            self._stack = stack.pop_all()
        return self

    def _enter(self, stack: ExitStack) -> None:
        environment = {"SITE_LEASE_TIMEOUT": str(LEASE), "SITE_IDLE_TIMEOUT": "0.5"}
        own = {"postgresql": services.PostgreSQL, "mariadb": services.MariaDB}
        if self._with_outages:
            if self._vendor in own:
                self._database = stack.enter_context(own[self._vendor]())
                environment |= self._database.environment
            self._redis = stack.enter_context(services.Redis())
            environment |= self._redis.environment
        self.scene = stack.enter_context(Scene(self._vendor, **environment))
        self._address = {**environment, "DATABASE_VENDOR": self._vendor}
        self.workers = []
        for number in range(self._processes):
            elsewhere = {"TMPDIR": str(self.scene.make_directory(f"machine-{number}"))} if number % 2 else {}
            self.workers.append(stack.enter_context(self.scene.another(**elsewhere)))
        self.servers = [*self.workers, stack.enter_context(self.scene.another(SITE_EXECUTE="0"))]
        self.scene.server = self.servers[-1]

    def __exit__(self, *exception: object) -> None:
        self._stack.__exit__(*exception)

    # --- the whole ------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> Figures:
        """Let clients and faults loose, wait until all is quiet again, and balance the books.

        Args:
            seconds: how long; each fault is done once in any case.
        """
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [Client(self, number) for number in range(CLIENTS)]
            working = [pool.submit(client.work) for client in clients]
            faults = Faults(self, random.Random(self.figures.seed))
            try:
                while time.monotonic() < until or faults.are_left:
                    faults.do_one()
                faults.end()
            finally:
                self._give_up_at = time.monotonic() + PATIENCE
                self._over.set()
            for client in working:
                client.result()
        self._balance()
        return self.figures

    def check_patience(self) -> None:
        """Raise when a client that still insists is not going to be heard."""
        assert time.monotonic() < self._give_up_at, "nobody answers"

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def server(self, chance: random.Random) -> Server:
        return chance.choice(self.servers)

    def note(self, act: Callable[[], Any]) -> None:
        """Write into the books."""
        with self._lock:
            act()

    def _balance(self) -> None:
        scene, books, figures = self.scene, self.books, self.figures
        keys = set(books.starts) - books.purged
        with suppress(AssertionError):
            self._quietly(lambda: not self._under_way(keys))
            self._quietly(lambda: not scene.checker.has_stray_mail())
            self._quietly(lambda: set(scene.checker.workers()) <= {server.pid for server in self.workers})
        statuses = scene.checker.statuses(keys)
        figures.runs = len(books.starts)
        figures.broken += books.told
        figures.broken += scene.checker.broken()
        if scene.checker.has_stray_mail():
            figures.broken.append("mail of runs that have ended")
        if strangers := set(scene.checker.workers()) - {server.pid for server in self.workers}:
            figures.broken.append(f"workers that are dead: {strangers}")
        figures.broken += [
            f"{number} {name} rows of nobody" for name, number in scene.checker.left_behind().items()
        ]
        figures.broken += [f"{key} was deleted and is there" for key in scene.checker.statuses(books.purged)]
        for server in self.servers:
            figures.broken += re.findall(r"^.* (?:CRITICAL \S+|ERROR asyncio):.*$", server.output, re.MULTILINE)
        for key in keys:
            status = statuses.get(key)
            if status is None:
                figures.lost.append(f"{key}: there is no such run")
            elif status == "running":
                figures.lost.append(f"{key}: it has not ended; {scene.checker.described(key)}")
            elif key in books.cancelled and status != "cancelled":
                figures.lost.append(f"{key}: its cancellation was answered, and it {status}")
            self._balance_runs(key)
        self._balance_events(statuses)
        for fault, seconds in figures.takeovers.items():
            if max(seconds) > self.limits[fault]:
                figures.broken.append(f"it took {max(seconds):.1f} s to take over after {fault}")
        if not figures.are_good:
            figures.logs = Path(tempfile.mkdtemp(prefix="django-workflows-chaos-"))
            for number, server in enumerate(self.servers):
                (figures.logs / f"{number}.txt").write_text(server.output)

    def _under_way(self, keys: set[str]) -> set[str]:
        """Return which runs have not ended; cancels those that a late start began.

        It came after the one that was repeated in its place, and after the end of what that began: nobody knows of
        its run, so nobody would give it what it waits for.
        """
        found = {key for key, status in self.scene.checker.statuses(keys).items() if status == "running"}
        for key in found:
            if self._most_runs(key) > 1 and self.scene.checker.runs(key) > 1:
                httpx.post(f"{self.scene.server.url}/handlers/{key}/cancel", json={}, timeout=ANSWER_TIMEOUT)
        return found

    def _most_runs(self, key: str) -> int:
        """Return how many runs there may be: a start without a key is one of its own, also when late."""
        return 1 if key in self.books.once else 1 + self.books.starts[key]

    def _quietly(self, condition: Callable[[], bool]) -> None:
        self.scene.until(condition, "quiet", timeout=QUIET)

    def _balance_runs(self, key: str) -> None:
        checker, duplicated = self.scene.checker, self.figures.duplicated
        runs, most = checker.runs(key), self._most_runs(key)
        if runs > most:
            duplicated.append(f"{key}: {runs} runs, and {most} can be at most")
        if runs != 1:
            return
        # How often a step is begun, but for the once of each; as many can be under way when the run changes hands.
        wide = 4 if key.startswith("fan") else 1
        steps = [line.split()[0] for line in self.scene.traces(key) if line.split()[0] not in ("attempt", "end")]
        if key.startswith("items"):
            steps = [line for line in self.scene.traces(key) if line != "begin"]
        again = sum(number - 1 for number in Counter(steps).values())
        if again > wide * checker.handovers(key):
            duplicated.append(f"{key}: {steps}, and it changed hands {checker.handovers(key)} times")

    def _balance_events(self, statuses: dict[str, str]) -> None:
        consumed: dict[str, Counter[str]] = {}
        for token, (key, was_answered) in self.books.events.items():
            if key not in consumed:
                events = self.scene.checker.consumed(key)
                consumed[key] = Counter(str(event.get("token", event.get("text"))) for event in events)
            found = consumed[key][token]
            if found > 1:
                self.figures.duplicated.append(f"{key}: {token} was consumed {found} times")
            if not found and was_answered and statuses.get(key) != "cancelled":
                self.figures.lost.append(f"{key}: {token} was answered and never consumed")


class Client:
    """Goes through one story after the other, and repeats what is not answered until it is.

    Args:
        chaos: what it is part of.
        number: makes its chance another than that of its colleagues.
    """

    def __init__(self, chaos: Chaos, number: int) -> None:
        self._chaos = chaos
        self._scene = chaos.scene
        self._books = chaos.books
        self._chance = random.Random(f"{chaos.figures.seed} {number}")
        self._http = httpx.Client(timeout=ANSWER_TIMEOUT, verify=False)
        self._tokens = 0

    def work(self) -> None:
        stories = [getattr(self, name) for name in dir(type(self)) if name.startswith("story_")]
        with self._http:
            while not self._chaos.is_over:
                story = self._chance.choice(stories)
                try:
                    story()
                except AssertionError as error:
                    complaint = f"{story.__name__}: {error}"
                    self._chaos.note(lambda: self._books.told.append(complaint))  # noqa: B023

    # --- stories --------------------------------------------------------------------------------------------

    def story_short(self) -> None:
        for _ in range(self._chance.randint(1, 8)):
            self._start("greet")

    def story_steps(self) -> None:
        key = self._start(self._chance.choice(["pipeline", "fan"]), total=self._chance.randint(4, 12))
        if self._chance.random() < 0.5:
            self._read(key)
        assert self._ended(key)["status"] == "completed", key

    def story_child(self) -> None:
        key = self._start("parent")
        assert self._ended(key)["status"] == "completed", key

    def story_items(self) -> None:
        key = self._start("items", count=3)
        for item in range(3):
            self._pause(0.7)
            self._scene.open(key, item)
        assert self._ended(key)["status"] == "completed", key
        assert [line for line in self._scene.traces(key) if line != "begin"][-1] == "saved 2", key

    def story_question(self) -> None:
        key = self._start("ask")
        self._seen(key, "Question")
        # Long enough, at times, for the run to be released.
        self._pause(2.5)
        self._send(key, lambda token: {"type": "Answer", "value": {"text": token}})
        assert self._ended(key)["status"] == "completed", key

    def story_letters(self) -> None:
        """Many events, at whoever is there, some of them at once; the last when all others were answered."""
        key = self._start("gather")

        def letter(token: str) -> dict[str, Any]:
            return {"type": "Letter", "value": {"token": token}}

        if self._chance.random() < 0.3:
            self._storm(key, letter, self._chance.randint(20, 60))
        for _ in range(self._chance.randint(1, 5)):
            self._pause(0.6)
            self._send(key, letter)
        self._send(key, lambda token: {"type": "Letter", "value": {"token": token, "last": True}}, once=True)
        assert self._ended(key)["status"] == "completed", key

    def story_deadline(self) -> None:
        begun = time.time()
        timeout = self._chance.uniform(0.5, 3.0)
        key = self._start("ask", timeout=timeout)
        found = self._ended(key)
        assert found["result"]["value"]["result"] == "nobody answered", key
        (given_up, *_) = (line for line in self._scene.traces(key) if line.startswith("gave-up"))
        assert float(given_up.split()[1]) >= begun + timeout, key

    def story_retries(self) -> None:
        key = self._start("flaky")
        self._pause(2.0)
        self._scene.open(key)
        assert self._ended(key)["status"] == "completed", key

    def story_cancellation(self) -> None:
        """A cancellation, and at times the end of what it is for at the same moment."""
        key = self._start(self._chance.choice(["held", "ask", "gather"]))
        self._pause(1.0)
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(self._scene.open, key) if self._chance.random() < 0.5 else None
            self._cancel(key)
            if opening is not None:
                opening.result()
        assert self._ended(key)["status"] in ("cancelled", "completed"), key

    def story_race(self) -> None:
        """The same start at several processes at once."""
        key = new_key("held")
        body = {"handler_id": key, "start_event": {"key": key}}
        servers = [self._chaos.server(self._chance) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            answers = list(
                pool.map(lambda server: self._ask("POST", "/workflows/held/run-nowait", body, server), servers)
            )
        assert [answer for answer in answers if answer == 200] in ([], [200]), f"{key}: {answers}"
        self._start("held", key, unheard=sum(answer in (None, 503) for answer in answers))
        self._scene.open(key)
        assert self._ended(key)["status"] == "completed", key

    def story_deletion(self) -> None:
        """Of a run that has ended, or is under way."""
        key = self._start(self._chance.choice(["greet", "held", "gather", "pipeline"]), total=4)
        self._pause(0.5)
        if self._books.starts[key]:
            # One that was not answered might come after the deletion.
            self._cancel(key)
            return
        self._chaos.note(lambda: self._books.purged.add(key))
        while self._request("POST", f"/handlers/{key}/cancel?purge=true") not in (200, 404):
            pass

    # --- what they are made of ------------------------------------------------------------------------------

    def _start(self, workflow: str, key: str | None = None, *, unheard: int = 0, **fields: Any) -> str:
        """Start a run, again and again until it is answered; at times with an idempotency key, which makes it one.

        Args:
            workflow: its name.
            key: the handler's id, where it is started by others too.
            unheard: how many requests of those others were not answered.
            fields: of the start event.
        """
        idempotency = self._new_token() if key is None and self._chance.random() < 0.5 else None
        key = key or new_key(workflow)
        body = {"handler_id": key, "start_event": {"key": key, **fields}}
        if idempotency is not None:
            self._chaos.note(lambda: self._books.once.add(key))
        while True:
            status = self._ask(
                "POST", f"/workflows/{workflow}/run-nowait", body, self._server(), idempotency=idempotency
            )
            if status in (200, 409):
                break
            unheard += 1
            self._expect_none_or_503(status, f"a start of {key}")
            self._pause(0.5)
        self._chaos.note(lambda: self._books.starts.__setitem__(key, unheard))
        return key

    def _send(self, key: str, event: Callable[[str], dict[str, Any]], *, once: bool = False) -> None:
        """Send an event, again and again with the same key until it is answered.

        Args:
            key: for which run.
            event: makes it of a token.
            once: whether a run that has ended is answer enough: one that was sent before has come.
        """
        token, first = self._new_token(), True
        while True:
            status = self._ask(
                "POST", f"/events/{key}", {"event": event(token)}, self._server(), idempotency=token
            )
            self._note_event(key, token, status == 200)
            if status == 200 or (status == 409 and (once or not first or not self._is_first(key))):
                return
            first = False
            self._expect_none_or_503(status, f"an event for {key}")
            self._pause(0.5)

    def _is_first(self, key: str) -> bool:
        """Whether nothing was sent to a run but what was refused: then it cannot have ended because of it."""
        return sum(1 for sent, _ in list(self._books.events.values()) if sent == key) <= 1

    def _storm(self, key: str, event: Callable[[str], dict[str, Any]], number: int) -> None:
        """Send many events at once to one process, whoever executes the run."""
        server, tokens = self._server(), [self._new_token() for _ in range(number)]
        with ThreadPoolExecutor(8) as pool:
            statuses = list(
                pool.map(
                    lambda token: self._ask("POST", f"/events/{key}", {"event": event(token)}, server), tokens
                )
            )
        for token, status in zip(tokens, statuses, strict=True):
            if status != 200:
                self._expect_none_or_503(status, f"an event for {key}")
            self._note_event(key, token, status == 200)

    def _note_event(self, key: str, token: str, was_answered: bool) -> None:
        self._chaos.note(lambda: self._books.events.__setitem__(token, (key, was_answered)))

    def _new_token(self) -> str:
        self._tokens += 1
        return f"{id(self)}-{self._tokens}"

    def _cancel(self, key: str) -> None:
        while True:
            status = self._request("POST", f"/handlers/{key}/cancel")
            if status == 200:
                self._chaos.note(lambda: self._books.cancelled.add(key))
            if status in (200, 404, 409):
                return
            self._expect_none_or_503(status, f"a cancellation of {key}")

    def _ended(self, key: str) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while True:
            with suppress(httpx.TransportError):
                answer = self._http.get(f"{self._server().url}/handlers/{key}")
                # A run that has failed is answered with 500.
                found: dict[str, Any] = answer.json()
                if answer.status_code in (200, 500) and "status" in found:
                    return found
                if answer.status_code != 202:
                    self._expect_none_or_503(answer.status_code, f"a look at {key}")
            if not self._chaos.is_over:
                until = time.monotonic() + PATIENCE
            assert time.monotonic() < until, f"{key} does not end"
            time.sleep(0.1)

    def _seen(self, key: str, type: str) -> None:
        """Return when an event of that type was read, from one process after the other."""
        reader = self._scene.reader(key)
        self._through_faults(lambda: reader.read(until=lambda event: event["type"] == type, may_end=True), reader)

    def _read(self, key: str) -> None:
        """Read the whole stream, from one process after the other."""
        reader = self._scene.reader(key)
        self._through_faults(reader.read, reader)
        assert reader.sequences == list(range(len(reader.sequences))), f"{key}: a reader saw {reader.sequences}"

    def _through_faults(self, act: Callable[[], Any], reader: Any) -> None:
        while True:
            self._chaos.check_patience()
            reader.at = self._server()
            with suppress(httpx.TransportError):
                if act() is not None and (reader.is_at_end or act != reader.read):
                    return
            self._pause(0.2)

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> int | None:
        return self._ask(method, path, body, self._server())

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        server: Server,
        *,
        idempotency: str | None = None,
    ) -> int | None:
        """Return the status of an answer, None when there was none."""
        headers = {"Idempotency-Key": idempotency} if idempotency else {}
        self._chaos.check_patience()
        self._chaos.figures.requests += 1
        try:
            return self._http.request(method, server.url + path, json=body or {}, headers=headers).status_code
        except httpx.TransportError:
            time.sleep(0.05)
            return None

    def _expect_none_or_503(self, status: int | None, to: str) -> None:
        if status not in (None, 503):
            self._chaos.note(lambda: self._books.told.append(f"{status} to {to}"))

    def _server(self) -> Server:
        return self._chaos.server(self._chance)

    def _pause(self, most: float) -> None:
        time.sleep(self._chance.uniform(0.0, most))


class Faults:
    """One fault after the other; everybody is well again when it is over.

    Args:
        chaos: what it is part of.
        chance: decides which, and when.
    """

    def __init__(self, chaos: Chaos, chance: random.Random) -> None:
        self._chaos = chaos
        self._chance = chance
        self._faults: list[Callable[[], None]] = [
            self.killed,
            self.killed,
            self.stopped,
            self.terminated,
            self.locked,
        ]
        if chaos._vendor != "sqlite":
            self._faults.append(self.severed)
        if chaos._vendor == "postgresql":
            self._faults.append(self.read_only)
        if chaos._database is not None:
            self._faults.append(self.database_killed)
        if chaos._redis is not None:
            self._faults.append(self.redis_killed)
        # Each of them comes once before any comes again.
        self._left: list[Callable[[], None]] = list(self._faults)

    @property
    def are_left(self) -> bool:
        return bool(self._left)

    def do_one(self) -> None:
        time.sleep(self._chance.uniform(0.2, 2.0))
        fault = self._chance.choice(self._left or self._faults)
        if self._left:
            self._left.remove(fault)
        self._chaos.figures.faults[fault.__name__.replace("_", " ")] += 1
        fault()
        # The tests' own may have suffered as well.
        self._chaos.scene.reconnect()

    def end(self) -> None:
        for server in self._chaos.servers:
            if not server.is_running:
                server.start(wait=False)
        for server in self._chaos.servers:
            server.wait_until_healthy()

    def killed(self) -> None:
        server = self._worker()
        with self._taken_over(server, "a crash"):
            server.kill()

    def terminated(self) -> None:
        server = self._worker()
        with self._taken_over(server, "SIGTERM"):
            server.send_signal(signal.SIGTERM)
        server.wait_for_exit()

    def stopped(self) -> None:
        """For less than its lease, or for longer."""
        server = self._worker()
        server.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.uniform(0.5, 2 * LEASE))
        server.send_signal(signal.SIGCONT)

    def severed(self) -> None:
        """All connections of all processes are cut."""
        statements = {
            "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = '{name}' AND pid <> pg_backend_pid()",
            "mariadb": "SELECT id FROM information_schema.processlist WHERE db = '{name}'",
        }
        name = self._chaos.scene.database_name
        found = administer(self._chaos._address, statements[self._chaos._vendor].format(name=name))
        if self._chaos._vendor == "mariadb":
            for (number,) in found:
                with suppress(Exception):
                    administer(self._chaos._address, f"KILL {number}")

    def locked(self) -> None:
        """Somebody else writes for a long time, so that nobody here can."""
        with self._chaos.scene.locked_database():
            time.sleep(self._chance.choice([1.0, 4.0, 10.0]))

    def read_only(self) -> None:
        """As after a switch to a replica. Who opened a connection meanwhile has to open another afterwards."""
        name, address = self._chaos.scene.database_name, self._chaos._address
        administer(address, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        self.severed()
        time.sleep(self._chance.uniform(1.0, 6.0))
        administer(address, f"ALTER DATABASE {name} RESET default_transaction_read_only")

    def database_killed(self) -> None:
        assert self._chaos._database is not None
        self._chaos._database.stop()
        time.sleep(self._chance.uniform(0.0, 6.0))
        self._chaos._database.start()

    def redis_killed(self) -> None:
        assert self._chaos._redis is not None
        self._chaos._redis.stop()
        time.sleep(self._chance.uniform(0.0, 4.0))
        self._chaos._redis.start()

    def _worker(self) -> Server:
        """One that is well; those that were killed are started again before it is its turn."""
        for server in self._chaos.workers:
            if not server.is_running:
                server.start(wait=False)
        server = self._chance.choice(self._chaos.workers)
        server.wait_until_healthy()
        return server

    @contextmanager
    def _taken_over(self, server: Server, fault: str) -> Iterator[None]:
        """Measure how long it takes until others have all runs of a process; it stays dead meanwhile.

        Not when there are no others just now.
        """
        others = [worker for worker in self._chaos.workers if worker is not server and worker.is_healthy]
        checker = self._chaos.scene.checker
        runs = checker.held_by(server.pid)
        begun = time.monotonic()
        yield
        # It is started again when it is needed; a process alone must help itself.
        if not runs or not others:
            return
        while checker.still_held(runs):
            if time.monotonic() > begun + PATIENCE:
                self._chaos.figures.broken.append(f"runs of a process were not taken over after {fault}")
                return
            time.sleep(0.05)
        self._chaos.figures.takeovers.setdefault(fault, []).append(time.monotonic() - begun)


def run(vendor: str, *, seed: int, seconds: float, processes: int, with_outages: bool = True) -> Figures:
    """Make the site, let chance loose on it for some seconds, and return what came out of it."""
    with Chaos(vendor, seed=seed, processes=processes, with_outages=with_outages) as chaos:
        return chaos.run(seconds)


__all__ = ["Chaos", "Figures", "run"]
