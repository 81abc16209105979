"""Where we answer otherwise than the reference, on purpose, and why; data for tests and documentation.

``reference`` is what the reference (0.8.0) does: a status that the tests verify, HANGS for no answer or a stream
without an end, which they verify as well, or words where it depends on its store or needs more than a request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

HANGS = "hangs"

_RESPONSE = {"type": "HumanResponseEvent", "value": {"response": "Ada"}}
_NOTHING = object()


@dataclass(frozen=True)
class Departure:
    """One request that is answered otherwise.

    Attributes:
        name: what is sent or asked; the test's id.
        reason: why our answer differs, in a line.
        method, path, body, content: the request. In path and body, ``{handler}`` stands for a run that waits
            for a person, ``{ended}`` for one of the workflow "silent" that has ended.
        reference: what the reference answers.
        ours: the status of our answer; from 400 on it is JSON with a ``detail``, and nothing has changed.
    """

    name: str
    reason: str
    method: str
    path: str
    reference: int | str
    ours: int
    body: Any = field(default_factory=lambda: _NOTHING)
    content: bytes | None = None

    def speaks_of(self, handler: str) -> bool:
        return handler in self.path or (self.body is not _NOTHING and handler in json.dumps(self.body))

    def arguments(self, handler: str) -> dict[str, Any]:
        """Return what httpx is called with beyond method and path, for the handler that is spoken of."""
        if self.content is not None:
            return {"content": self.content}
        if self.body is _NOTHING:
            return {}
        return {"content": json.dumps(self.body).replace("{ended}", handler).encode()}


def _run(
    name: str, reason: str, body: Any, *, reference: int | str, workflow: str = "echo", ours: int = 400
) -> Departure:
    path = f"/workflows/{workflow}/run"
    if isinstance(body, bytes):
        return Departure(name, reason, "POST", path, reference, ours, content=body)
    return Departure(name, reason, "POST", path, reference, ours, body=body)


def _post(name: str, reason: str, body: Any, *, reference: int | str, ours: int = 400) -> Departure:
    path = "/events/{handler}"
    if isinstance(body, bytes):
        return Departure(name, reason, "POST", path, reference, ours, content=body)
    return Departure(name, reason, "POST", path, reference, ours, body=body)


def _stream(name: str, reason: str, query: str) -> Departure:
    return Departure(name, reason, "GET", f"/events/{{handler}}{query}", HANGS, 400)


_MISSING = "What is missing in it is the client's mistake, not the server's."
_NO_OBJECT = "A body that is no object is the client's mistake, not the server's."
_NO_STRING = "An id that is no string can be neither stored nor looked up again."
_NO_PATH = "A handler with this id could never be asked for: it does not survive a URL's path."
_NO_KEY = "No database key can hold it everywhere."
_NO_STEP = "A step that does not exist, or does not accept the event, is the client's mistake."
_PAST = "The run has not got that far, so whoever asks has another run in mind; it would wait in silence."
_DATA = "The fields of an event are an object; anything else breaks the step that gets it."
_PAGES = "Pages are an addition of ours; what makes no sense in them is said."
_ALLOW = "The method is wrong, the path is right; Allow says what would be right."

DEPARTURES = [
    # --- starting a run -----------------------------------------------------------------------------
    _run(
        "null start event where one is needed",
        _MISSING,
        {"start_event": None},
        workflow="greeting",
        reference=500,
    ),
    _run("null kwargs where some are needed", _MISSING, {"kwargs": None}, workflow="greeting", reference=500),
    _run("handler_id a number", _NO_STRING, {"handler_id": 5}, reference=HANGS),
    _run("handler_id a list", _NO_STRING, {"handler_id": ["x"]}, reference=HANGS),
    _run("handler_id an object", _NO_STRING, {"handler_id": {"a": 1}}, reference=HANGS),
    _run("handler_id true", _NO_STRING, {"handler_id": True}, reference=HANGS),
    _run("handler_id 0", _NO_STRING, {"handler_id": 0}, reference=200),
    _run("handler_id false", _NO_STRING, {"handler_id": False}, reference=200),
    _run("handler_id with a slash", _NO_PATH, {"handler_id": "a/b"}, reference=200),
    _run("handler_id with a question mark", _NO_PATH, {"handler_id": "a?b"}, reference=200),
    _run("handler_id with a hash", _NO_PATH, {"handler_id": "a#b"}, reference=200),
    _run("handler_id with a percent sign", _NO_PATH, {"handler_id": "a%2Fb"}, reference=200),
    _run("handler_id of two dots", _NO_PATH, {"handler_id": ".."}, reference=200),
    _run("handler_id of a space", _NO_PATH, {"handler_id": " "}, reference=200),
    _run("handler_id with a line feed", _NO_PATH, {"handler_id": "a\nb"}, reference=200),
    _run("handler_id with NUL", _NO_KEY, {"handler_id": "a\x00"}, reference=200),
    _run("handler_id of 5,000 characters", _NO_KEY, {"handler_id": "a" * 5000}, reference=200),
    _run("handler_id with half a surrogate pair", _NO_KEY, b'{"handler_id": "\\ud800"}', reference=500),
    _run("_data that is a list", _DATA, {"start_event": {"_data": [1]}}, reference=500),
    _run("_data that is a string", _DATA, {"start_event": {"_data": "abc"}}, reference=500),
    _run("_data that is a number", _DATA, {"start_event": {"_data": 5}}, reference=500),
    _run("_data that is null", _DATA, {"start_event": {"_data": None}}, reference=500),
    _run(
        "handler_id of another workflow's handler",
        "Its state means nothing to this workflow, and under its id readers expect the other one.",
        {"handler_id": "{ended}"},
        reference=200,
        ours=409,
    ),
    _run(
        "a start event nested 300 deep",
        "It cannot be serialized; the reference answers 500 and leaves a handler that runs for ever.",
        b'{"start_event": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}",
        reference=500,
    ),
    _run(
        "a start event nested 150 deep",
        "Nothing needs more than MAX_JSON_DEPTH (100) levels, and each of them costs whoever reads it later.",
        b'{"start_event": {"a": ' + b"[" * 148 + b"]" * 148 + b"}}",
        reference=200,
    ),
    _run(
        "a body over MAX_BODY_SIZE (8 MB)",
        "A request that has no limit is a way to fill the server's memory.",
        {"start_event": {"text": "a" * 9_000_000}},
        workflow="measure",
        reference=200,
        ours=413,
    ),
    _run(
        "half a surrogate pair in a text",
        "No UTF-8 can hold it: it becomes U+FFFD, where the reference answers 500 to every later list.",
        b'{"start_event": {"a": "\\ud800"}}',
        reference=500,
        ours=200,
    ),
    # --- sending an event ----------------------------------------------------------------------------
    _post("event body a list", _NO_OBJECT, [1], reference=500),
    _post("event body a string", _NO_OBJECT, "event", reference=500),
    _post("event body null", _NO_OBJECT, b"null", reference=500),
    _post("event body a number", _NO_OBJECT, 5, reference=500),
    _post("a step that does not exist", _NO_STEP, {"event": _RESPONSE, "step": "nobody"}, reference=500),
    _post("a step that does not accept the event", _NO_STEP, {"event": _RESPONSE, "step": "ask"}, reference=500),
    _post("a step that is a number", _NO_STEP, {"event": _RESPONSE, "step": 5}, reference=500),
    _post("a step that is a list", _NO_STEP, {"event": _RESPONSE, "step": ["answer"]}, reference=500),
    _post("a step that is an object", _NO_STEP, {"event": _RESPONSE, "step": {}}, reference=500),
    _post("a step that is false", _NO_STEP, {"event": _RESPONSE, "step": False}, reference=500),
    _post(
        "a step that is empty",
        "It names no step, as null does.",
        {"event": _RESPONSE, "step": ""},
        reference=500,
        ours=200,
    ),
    _post(
        "an event whose _data is a list",
        _DATA,
        {"event": {"type": "HumanResponseEvent", "value": {"_data": [1]}}},
        reference=200,
    ),
    _post(
        "an event whose _data is a number",
        _DATA,
        {"event": {"type": "HumanResponseEvent", "value": {"_data": 5}}},
        reference=200,
    ),
    # --- reading a stream -----------------------------------------------------------------------------
    _stream("after_sequence past the end", _PAST, "?after_sequence=99"),
    _stream("after_sequence past the end, NDJSON", _PAST, "?after_sequence=99&sse=false"),
    _stream("after_sequence of 40 digits", _PAST, "?after_sequence=" + "9" * 40),
    # --- listing --------------------------------------------------------------------------------------
    *(
        Departure(f"a page of {limit}", _PAGES, "GET", f"/handlers?limit={limit}", 200, 400)
        for limit in ("0", "-1", "1001", "all", "1e2", "%D9%A1")
    ),
    Departure("a cursor that is none", _PAGES, "GET", "/handlers?cursor=nonsense", 200, 400),
    Departure(
        "1,100 query parameters",
        "Django's limit (DATA_UPLOAD_MAX_NUMBER_FIELDS) guards against requests that are made to be slow.",
        "GET",
        "/handlers?" + "&".join(["status=x"] * 1100),
        200,
        400,
    ),
    # --- methods and paths ------------------------------------------------------------------------------
    Departure("GET where only POST is", _ALLOW, "GET", "/workflows/echo/run", 404, 405),
    Departure("GET of a cancellation", _ALLOW, "GET", "/handlers/{ended}/cancel", 404, 405),
    Departure(
        "POST to an unknown path", "What is not there is not found, by any method.", "POST", "/nonsense", 405, 404
    ),
    Departure(
        "POST with a trailing slash",
        "What is not there is not found, by any method.",
        "POST",
        "/workflows/echo/run/",
        405,
        404,
    ),
    Departure("OPTIONS", "Allow says what can be done.", "OPTIONS", "/workflows/echo/run", 405, 200),
]


@dataclass(frozen=True)
class Difference:
    """One that is not a single request's status; ``name`` is that of its test in test_better.py."""

    name: str
    reason: str
    reference: str


DIFFERENCES = [
    Difference(
        "line_separators_are_escaped_in_streams",
        "U+2028, U+2029 and U+0085 break the line splitting of clients, the published one included.",
        "sends them as they are",
    ),
    Difference(
        "streams_are_not_held_back",
        "Caches and proxies must pass a stream on as it comes: Cache-Control and X-Accel-Buffering say so.",
        "sends neither header",
    ),
    Difference(
        "a_head_request_of_a_stream_ends",
        "HEAD asks for no events, so nobody waits for any.",
        "holds the connection until the run ends",
    ),
    Difference(
        "the_connection_can_be_used_after_204",
        "204 has no body, so the connection stays in step.",
        "announces a body, and the server breaks the connection",
    ),
    Difference(
        "a_last_event_id_past_the_end_is_ignored",
        "It is of an earlier run of the handler; a browser sends it by itself and would wait in silence.",
        "sends nothing until the run has got past it",
    ),
    Difference(
        "a_wrong_method_is_told_the_right_ones", "RFC 9110 asks for Allow with every 405.", "no Allow header"
    ),
    Difference(
        "handlers_come_newest_first_in_pages",
        "A list without order and end is of no use with a million handlers; next_cursor leads on.",
        "all handlers, in no promised order",
    ),
    Difference(
        "no_path_of_the_server_is_shown",
        "Where the code lies on the server is nobody's business.",
        "absolute source paths in the graph",
    ),
    Difference(
        "other_origins_get_no_leave",
        "A site's CORS policy is the site's decision, and a session cookie is at stake.",
        "reflects any Origin, with credentials",
    ),
    Difference(
        "one_of_many_starts_with_one_id_runs",
        "The id of a run that goes on starts no second one.",
        "with a store that waits, all of them run",
    ),
    Difference(
        "half_a_surrogate_pair_does_no_lasting_harm",
        "What one run says must not hide the others.",
        "every list that includes the run is answered 500 from then on",
    ),
    Difference(
        "an_undeclared_question_fails_at_once",
        "An event class that is not declared cannot be read after a restart; the error says how to declare it.",
        "goes on until a restart, and then loses the run without a word",
    ),
]
