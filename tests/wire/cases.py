"""Single requests whose answers must be the same from both servers, as data.

A case's path may name one of the ENDED handlers, which exist from the beginning; ``{handler}`` stands for
a handler that is started for the case alone, as its ``given`` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.wire.workflows import SERVED

# Handlers that have ended before the first case: id -> workflow, start event. "cancelled" is cancelled then.
ENDED: dict[str, tuple[str, dict[str, Any]]] = {
    "h-greeting": ("greeting", {"name": "Ada"}),
    "h-echo": ("echo", {"a": 1, "b": [True, None, "c"]}),
    "h-silent": ("silent", {}),
    "h-steps": ("steps", {}),
    "h-order": (
        "order",
        {
            "lines": [{"title": "Tea", "colours": ["red", "blue"]}, {"title": "Cup", "price": 4}],
            "placed_at": "2026-01-02T03:04:05Z",
            "notes": {"deep": {"er": [1, 2.5, {"null": None}]}},
            "gift": {"title": "Spoon"},
        },
    ),
    "h-texts": ("texts", {}),
    "h-failing": ("failing", {}),
    "h-timing-out": ("timing-out", {}),
    "h-cancelled": ("ask", {}),
}


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        name: the test's id.
        method: HTTP method.
        path: path below the API's prefix, with the query.
        body: what is sent as JSON; NOTHING for no body at all.
        content: what is sent as it is.
        headers: request headers.
        given: workflow and start event of the handler that ``{handler}`` stands for; it waits when the
            request is made.
        free_detail: the words of an error do not matter.
        then: requests whose answers are compared as well, once the handler has ended if ``ends`` says so.
        ends: whether the request makes the given handler end.
    """

    name: str
    method: str
    path: str
    body: Any = field(default_factory=lambda: NOTHING)
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    given: tuple[str, dict[str, Any]] | None = None
    free_detail: bool = False
    then: tuple[str, ...] = ()
    ends: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """What httpx is called with beyond method and path."""
        arguments: dict[str, Any] = {"headers": dict(self.headers)}
        if self.body is not NOTHING:
            arguments["json"] = self.body
        if self.content is not None:
            arguments["content"] = self.content
        return arguments


NOTHING = object()


# --- what is served -------------------------------------------------------------------------------

ABOUT = [
    Case("health", "GET", "/health"),
    Case("workflows", "GET", "/workflows"),
    *(
        Case(f"{what} of {name}", "GET", f"/workflows/{name}/{what}")
        for what in ("schema", "events")
        for name in SERVED
    ),
    Case("schema of an unknown workflow", "GET", "/workflows/nobody/schema"),
    Case("representation of an unknown workflow", "GET", "/workflows/nobody/representation"),
    Case("events of an unknown workflow", "GET", "/workflows/nobody/events"),
    Case("HEAD health", "HEAD", "/health"),
    Case("HEAD workflows", "HEAD", "/workflows"),
    Case("HEAD schema", "HEAD", "/workflows/greeting/schema"),
]


def _unrouted(name: str, method: str, path: str) -> Case:
    return Case(name, method, path, free_detail=True)


ROUTES = [
    _unrouted("unknown path", "GET", "/nonsense"),
    _unrouted("unknown path below a workflow", "GET", "/workflows/greeting/nonsense"),
    _unrouted("a workflow itself", "GET", "/workflows/greeting"),
    _unrouted("empty workflow name", "GET", "/workflows//schema"),
    _unrouted("empty handler id", "GET", "/handlers/"),
    _unrouted("results without an id", "GET", "/results"),
    _unrouted("events without an id", "GET", "/events"),
    *(
        _unrouted(f"trailing slash: {path}", "GET", path)
        for path in (
            "/health/",
            "/workflows/",
            "/workflows/greeting/schema/",
            "/handlers/h-greeting/",
            "/results/h-greeting/",
            "/events/h-steps/?after_sequence=-1",
        )
    ),
    *(
        _unrouted(f"{method} {path} is not allowed", method, path)
        for method, path in (
            ("POST", "/health"),
            ("POST", "/workflows"),
            ("DELETE", "/handlers"),
            ("DELETE", "/handlers/h-greeting"),
            ("PUT", "/events/h-greeting"),
            ("PATCH", "/results/h-greeting"),
            ("PUT", "/workflows/greeting/run"),
        )
    ),
]


# --- handlers -------------------------------------------------------------------------------------

HANDLERS = [
    *(Case(f"handler {handler}", "GET", f"/handlers/{handler}") for handler in ENDED),
    *(Case(f"result {handler}", "GET", f"/results/{handler}") for handler in ENDED),
    Case("handler that runs", "GET", "/handlers/{handler}", given=("ask", {})),
    Case("result of one that runs", "GET", "/results/{handler}", given=("ask", {})),
    Case("unknown handler", "GET", "/handlers/nobody"),
    Case("unknown result", "GET", "/results/nobody"),
    Case("HEAD handler", "HEAD", "/handlers/h-greeting"),
    Case("HEAD failed handler", "HEAD", "/handlers/h-failing"),
    Case("HEAD unknown handler", "HEAD", "/handlers/nobody"),
    Case("handler, asked for in another format", "GET", "/handlers/h-greeting?format=html"),
    Case("query that is no query", "GET", "/handlers?workflow_name=%zz&status=%&workflow_name=%ff%00"),
    Case("handler of bytes that are no text", "GET", "/handlers/%ff"),
    *(
        Case(f"NUL in {method} {path}", method, path, body)
        for method, path, body in (
            ("GET", "/handlers/%00", NOTHING),
            ("GET", "/results/a%00", NOTHING),
            ("GET", "/events/%00", NOTHING),
            ("POST", "/events/%00", {"event": {"type": "HumanResponseEvent", "value": {}}}),
            ("POST", "/handlers/%00/cancel", NOTHING),
            ("POST", "/workflows/%00/run", {}),
            ("GET", "/handlers?workflow_name=%00", NOTHING),
            ("GET", "/handlers?workflow_name=%ff", NOTHING),
        )
    ),
    Case("handler of half a surrogate pair", "GET", "/handlers/%ed%a0%80"),
    Case("handler of 3,000 characters", "GET", "/handlers/" + "a" * 3000),
    Case("workflow name in capitals", "GET", "/workflows/GREETING/schema"),
    Case("workflow name, escaped", "GET", "/workflows/%67reeting/schema"),
    Case("workflow name and a line feed", "GET", "/workflows/greeting%0A/schema"),
    Case("query of no meaning", "GET", "/handlers/h-greeting?foo=bar&foo=baz"),
]

# --- starting -------------------------------------------------------------------------------------

_ADA = {"name": "Ada"}


def _run(name: str, workflow: str, body: Any = NOTHING, *, free_detail: bool = False, **more: Any) -> list[Case]:
    """The same body for both ways to start; without waiting, its answer is the same as long as it is an error."""
    return [
        Case(f"run: {name}", "POST", f"/workflows/{workflow}/run", body, free_detail=free_detail, **more),
        Case(
            f"run-nowait: {name}",
            "POST",
            f"/workflows/{workflow}/run-nowait",
            body,
            free_detail=free_detail,
            **more,
        ),
    ]


_BODIES: list[tuple[str, str, Any]] = [
    ("plain", "greeting", {"start_event": _ADA}),
    ("plain, all fields", "greeting", {"start_event": {"name": "Ada", "times": 2}}),
    ("plain with an undeclared field", "greeting", {"start_event": {"name": "Ada", "extra": 1}}),
    ("plain without a required field", "greeting", {"start_event": {"times": 1}}),
    ("plain with a field of a wrong type", "greeting", {"start_event": {"name": 5}}),
    ("plain with a number out of range", "greeting", {"start_event": {"name": "Ada", "times": 9}}),
    ("plain with a number as text", "greeting", {"start_event": {"name": "Ada", "times": "2"}}),
    ("empty object", "echo", {}),
    ("empty object for a typed workflow", "greeting", {}),
    ("empty start event", "echo", {"start_event": {}}),
    ("start event null", "echo", {"start_event": None}),
    ("plain fields", "echo", {"start_event": {"a": 1, "b": {"c": [None, 1.5, "d"]}}}),
    ("envelope", "greeting", {"start_event": {"type": "GreetingStart", "value": _ADA}}),
    ("envelope of a plain event", "echo", {"start_event": {"type": "StartEvent", "value": {"a": 1}}}),
    (
        "envelope by qualified name",
        "greeting",
        {"start_event": {"qualified_name": "tests.wire.workflows.GreetingStart", "value": _ADA}},
    ),
    (
        "envelope with both names",
        "greeting",
        {
            "start_event": {
                "qualified_name": "tests.wire.workflows.GreetingStart",
                "type": "GreetingStart",
                "value": _ADA,
            }
        },
    ),
    (
        "envelope with both names and data",
        "greeting",
        {
            "start_event": {
                "qualified_name": "tests.wire.workflows.GreetingStart",
                "type": "GreetingStart",
                "data": _ADA,
            }
        },
    ),
    (
        "envelope by an undeclared qualified name",
        "greeting",
        {"start_event": {"qualified_name": "os.path", "value": _ADA}},
    ),
    (
        "envelope whose qualified name is no class",
        "greeting",
        {"start_event": {"qualified_name": "nonsense", "value": _ADA}},
    ),
    (
        "envelope of an unknown type",
        "greeting",
        {"start_event": {"type": "Unknown", "value": _ADA}},
    ),
    ("envelope without a type", "greeting", {"start_event": {"value": _ADA}}),
    ("envelope of null", "greeting", {"start_event": {"type": "GreetingStart", "value": None}}),
    ("envelope of a list", "greeting", {"start_event": {"type": "GreetingStart", "value": [1]}}),
    ("envelope that does not fit", "greeting", {"start_event": {"type": "GreetingStart", "value": {}}}),
    ("envelope of null for a plain event", "echo", {"start_event": {"type": "StartEvent", "value": None}}),
    ("envelope with data instead of value", "greeting", {"start_event": {"type": "GreetingStart", "data": _ADA}}),
    ("type without value is data", "echo", {"start_event": {"type": "note", "a": 1}}),
    ("qualified name without value is data", "echo", {"start_event": {"qualified_name": "note", "a": 1}}),
    ("bare data", "echo", {"start_event": {"_data": {"a": 1}}}),
    ("bare data, empty", "echo", {"start_event": {"_data": {}}}),
    ("JSON string", "greeting", {"start_event": json.dumps(_ADA)}),
    (
        "JSON string of an envelope",
        "greeting",
        {"start_event": json.dumps({"type": "GreetingStart", "value": _ADA})},
    ),
    ("string that is no JSON", "greeting", {"start_event": "Ada"}),
    ("empty string", "echo", {"start_event": ""}),
    ("JSON string of a list", "echo", {"start_event": "[1]"}),
    ("number", "echo", {"start_event": 1}),
    ("list", "echo", {"start_event": [1]}),
    ("true", "echo", {"start_event": True}),
    ("false", "echo", {"start_event": False}),
    ("kwargs", "greeting", {"kwargs": _ADA}),
    ("kwargs of a plain event", "echo", {"kwargs": {"a": 1}}),
    ("kwargs null", "echo", {"kwargs": None}),
    ("kwargs that do not fit", "greeting", {"kwargs": {}}),
    ("start event before kwargs", "greeting", {"start_event": _ADA, "kwargs": {"name": "Bob"}}),
    ("context empty", "greeting", {"start_event": _ADA, "context": {}}),
    ("context null", "greeting", {"start_event": _ADA, "context": None}),
    ("handler_id null", "greeting", {"start_event": _ADA, "handler_id": None}),
    ("handler_id empty", "greeting", {"start_event": _ADA, "handler_id": ""}),
    ("unknown keys", "greeting", {"start_event": _ADA, "foo": 1, "workflow": "echo"}),
    (
        "nested models",
        "order",
        {"start_event": {"lines": [{"title": "Tea"}], "placed_at": "2026-01-02T03:04:05+02:00"}},
    ),
    ("nested models that do not fit", "order", {"start_event": {"lines": [{}], "placed_at": "soon"}}),
    ("unicode", "greeting", {"start_event": {"name": "Ærø \u2028 \U0001d518 \u0085 שלום \x01"}}),
    ("unicode in a key", "echo", {"start_event": {"schlüssel \u2028": "\U0001d518"}}),
    ("fields named like an event's methods", "echo", {"start_event": {"keys": 1, "get": 2, "result": 3}}),
    ("numbers", "echo", {"start_event": {"a": 2**63, "b": -(2**70), "c": 1e300, "d": 0.1, "e": -0.0}}),
    ("a body of 4 MB", "measure", {"start_event": {"text": "ä" * (2 * 1024 * 1024)}}),
    ("an unknown workflow", "nobody", {"start_event": {}}),
    ("no result", "silent", {}),
    ("a run that fails", "failing", {}),
    ("a run that times out", "timing-out", {}),
]

# Their words differ, or depend on a library's.
_BODIES_FREE: list[tuple[str, str, Any]] = [
    (
        "event of another class",
        "greeting",
        {"start_event": {"type": "GreetingStop", "value": {"greeting": "", "length": 0}}},
    ),
    ("context refused", "greeting", {"start_event": _ADA, "context": {"version": 1}}),
    ("body null", "echo", None),
    ("body a list", "echo", [1]),
    ("body a list of an object", "echo", [{"start_event": {}}]),
    ("body a string", "echo", "start_event"),
    ("body a number", "echo", 7),
]

_CONTENTS: list[tuple[str, bytes, bool]] = [
    ("no body", b"", True),
    ("invalid JSON", b'{"start_event": ', True),
    ("not UTF-8", b'{"start_event": {"a": "\xff"}}', True),
    ("trailing comma", b'{"start_event": {"a": 1,}}', True),
    ("more after it", b"{} {}", True),
    ("white space around it", b' \r\n\t{"start_event": {"a": 1}}\n', False),
    ("byte order mark", b'\xef\xbb\xbf{"start_event": {"a": 1}}', False),
    ("UTF-16", '{"start_event": {"a": "ä"}}'.encode("utf-16"), False),
    ("a key twice", b'{"start_event": {"a": 1, "a": 2}}', False),
    ("gzip", b"\x1f\x8b\x08\x00", True),
    ("surrogate pair", b'{"start_event": {"a": "\\ud83d\\ude00"}}', False),
    ("NUL", b'{"start_event": {"a": "\\u0000"}}', False),
    ("invalid JSON for an unknown workflow", b"{", False),
]

_HEADERS: list[tuple[str, dict[str, str]]] = [
    ("Content-Type text", {"content-type": "text/plain"}),
    ("Content-Type form", {"content-type": "application/x-www-form-urlencoded"}),
    ("Content-Type another charset", {"content-type": "application/json; charset=latin-1"}),
    ("Content-Type nonsense", {"content-type": "nonsense"}),
    ("Accept HTML", {"accept": "text/html"}),
    ("Accept an image", {"accept": "image/png"}),
    ("Accept nothing", {"accept": ""}),
    ("Accept nonsense", {"accept": "nonsense"}),
]

STARTING = [
    *(case for name, workflow, body in _BODIES for case in _run(name, workflow, body)),
    *(case for name, workflow, body in _BODIES_FREE for case in _run(name, workflow, body, free_detail=True)),
    *(
        case
        for name, content, free in _CONTENTS
        for case in _run(name, "nobody" if "unknown" in name else "echo", content=content, free_detail=free)
    ),
    *(
        case
        for name, headers in _HEADERS
        for case in _run(name, "echo", content='{"start_event": {"a": "ä"}}'.encode(), headers=headers)
    ),
]


# --- streams --------------------------------------------------------------------------------------

# h-steps has public events 1, 4, 5, 6, 7, 11 and internal ones between them.
_AFTER = ["-1", "-2", "-100", "0", "1", "3", "4", "10", "+4", "%204%20", "00", "1_0", "now", "NOW", "11"]
_AFTER_INVALID = ["", "x", "4.0", "1e1", "null", "%20", "-", "--1", "nowadays"]

_PARAMETERS = [
    "sse=true",
    "sse=TRUE",
    "sse=false",
    "sse=False",
    "sse=0",
    "sse=1",
    "sse=",
    "sse=yes",
    "sse",
    "include_internal=true",
    "include_internal=TRUE",
    "include_internal=1",
    "include_internal=yes",
    "include_internal=",
    "include_internal=false",
    "include_qualified_name=true",
    "include_qualified_name=false",
    "include_qualified_name=FALSE",
    "include_qualified_name=0",
    "include_qualified_name=1",
    "include_qualified_name=",
    "include_internal=true&include_qualified_name=false",
    "sse=false&include_internal=true",
    "sse=false&include_qualified_name=false",
    "acquire_timeout=5",
    "acquire_timeout=soon",
    "foo=bar",
    "sse=true&sse=false",
    "include_internal=true&include_internal=false",
]

_LAST_EVENT_ID: list[tuple[str, str]] = [
    # Last-Event-ID, query
    ("4", ""),
    ("4", "?after_sequence=-1"),
    ("-1", "?after_sequence=now"),
    ("4", "?after_sequence=now"),
    ("11", "?after_sequence=-1"),
    ("x", "?after_sequence=4"),
    ("", "?after_sequence=4"),
    ("4.5", "?after_sequence=-1"),
    ("now", "?after_sequence=-1"),
    ("x", ""),
    ("4", "?after_sequence=x"),
    ("4", "?after_sequence="),
    ("4", "?after_sequence=-1&sse=false"),
    ("4", "?sse=false"),
]

STREAMS = [
    *(Case(f"after_sequence={after}", "GET", f"/events/h-steps?after_sequence={after}") for after in _AFTER),
    *(
        Case(f"invalid after_sequence={after!r}", "GET", f"/events/h-steps?after_sequence={after}")
        for after in _AFTER_INVALID
    ),
    Case("no parameters after the end", "GET", "/events/h-steps"),
    Case("NDJSON after the end", "GET", "/events/h-steps?sse=false"),
    Case("NDJSON from within", "GET", "/events/h-steps?sse=false&after_sequence=4"),
    Case("an internal event as cursor", "GET", "/events/h-steps?after_sequence=8"),
    *(Case(f"stream with {query}", "GET", f"/events/h-steps?after_sequence=-1&{query}") for query in _PARAMETERS),
    *(
        Case(
            f"Last-Event-ID {last!r} with {query or 'no query'}",
            "GET",
            f"/events/h-steps{query}",
            headers={"last-event-id": last},
        )
        for last, query in _LAST_EVENT_ID
    ),
    *(Case(f"SSE of {handler}", "GET", f"/events/{handler}?after_sequence=-1") for handler in ENDED),
    *(
        Case(
            f"internal NDJSON of {handler}",
            "GET",
            f"/events/{handler}?after_sequence=-1&sse=false&include_internal=true",
        )
        for handler in ENDED
    ),
    Case("stream of an unknown handler", "GET", "/events/nobody"),
    Case("stream of an unknown handler, NDJSON", "GET", "/events/nobody?sse=false"),
    Case("invalid cursor on an unknown handler", "GET", "/events/nobody?after_sequence=x"),
    Case("Accept JSON", "GET", "/events/h-steps?after_sequence=-1", headers={"accept": "application/json"}),
    Case("Accept NDJSON", "GET", "/events/h-steps?after_sequence=-1", headers={"accept": "application/x-ndjson"}),
    Case(
        "Accept event stream",
        "GET",
        "/events/h-steps?after_sequence=-1&sse=false",
        headers={"accept": "text/event-stream"},
    ),
]


# --- events from outside --------------------------------------------------------------------------

_END = ("/handlers/{handler}", "/results/{handler}", "/events/{handler}?after_sequence=-1&include_internal=true")
_HUMAN = "workflows.events.HumanResponseEvent"
_APPROVAL = "tests.wire.workflows.Approval"


def _post(name: str, body: Any, workflow: str = "ask", **more: Any) -> Case:
    return Case(f"post: {name}", "POST", "/events/{handler}", body, given=(workflow, {}), **more)


POSTING = [
    # Accepted, and what the run makes of them.
    _post(
        "envelope", {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}}, ends=True, then=_END
    ),
    _post(
        "data for value",
        {"event": {"type": "HumanResponseEvent", "data": {"response": "Ada"}}},
        ends=True,
        then=_END,
    ),
    _post(
        "value before data",
        {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}, "data": {}}},
        ends=True,
        then=_END,
    ),
    _post(
        "bare data inside",
        {"event": {"type": "HumanResponseEvent", "value": {"_data": {"response": "Ada"}}}},
        ends=True,
        then=_END,
    ),
    _post(
        "JSON string",
        {"event": json.dumps({"type": "HumanResponseEvent", "value": {"response": "Ä"}})},
        ends=True,
        then=_END,
    ),
    _post(
        "qualified name alone",
        {"event": {"qualified_name": _HUMAN, "value": {"response": "Ada"}}},
        ends=True,
        then=_END,
    ),
    _post(
        "both names",
        {"event": {"type": "HumanResponseEvent", "qualified_name": _HUMAN, "value": {}}},
        ends=True,
        then=_END,
    ),
    _post(
        "names that disagree",
        {"event": {"type": "HumanResponseEvent", "qualified_name": "os.path", "value": {}}},
        ends=True,
        then=_END,
    ),
    _post(
        "additional fields of the envelope",
        {"event": {"type": "HumanResponseEvent", "value": {}, "types": ["x"], "foo": 1}},
        ends=True,
        then=_END,
    ),
    _post("empty value", {"event": {"type": "HumanResponseEvent", "value": {}}}, ends=True, then=_END),
    _post("unknown keys", {"event": {"type": "HumanResponseEvent", "value": {}}, "foo": 1}, ends=True, then=_END),
    _post(
        "a step",
        {"event": {"type": "HumanResponseEvent", "value": {"response": "Ada"}}, "step": "answer"},
        ends=True,
        then=_END,
    ),
    _post("step null", {"event": {"type": "HumanResponseEvent", "value": {}}, "step": None}, ends=True, then=_END),
    _post(
        "unicode",
        {"event": {"type": "HumanResponseEvent", "value": {"response": "Ærø \u2028 \U0001d518"}}},
        ends=True,
        then=_END,
    ),
    _post(
        "an additional event",
        {"event": {"type": "Approval", "value": {"approved": True, "by": "Ada"}}},
        "approve",
        ends=True,
        then=_END,
    ),
    _post(
        "an additional event by name",
        {"event": {"qualified_name": _APPROVAL, "value": {"approved": False}}},
        "approve",
        ends=True,
        then=_END,
    ),
    _post("a stop event", {"event": {"type": "StopEvent", "value": {"result": "mine"}}}),
    _post("an event that nobody waits for", {"event": {"type": "StartEvent", "value": {}}}, "approve"),
    # Refused; the run goes on waiting.
    _post(
        "an undeclared type",
        {"event": {"type": "Approval", "value": {"approved": True}}},
        then=("/handlers/{handler}",),
    ),
    _post("an unknown type", {"event": {"type": "Nonsense", "value": {}}}, then=("/handlers/{handler}",)),
    _post("an undeclared qualified name", {"event": {"qualified_name": _APPROVAL, "value": {"approved": True}}}),
    _post("a qualified name that is no event", {"event": {"qualified_name": "os.path.join", "value": {}}}),
    _post("a qualified name that is nothing", {"event": {"qualified_name": "nonsense", "value": {}}}),
    _post("no type", {"event": {"value": {"response": "Ada"}}}),
    _post("no value", {"event": {"type": "HumanResponseEvent"}}),
    _post("value null", {"event": {"type": "HumanResponseEvent", "value": None}}),
    _post("value a list", {"event": {"type": "HumanResponseEvent", "value": []}}),
    _post("value a string", {"event": {"type": "HumanResponseEvent", "value": "Ada"}}),
    _post(
        "a value that does not fit", {"event": {"type": "Approval", "value": {"approved": "perhaps"}}}, "approve"
    ),
    _post("a value without a required field", {"event": {"type": "Approval", "value": {}}}, "approve"),
    _post("fields without an envelope", {"event": {"response": "Ada"}}),
    _post("type a number", {"event": {"type": 5, "value": {}}}),
    _post("event missing", {}),
    _post("event null", {"event": None}),
    _post("event empty", {"event": {}}),
    _post("event an empty string", {"event": ""}),
    _post("event 0", {"event": 0}),
    _post("event false", {"event": False}),
    _post("event an empty list", {"event": []}),
    _post("event a number", {"event": 5}),
    _post("event true", {"event": True}),
    _post("event a list", {"event": [{"type": "HumanResponseEvent", "value": {}}]}),
    _post("event a string that is no JSON", {"event": "Ada"}),
    _post("event a JSON string of a list", {"event": "[]"}),
    _post("no body", NOTHING, content=b"", free_detail=True),
    _post("invalid JSON", NOTHING, content=b'{"event": ', free_detail=True),
    _post("not UTF-8", NOTHING, content=b'{"event": "\xff"}', free_detail=True),
    # Which problem is told first.
    Case(
        "post: unknown handler", "POST", "/events/nobody", {"event": {"type": "HumanResponseEvent", "value": {}}}
    ),
    Case("post: unknown handler, invalid event", "POST", "/events/nobody", {"event": {"type": "Nonsense"}}),
    Case("post: unknown handler, no event", "POST", "/events/nobody", {}),
    Case("post: unknown handler, invalid JSON", "POST", "/events/nobody", content=b"{", free_detail=True),
    *(
        Case(
            f"post: {handler} has ended",
            "POST",
            f"/events/{handler}",
            {"event": {"type": "HumanResponseEvent", "value": {}}},
        )
        for handler in ("h-greeting", "h-failing", "h-timing-out", "h-cancelled")
    ),
    Case("post: ended, invalid event", "POST", "/events/h-greeting", {"event": {"type": "Nonsense"}}),
    Case("post: ended, no event", "POST", "/events/h-greeting", {"event": {}}),
    # The headers do not matter.
    *(
        _post(name, NOTHING, content=b'{"event": {"type": "HumanResponseEvent", "value": {}}}', headers=headers)
        for name, headers in _HEADERS
    ),
]


# --- the end --------------------------------------------------------------------------------------

_GONE = ("/handlers/{handler}", "/results/{handler}", "/events/{handler}?after_sequence=-1")


def _cancel(name: str, query: str, workflow: str = "ask", **more: Any) -> Case:
    return Case(
        f"cancel: {name}", "POST", f"/handlers/{{handler}}/cancel{query}", given=(workflow, {}), then=_GONE, **more
    )


CANCELLING = [
    _cancel("a waiting run", ""),
    _cancel("a run that waits in a step", "", "approve"),
    _cancel("with purge", "?purge=true"),
    _cancel("with purge in capitals", "?purge=TRUE"),
    _cancel("with purge=false", "?purge=false"),
    _cancel("with purge=1", "?purge=1"),
    _cancel("with an empty purge", "?purge="),
    _cancel("with a body", "", body={"purge": True}),
    _cancel("with a body that is no JSON", "", content=b"{"),
    Case("cancel: unknown", "POST", "/handlers/nobody/cancel"),
    Case("cancel: unknown, with purge", "POST", "/handlers/nobody/cancel?purge=true"),
    *(
        Case(f"cancel: {handler} has ended", "POST", f"/handlers/{handler}/cancel")
        for handler in ("h-greeting", "h-failing", "h-timing-out", "h-cancelled")
    ),
]

CASES = [*ABOUT, *ROUTES, *HANDLERS, *STARTING, *STREAMS, *POSTING, *CANCELLING]
