"""A server as a scenario sees it, and the transcript of what it answered.

What must differ between two servers (random ids, times) is replaced by names, so that two transcripts of one
scenario are equal exactly when a client could not tell the servers apart.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx

from tests.servers import wait_for

# Seconds after which a test takes an answer, or the next part of a stream, for missing.
PATIENCE = 60.0

# The headers by which clients act. (Cache-Control and X-Accel-Buffering on streams are additions of ours.)
HEADERS = ("content-type", "content-encoding", "content-disposition", "location", "www-authenticate")

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00")
_SSE = re.compile(r"((id: -?\d+\ndata: [^\n]*\n\n)|(: heartbeat\n\n))*")
_NDJSON = re.compile(r"([^\n]+\n)*")
# The names of a workflow's events in an error; the engine keeps them in a set, in no order.
_EXPECTED_EVENTS = re.compile(r"(?<=Expected one of )\w+(, \w+)*")

Message = dict[str, Any]


class Answer:
    """A response that has been read to its end.

    Raises:
        AssertionError: it does not end in time, though something may come of it now and then.
    """

    def __init__(self, response: httpx.Response, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        self.status = response.status_code
        self.headers = response.headers
        self.content = b""
        for part in response.iter_bytes():
            self.content += part
            assert time.monotonic() < deadline, f"the answer does not end: {self}"

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith(("text/event-stream", "application/x-ndjson"))

    @property
    def messages(self) -> list[Message]:
        """The events of a stream, each with its ``id`` if it has one; heartbeats are left out."""
        return parse_stream(self.text, self.headers["content-type"])

    def __repr__(self) -> str:
        return f"<{self.status} {self.text[:500]}>"


def _sorted_names(found: re.Match[str]) -> str:
    return ", ".join(sorted(found[0].split(", ")))


def parse_stream(text: str, content_type: str) -> list[Message]:
    """Read a stream strictly: anything between its messages that does not belong there is an error."""
    if content_type.startswith("application/x-ndjson"):
        assert _NDJSON.fullmatch(text), text
        return [json.loads(line) for line in text.split("\n")[:-1]]
    assert _SSE.fullmatch(text), text
    messages = []
    for block in text.split("\n\n")[:-1]:
        if block != ": heartbeat":
            first, second = block.split("\n")
            messages.append({"id": int(first[4:]), **json.loads(second[6:])})
    return messages


class LiveStream:
    """A stream that is read while the scenario goes on."""

    def __init__(self, response: httpx.Response) -> None:
        self._parts = response.iter_bytes()
        self.status = response.status_code
        self.headers = response.headers
        self.text = ""

    @property
    def messages(self) -> list[Message]:
        """The messages that have come completely so far."""
        end = "\n" if self.headers["content-type"].startswith("application/x-ndjson") else "\n\n"
        whole, found, _ = self.text.rpartition(end)
        return parse_stream(whole + found, self.headers["content-type"])

    def read_until(self, condition: Callable[[Self], Any]) -> Self:
        """Read on until the condition is true.

        Raises:
            AssertionError: the stream ends before, or nothing of the kind comes in time.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition(self):
            part = next(self._parts, None)
            assert part is not None, f"the stream ended early: {self.text!r}"
            assert time.monotonic() < deadline, f"what was expected did not come: {self.text!r}"
            self.text += part.decode()
        return self

    def read_until_type(self, name: str, count: int = 1) -> Self:
        """Read on until that many events of a type have come."""
        return self.read_until(lambda _: sum(m["type"] == name for m in self.messages) >= count)

    def read_to_end(self) -> Self:
        deadline = time.monotonic() + PATIENCE
        for part in self._parts:
            self.text += part.decode()
            assert time.monotonic() < deadline, f"the stream does not end: {self.text!r}"
        return self


class Site:
    """One server. Its requests and answers are recorded, unless a request says ``record=False``."""

    def __init__(self, url: str) -> None:
        # A connection for each request: the reference breaks one that it has answered 204 on.
        limits = httpx.Limits(max_keepalive_connections=0, max_connections=None)
        self._client = httpx.Client(base_url=url, timeout=PATIENCE, limits=limits, verify=False)
        self.transcript: list[Any] = []
        self._names: dict[str, str] = {}

    def close(self) -> None:
        self._client.close()

    def new_transcript(self) -> None:
        self.transcript = []
        self._names = {}

    # --- requests --------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, *, record: bool = True, free_detail: bool = False, **arguments: Any
    ) -> Answer:
        """Send a request.

        Args:
            method: the HTTP method.
            path: path below the API's prefix, with the query.
            record: whether the answer goes into the transcript.
            free_detail: the words of an error's ``detail`` do not matter, only that there are some.
            arguments: more for httpx: json, content, headers, params.
        """
        with self._client.stream(method, path, **arguments) as response:
            answer = Answer(response)
        if record:
            self._record(f"{method} {path}", answer.status, answer.headers, self._body(answer, free_detail))
        return answer

    def get(self, path: str, **arguments: Any) -> Answer:
        return self.request("GET", path, **arguments)

    def post(self, path: str, body: Any = None, **arguments: Any) -> Answer:
        if body is not None:
            arguments["json"] = body
        return self.request("POST", path, **arguments)

    @contextmanager
    def stream(self, path: str, **arguments: Any) -> Iterator[LiveStream]:
        """Read a stream while other requests are made; it is recorded when it is left."""
        with self._client.stream("GET", path, **arguments) as response:
            live = LiveStream(response)
            yield live
        self._record(f"GET {path} (live)", live.status, live.headers, live.messages)

    def note(self, **values: Any) -> None:
        """Write something else that both servers must have in common."""
        self.transcript.append(self._without_chance(values))

    # --- conditions --------------------------------------------------------------------------------------

    def start(self, workflow: str, start_event: Any = None, **body: Any) -> str:
        """Start a run, unrecorded, and return its handler's id."""
        body["start_event"] = {} if start_event is None else start_event
        answer = self.post(f"/workflows/{workflow}/run-nowait", body, record=False)
        assert answer.status == 200, answer
        handler: str = answer.json()["handler_id"]
        self._name(handler, "handler_id")
        return handler

    def start_waiting(self, workflow: str, start_event: Any = None, **body: Any) -> str:
        """Start a run and return when it waits for an event from outside."""
        handler = self.start(workflow, start_event, **body)
        self.wait_for_event(handler, "WorkflowIdleEvent")
        return handler

    def wait_for_event(self, handler: str, name: str) -> None:
        """Return when a run has written an event of that type."""
        with self._client.stream("GET", f"/events/{handler}?after_sequence=-1&include_internal=true") as response:
            LiveStream(response).read_until_type(name)

    def wait_for_end(self, handler: str) -> Answer:
        """Return the handler when its run has ended."""

        def ended() -> Answer | None:
            answer = self.get(f"/handlers/{handler}", record=False)
            return answer if answer.status != 202 else None

        answer: Answer = wait_for(ended, timeout=PATIENCE, what=f"the end of {handler}")
        return answer

    # --- the transcript ------------------------------------------------------------------------------------

    def _record(self, what: str, status: int, headers: httpx.Headers, body: Any) -> None:
        seen = {name: headers[name] for name in HEADERS if name in headers}
        if status == 204:
            # The reference says of what type its nothing is.
            seen.pop("content-type", None)
        self.transcript.append(
            {"request": self._rename(what), "status": status, "headers": seen, "body": self._without_chance(body)}
        )

    def _body(self, answer: Answer, free_detail: bool) -> Any:
        if not answer.content:
            return ""
        if answer.is_stream:
            return answer.messages
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return answer.text
        body = answer.json()
        if isinstance(body, dict) and "handlers" in body:
            # An addition of ours.
            body.pop("next_cursor", None)
        if free_detail and set(body) == {"detail"} and isinstance(body["detail"], str) and body["detail"]:
            return {"detail": "<some words>"}
        return body

    def _without_chance(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._without_chance(item, name) for name, item in value.items()}
        if isinstance(value, list) and key == "events":
            # The engine keeps a workflow's events in a set, in no order.
            return sorted((self._without_chance(item) for item in value), key=json.dumps)
        if isinstance(value, list):
            return [self._without_chance(item, key) for item in value]
        if isinstance(value, str):
            if key in ("handler_id", "run_id"):
                self._name(value, key)
            if key.endswith("_at") and _TIME.fullmatch(value):
                return "<time>"
            return _EXPECTED_EVENTS.sub(_sorted_names, self._rename(value))
        if isinstance(value, float) and key == "elapsed_seconds":
            return "<seconds>"
        return value

    def _name(self, value: str, kind: str) -> None:
        if value not in self._names:
            count = sum(name.startswith(f"<{kind} ") for name in self._names.values())
            self._names[value] = f"<{kind} {count + 1}>"

    def _rename(self, text: str) -> str:
        for value, name in self._names.items():
            # Not inside a longer word: a chosen id may be one.
            text = re.sub(rf"(?<![\w-]){re.escape(value)}(?![\w-])", name, text)
        return text
