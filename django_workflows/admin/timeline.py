"""Where a run's time went: for each step, when it was executed; from the events of its log.

Nights and weekends of waiting would leave nothing to see of the steps, so a long time in which no step ran is
drawn short, and says how long it was.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db.models.functions import Substr
from django.utils import timezone

from django_workflows import database
from django_workflows.admin import labels
from django_workflows.models import Event, Handler

# Changes of steps that are read; a run may have a hundred thousand.
READ = 4000
# Width of the drawing, and that of a pause in it.
WIDTH, PAUSE = 1000.0, 90.0
# A time without any step is a pause when it is longer than all else together, divided by this.
SHARE = 4
# The thinnest bar that can be seen.
THIN = 3.0


@dataclass
class Execution:
    """One execution of a step.

    Attributes:
        end: None while it goes on, or when its process died.
        gave: whether it ended with an event; otherwise it failed and is retried, waits, or had nothing to give.
        is_failed: whether the run failed with it.
    """

    step: str
    start: datetime
    end: datetime | None = None
    gave: bool = False
    is_failed: bool = False


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    state: str
    text: str


@dataclass(frozen=True)
class Lane:
    """One step with its bars, number of executions and time in all."""

    step: str
    bars: list[Bar]
    count: int
    time: str


@dataclass(frozen=True)
class Timeline:
    lanes: list[Lane] = field(default_factory=list)
    pauses: list[Bar] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    total: str = ""
    # Whether any execution ended without an event.
    has_bare: bool = False
    # Whether the run has more than was read.
    is_cut: bool = False


def of(handler: Handler) -> Timeline:
    """Return the timeline of a handler's present run; empty before its first step."""
    rows = list(
        Event.objects.using(database.alias())
        .filter(handler=handler, run=handler.run, type__in=("StepStateChanged", "WorkflowFailedEvent"))
        .order_by("sequence")
        .values_list("type", Substr("data", 1, 4000), "created_at")[: READ + 1]
    )
    executions = _executions(rows[:READ])
    if not executions:
        return Timeline()
    now = handler.completed_at or timezone.now()
    scale = _Scale(executions, now)
    steps = list(dict.fromkeys(one.step for one in executions))
    counts = Counter(one.step for one in executions)
    return Timeline(
        lanes=[
            _lane(step, [one for one in executions if one.step == step], scale, handler, now) for step in steps
        ],
        pauses=scale.pauses,
        counts=dict(counts),
        states={one.step: _state(one, handler).replace("bare", "done") for one in executions},
        total=labels.span(max(timedelta(0), now - executions[0].start)),
        has_bare=any(_state(one, handler) == "bare" for one in executions),
        is_cut=len(rows) > READ,
    )


def _executions(rows: list[tuple[str, str, datetime]]) -> list[Execution]:
    found: list[Execution] = []
    open_now: dict[tuple[str, str], Execution] = {}
    for type, data, at in rows:
        value = _value(data)
        if type == "WorkflowFailedEvent":
            for one in reversed(found):
                if one.step == value.get("step_name"):
                    one.is_failed = True
                    break
            continue
        step, key = str(value.get("name")), (str(value.get("name")), str(value.get("worker_id")))
        if value.get("step_state") == "running":
            # One that is open still was cut off by a crash, and this is its repetition.
            open_now[key] = Execution(step, at)
            found.append(open_now[key])
        elif value.get("step_state") in ("not_running", "exited") and key in open_now:
            ended = open_now.pop(key)
            ended.end, ended.gave = at, bool(value.get("output_event_name"))
    return found


def _value(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)["value"]
    except (ValueError, KeyError, TypeError):
        return {}
    return value if isinstance(value, dict) else {}


def _state(one: Execution, handler: Handler) -> str:
    if one.is_failed:
        return "failed"
    if one.end is not None:
        return "done" if one.gave else "bare"
    return "cut" if handler.has_ended else "running"


def _lane(step: str, executions: list[Execution], scale: _Scale, handler: Handler, now: datetime) -> Lane:
    bars = []
    time = timedelta(0)
    for one in executions:
        end = max(one.end or now, one.start)
        left, right = scale.at(one.start), scale.at(end)
        time += end - one.start
        text = f"{labels.local(one.start):%H:%M:%S.%f}"[:-3] + f" · {labels.span(end - one.start)}"
        width = max(THIN, right - left)
        bars.append(Bar(round(min(left, WIDTH - width), 1), round(width, 1), _state(one, handler), text))
    return Lane(step, bars, len(executions), labels.span(time))


class _Scale:
    """From moments to places in the drawing."""

    def __init__(self, executions: list[Execution], now: datetime) -> None:
        busy = self._busy(executions, now)
        begin, end = busy[0][0], max(now, busy[-1][1])
        gaps = [(one[1], other[0]) for one, other in zip(busy, [*busy[1:], (end, end)], strict=True)]
        gaps = [gap for gap in gaps if gap[1] > gap[0]]
        # The longest gaps become pauses, until what is left is no longer dwarfed by one.
        rest = (end - begin).total_seconds()
        long = []
        for gap in sorted(gaps, key=lambda gap: gap[0] - gap[1])[:6]:
            length = (gap[1] - gap[0]).total_seconds()
            if length < 1 or length * SHARE < rest - length:
                break
            long.append(gap)
            rest -= length
        unit = (WIDTH - PAUSE * len(long)) / rest if rest > 0 else 0
        self._points: list[tuple[datetime, float]] = [(begin, 0.0)]
        self.pauses: list[Bar] = []
        for start, stop in sorted(long):
            x = self._points[-1][1] + (start - self._points[-1][0]).total_seconds() * unit
            self._points += [(start, x), (stop, x + PAUSE)]
            self.pauses.append(Bar(round(x, 1), PAUSE, "pause", labels.span(stop - start)))
        self._points.append((end, WIDTH))

    @staticmethod
    def _busy(executions: list[Execution], now: datetime) -> list[tuple[datetime, datetime]]:
        """Return the times in which any step ran, joined where they overlap."""
        found: list[tuple[datetime, datetime]] = []
        for one in sorted(executions, key=lambda one: one.start):
            end = max(one.end or now, one.start)
            if found and one.start <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], end))
            else:
                found.append((one.start, end))
        return found

    def at(self, moment: datetime) -> float:
        for (start, x), (stop, next_x) in pairwise(self._points):
            if moment <= stop:
                length = (stop - start).total_seconds()
                return x + (next_x - x) * max(0.0, (moment - start).total_seconds() / length if length else 0.0)
        return WIDTH
