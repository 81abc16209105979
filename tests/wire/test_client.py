"""The published client, every method of it, against a real server of ours; and against the reference, so that
what is expected here is what it does there."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_agents.client import WorkflowClient
from llama_agents.client.client import EventStream
from workflows import Context
from workflows.events import HumanResponseEvent, StartEvent

from tests.servers import HOST, Server
from tests.wire import workflows
from tests.wire.workflows import TEXTS, Approval, GreetingStart, GreetingStop, Tick

# Seconds after which a test takes something for missing.
PATIENCE = 60.0

RESPONSE = HumanResponseEvent(response="Ada")


@pytest.fixture(params=["ours", "reference"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue("our_server" if request.param == "ours" else "reference_server")
    return server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[WorkflowClient]:
    # Made for each request, as the client does with a base_url, it would read the system's certificates each time.
    async with httpx.AsyncClient(base_url=server.url, verify=False, timeout=PATIENCE) as http:
        yield WorkflowClient(httpx_client=http)


async def start_waiting(client: WorkflowClient, workflow: str, handler_id: str | None = None) -> str:
    """Start a run and return its handler's id when it waits for an event from outside."""
    handler = await client.run_workflow_nowait(workflow, handler_id=handler_id)
    stream = client.get_workflow_events(handler.handler_id, include_internal_events=True)
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            if event.type == "WorkflowIdleEvent":
                break
    await stream.aclose()
    return handler.handler_id


async def collect(stream: EventStream, until: Callable[[Any], bool] = lambda event: False) -> list[Any]:
    """Read a stream to its end, or to the first event that fits."""
    events = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            events.append(event)
            if until(event):
                break
    return events


def test_every_method_is_used_here() -> None:
    source = Path(__file__).read_text()
    for name, _ in inspect.getmembers(WorkflowClient, inspect.isfunction):
        assert name.startswith("_") or f"client.{name}(" in source, name


# --- what is served -----------------------------------------------------------------------------------


async def test_health(client: WorkflowClient) -> None:
    assert (await client.is_healthy()).status == "healthy"


async def test_a_client_with_a_base_url(server: Server) -> None:
    client = WorkflowClient(base_url=server.url)
    assert (await client.is_healthy()).status == "healthy"
    handler = await client.run_workflow("silent")
    assert await collect(client.get_workflow_events(handler.handler_id, after_sequence="now")) == []


async def test_workflows(client: WorkflowClient) -> None:
    assert (await client.list_workflows()).workflows == list(workflows.SERVED)


async def test_schema(client: WorkflowClient) -> None:
    schema = await client.get_workflow_schema("greeting")
    assert schema.start == GreetingStart.model_json_schema()
    assert schema.stop == GreetingStop.model_json_schema()


async def test_events_schema(client: WorkflowClient) -> None:
    schema = await client.get_workflow_events_schema("approve")
    assert Approval.model_json_schema() in schema.events


async def test_graph(client: WorkflowClient) -> None:
    graph = (await client.get_workflow_graph("steps")).graph
    assert {node.id for node in graph.nodes} >= {"prepare", "work", "finish", "StartEvent", "Half"}


# --- running -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start_event",
    [GreetingStart(name="Ada"), {"name": "Ada"}, {"type": "GreetingStart", "value": {"name": "Ada"}}],
)
async def test_run(client: WorkflowClient, start_event: Any) -> None:
    handler = await client.run_workflow("greeting", start_event=start_event)
    assert handler.status == "completed"
    assert handler.result is not None
    event = handler.result.load_event([GreetingStop])
    assert isinstance(event, GreetingStop)
    assert event.greeting == "Hello, Ada!"


async def test_run_without_a_start_event(client: WorkflowClient) -> None:
    handler = await client.run_workflow("echo")
    assert handler.result is not None
    assert handler.result.value == {"result": {}}


async def test_run_with_free_fields(client: WorkflowClient) -> None:
    handler = await client.run_workflow("echo", start_event=StartEvent(a=1, b="ä \u2028"))
    assert handler.result is not None
    assert handler.result.value == {"result": {"a": 1, "b": "ä \u2028"}}


@pytest.mark.parametrize("start_event", [GreetingStart(name="Ada"), {"name": "Ada"}])
async def test_run_nowait(client: WorkflowClient, start_event: Any) -> None:
    started = await client.run_workflow_nowait("greeting", start_event=start_event)
    assert started.status == "running"
    handler = await client.wait_for_handler(started.handler_id, timeout=PATIENCE, poll_interval=0.01)
    assert (handler.run_id, handler.status) == (started.run_id, "completed")
    assert handler.result is not None
    assert handler.result.value["greeting"] == "Hello, Ada!"
    assert await client.get_handler(started.handler_id) == handler
    assert await client.get_result(started.handler_id) == handler


async def test_a_handler_is_continued(client: WorkflowClient) -> None:
    for expected in (1, 2, 3):
        handler = await client.run_workflow("counter", handler_id="client-counter")
        assert handler.handler_id == "client-counter"
        assert handler.result is not None
        assert handler.result.value == {"result": expected}


async def test_a_context_is_refused(client: WorkflowClient) -> None:
    context: Context[Any] = Context(workflows.Counter())
    with pytest.raises(httpx.HTTPStatusError, match="Context API is disabled"):
        await client.run_workflow("counter", context=context)


# --- streams -------------------------------------------------------------------------------------------


async def test_events(client: WorkflowClient) -> None:
    handler = await client.run_workflow_nowait("steps")
    stream = client.get_workflow_events(handler.handler_id)
    events = await collect(stream)
    assert [event.type for event in events] == ["Progress"] * 4 + ["Half", "StopEvent"]
    assert stream.last_sequence == 11
    everything = await collect(client.get_workflow_events(handler.handler_id, include_internal_events=True))
    assert len(everything) == 12
    assert await collect(client.get_workflow_events(handler.handler_id, after_sequence=7)) == events[-1:]
    assert await collect(client.get_workflow_events(handler.handler_id, after_sequence=11)) == []
    assert await collect(client.get_workflow_events(handler.handler_id, after_sequence="now")) == []


async def test_reading_goes_on_where_it_stopped(client: WorkflowClient) -> None:
    handler = await start_waiting(client, "chat")
    first = client.get_workflow_events(handler)
    assert [e.value["message"] for e in await collect(first, lambda event: True)] == ["listening"]
    await first.aclose()
    await client.send_event(handler, Tick(text="meanwhile"))
    await client.send_event(handler, {"type": "Enough", "value": {}})
    rest = await collect(client.get_workflow_events(handler, after_sequence=first.last_sequence))
    assert [event.type for event in rest] == ["Progress", "StopEvent"]
    assert rest[0].value["message"] == "meanwhile"


class CuttingProxy:
    """Passes connections on to a server until it cuts them, as networks do."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        proxy = await asyncio.start_server(self._pass_on, HOST, 0)
        try:
            yield f"http://{HOST}:{proxy.sockets[0].getsockname()[1]}"
        finally:
            proxy.close()
            self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        server_reader, server_writer = await asyncio.open_connection(HOST, self._port)
        self._writers += [writer, server_writer]
        await asyncio.gather(
            self._copy(reader, server_writer), self._copy(server_reader, writer), return_exceptions=True
        )

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def test_a_cut_connection_is_made_again_without_a_gap(client: WorkflowClient, server: Server) -> None:
    handler = await start_waiting(client, "chat")
    proxy = CuttingProxy(server.port)
    prefix = server.url.removeprefix(server.origin)
    async with proxy.listening() as origin:
        messages = []
        stream = WorkflowClient(base_url=origin + prefix).get_workflow_events(handler)
        async with asyncio.timeout(PATIENCE):
            async for event in stream:
                messages.append(event.value.get("message"))
                if event.type == "Progress" and len(messages) <= 3:
                    # One comes while there is no connection, one after.
                    proxy.cut()
                    await client.send_event(handler, Tick(text=f"text {len(messages)}"))
                elif event.type == "Progress":
                    await client.send_event(handler, {"type": "Enough", "value": {}})
    assert messages == ["listening", "text 1", "text 2", "text 3", None]
    assert proxy.connections == 4


async def test_texts_arrive_as_they_are(our_server: Server) -> None:
    """The reference sends line separators raw, and the client stumbles over them."""
    client = WorkflowClient(base_url=our_server.url)
    handler = await client.run_workflow("texts")
    events = await collect(client.get_workflow_events(handler.handler_id))
    assert [event.value["message"] for event in events[:-1]] == list(TEXTS.values())
    assert events[-1].value == {"result": TEXTS}


# --- a person in the loop --------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [RESPONSE, {"type": "HumanResponseEvent", "value": {"response": "Ada"}}])
@pytest.mark.parametrize("step", [None, "answer"])
async def test_a_person_answers(client: WorkflowClient, answer: Any, step: str | None) -> None:
    handler = await client.run_workflow_nowait("ask")
    stream = client.get_workflow_events(handler.handler_id)
    types = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            types.append(event.type)
            if "InputRequiredEvent" in (event.types or []):
                assert (await client.get_handler(handler.handler_id)).status == "running"
                assert (await client.send_event(handler.handler_id, answer, step=step)).status == "sent"
    assert types == ["Question", "StopEvent"]
    ended = await client.wait_for_handler(handler.handler_id, timeout=PATIENCE, poll_interval=0.01)
    assert ended.result is not None
    assert ended.result.value == {"result": "Hello, Ada!"}


async def test_a_person_answers_while_a_run_is_waited_for(client: WorkflowClient) -> None:
    running = asyncio.create_task(client.run_workflow("approve", handler_id="client-approve"))
    async with asyncio.timeout(PATIENCE):
        while not await knows(client, "client-approve"):  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(0.02)
        stream = client.get_workflow_events("client-approve", include_internal_events=True)
        await collect(stream, lambda event: event.type == "WorkflowIdleEvent")
        await client.send_event("client-approve", Approval(approved=True, by="Ada"))
        handler = await running
    assert handler.result is not None
    assert handler.result.value == {"result": {"approved": True, "by": "Ada"}}


async def knows(client: WorkflowClient, handler_id: str) -> bool:
    listed = (await client.get_handlers(workflow_name=["approve"])).handlers
    return any(handler.handler_id == handler_id for handler in listed)


# --- handlers --------------------------------------------------------------------------------------------


async def test_handlers(client: WorkflowClient) -> None:
    running = await start_waiting(client, "ask")
    completed = (await client.run_workflow("greeting", start_event={"name": "Ada"})).handler_id
    cancelled = await start_waiting(client, "ask")
    await client.cancel_handler(cancelled)

    async def found(**filters: Any) -> set[str]:
        handlers = (await client.get_handlers(**filters)).handlers
        return {h.handler_id for h in handlers} & {running, completed, cancelled}

    assert await found() == {running, completed, cancelled}
    assert await found(status=["running"]) == {running}
    assert await found(status=["completed", "cancelled"]) == {completed, cancelled}
    assert await found(workflow_name=["ask"]) == {running, cancelled}
    assert await found(workflow_name=["ask", "greeting"], status=["running", "completed"]) == {running, completed}
    assert await found(workflow_name=["nobody"]) == set()
    assert await found(status=[], workflow_name=[]) == {running, completed, cancelled}


async def test_waiting_has_a_timeout(client: WorkflowClient) -> None:
    handler = await start_waiting(client, "ask")
    with pytest.raises(TimeoutError):
        await client.wait_for_handler(handler, timeout=0.1, poll_interval=0.02)


@pytest.mark.parametrize("purge", [False, True])
async def test_cancel(client: WorkflowClient, purge: bool) -> None:
    handler = await start_waiting(client, "ask")
    types = []
    async with asyncio.timeout(PATIENCE):
        async for event in client.get_workflow_events(handler):
            types.append(event.type)
            if event.type == "Question":
                answer = await client.cancel_handler(handler, purge=purge)
                assert answer.status == ("deleted" if purge else "cancelled")
    assert types == ["Question", "WorkflowCancelledEvent"]
    if purge:
        await expect(404, client.get_handler(handler))
        with pytest.raises(ValueError, match="Handler not found"):
            await collect(client.get_workflow_events(handler))
    else:
        # As in the reference: a handler that has not completed is answered 500, with the handler.
        error = await expect(500, client.get_handler(handler))
        assert error.response.json()["status"] == "cancelled"
    await expect(404, client.cancel_handler(handler))


async def test_purge_of_an_ended_run(client: WorkflowClient) -> None:
    handler = (await client.run_workflow("silent")).handler_id
    await expect(404, client.cancel_handler(handler))
    assert (await client.cancel_handler(handler, purge=True)).status == "deleted"
    await expect(404, client.get_handler(handler))


# --- errors ----------------------------------------------------------------------------------------------


async def expect(status: int, call: Any) -> httpx.HTTPStatusError:
    """Return the error that a call raises for a status."""
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await call
    assert caught.value.response.status_code == status
    return caught.value


async def test_errors(client: WorkflowClient) -> None:
    ended = (await client.run_workflow("silent")).handler_id
    waiting = await start_waiting(client, "ask")
    undeclared = Approval(approved=True)

    assert "Workflow not found" in str(await expect(404, client.run_workflow("nobody")))
    assert "Workflow not found" in str(await expect(404, client.run_workflow_nowait("nobody")))
    assert "Workflow not found" in str(await expect(404, client.get_workflow_schema("nobody")))
    assert "Workflow not found" in str(await expect(404, client.get_workflow_graph("nobody")))
    assert "'nobody' not found" in str(await expect(404, client.get_workflow_events_schema("nobody")))
    assert "name" in str(await expect(400, client.run_workflow("greeting")))
    assert "name" in str(await expect(400, client.run_workflow_nowait("greeting", start_event={})))
    assert "already running" in str(await expect(409, client.run_workflow("ask", handler_id=waiting)))
    assert "already running" in str(await expect(409, client.run_workflow_nowait("ask", handler_id=waiting)))
    assert "Handler not found" in str(await expect(404, client.get_handler("nobody")))
    assert "Handler not found" in str(await expect(404, client.get_result("nobody")))
    assert "Handler not found" in str(await expect(404, client.wait_for_handler("nobody")))
    assert "Handler not found" in str(await expect(404, client.cancel_handler("nobody")))
    assert "Handler not found" in str(await expect(404, client.send_event("nobody", RESPONSE)))
    assert "already completed" in str(await expect(409, client.send_event(ended, RESPONSE)))
    assert "Invalid event type: Approval" in str(await expect(400, client.send_event(waiting, undeclared)))
    with pytest.raises(ValueError, match="Handler not found"):
        await collect(client.get_workflow_events("nobody"))


async def test_a_run_that_fails(client: WorkflowClient) -> None:
    error = await expect(500, client.run_workflow("failing", handler_id="client-failing"))
    assert "this was bound to fail" in str(error)
    error = await expect(500, client.wait_for_handler("client-failing"))
    assert error.response.json()["status"] == "failed"
    events = await collect(client.get_workflow_events("client-failing"))
    assert [event.type for event in events] == ["Progress", "WorkflowFailedEvent"]
