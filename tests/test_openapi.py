"""The OpenAPI document: valid, complete, nobody else's, and true of what the server answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import patched_settings
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from pydantic import BaseModel, Field
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from django_workflows import registry
from django_workflows.api import openapi
from django_workflows.api.urls import urlpatterns as our_urls
from tests import servers
from tests.servers import wait_for
from tests.wire import workflows as wire


@dataclass
class Document:
    """A document, and what tests ask of it."""

    data: dict[str, Any]

    @property
    def components(self) -> dict[str, Any]:
        found: dict[str, Any] = self.data["components"]["schemas"]
        return found

    @property
    def operations(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {
            (path, method.upper()): operation
            for path, methods in self.data["paths"].items()
            for method, operation in methods.items()
        }

    def operation(self, operation_id: str) -> tuple[str, str, dict[str, Any]]:
        """Return path, method and description of an operation."""
        for (template, method), operation in self.operations.items():
            if operation["operationId"] == operation_id:
                return template, method, operation
        raise AssertionError(f"no operation {operation_id}")

    def body(self, operation_id: str) -> dict[str, Any]:
        return self.operation(operation_id)[2]["requestBody"]["content"]["application/json"]["schema"]

    def answer(self, operation_id: str, status: int) -> dict[str, Any]:
        return self.operation(operation_id)[2]["responses"][str(status)]["content"]["application/json"]["schema"]

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Follow references to a component."""
        while "$ref" in schema:
            schema = self.components[schema["$ref"].removeprefix("#/components/schemas/")]
        return schema

    def errors(self, schema: dict[str, Any], value: Any) -> list[str]:
        """Return how a value breaks a schema."""
        whole = {**schema, "components": self.data["components"]}
        validator = OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER)
        return [error.message for error in validator.iter_errors(value)]


def get(url: str = "/workflows/openapi.json", **extra: Any) -> Document:
    response = Client().get(url, **extra)
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"] == "application/json"
    return Document(json.loads(response.content))


@pytest.fixture
def serve(settings: Any) -> Any:
    """Serve workflow classes of this module, by name, with more settings."""

    def serve(names: dict[str, str] | None = None, **more: Any) -> None:
        entries = {name: f"{__name__}.{cls}" for name, cls in (names or {}).items()}
        settings.DJANGO_WORKFLOWS = {"WORKFLOWS": entries, **more}

    return serve


# --- workflows that are hard to describe -----------------------------------------------------------------


class Part(BaseModel):
    title: str
    parts: list[Part] = []
    size: float = Field(default=1.0, alias="sizeInCm", gt=0)


class Grüße(StartEvent):
    """Wem „Grüße“ gelten, 你好."""

    an: str = Field(title="Grüße an … 👋", description="Eine Person, z. B. „Zoë“")


class Gegrüßt(StopEvent):
    model_config = {"title": "Gegrüßt & zurück"}

    wen: str


class Greeting(Workflow):
    """Grüßt höflich."""

    @step
    async def greet(self, ev: Grüße) -> Gegrüßt:
        return Gegrüßt(wen=ev.an)


class Build(StartEvent):
    root: Part


class Built(StopEvent):
    root: Part
    depth: int = Field(alias="theDepth", default=0)


class Building(Workflow):
    @step
    async def build(self, ev: Build) -> Built:
        return Built(root=ev.root)


class Measured(StartEvent):
    value: float


class Measuring(Workflow):
    @step
    async def measure(self, ev: Measured) -> StopEvent:
        return StopEvent(result=ev.value)


class Connection:
    pass


class Connected(StartEvent):
    connection: Connection
    host: str


class Connecting(Workflow):
    @step
    async def connect(self, ev: Connected) -> StopEvent:
        return StopEvent(result=ev.host)


class Indescribable(StartEvent):
    name: str

    @classmethod
    def __get_pydantic_json_schema__(cls, *args: Any) -> Any:
        raise RuntimeError("no schema of this one")


class Describing(Workflow):
    @step
    async def describe(self, ev: Indescribable) -> StopEvent:
        return StopEvent(result=ev.name)


class First:
    class Question(StartEvent):
        text: str


class Second:
    class Question(StartEvent):
        number: int


class AskingForText(Workflow):
    @step
    async def ask(self, ev: First.Question) -> StopEvent:
        return StopEvent(result=ev.text)


class AskingForNumber(Workflow):
    @step
    async def ask(self, ev: Second.Question) -> StopEvent:
        return StopEvent(result=ev.number)


class HandlerData(StopEvent):
    """Called as one of our own components."""

    mine: bool


class Naming(Workflow):
    @step
    async def name(self, ev: StartEvent) -> HandlerData:
        return HandlerData(mine=True)


class Answer(HumanResponseEvent):
    answer: int


class Waiting(Workflow):
    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Answer)).answer)


def plain() -> Workflow:
    return wire.Echo()


# --- the document ------------------------------------------------------------------------------------------


def test_it_is_valid_openapi(serve: Any) -> None:
    serve()
    validate(get().data)
    serve({"greet": "Greeting", "build": "Building", "3d.measure~x": "Measuring", "connect": "Connecting"})
    validate(get().data)


def test_every_url_and_method_is_described_and_nothing_else(serve: Any) -> None:
    serve({"greet": "Greeting"})
    ours = {
        ("/" + re.sub(r"<str:(\w+)>", r"{\1}", str(pattern.pattern)), method)
        for pattern in our_urls
        if issubclass(getattr(pattern.callback, "cls", object), openapi.WorkflowsView)
        for method in set(pattern.callback.cls().allowed_methods) - {"OPTIONS", "HEAD"}
    }
    own = {(f"/workflows/{name}/{way}", "POST") for name in registry.names() for way in ("run", "run-nowait")}
    assert ("/workflows/greet/run", "POST") in own
    assert set(get().operations) == ours | own


def test_each_parameter_of_a_path_is_described(serve: Any) -> None:
    serve({"greet": "Greeting"})
    for (template, _), operation in get().operations.items():
        described = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert described == set(re.findall(r"\{(\w+)\}", template))


def test_operation_ids_are_names_of_functions_and_unique(serve: Any) -> None:
    serve({"3d": "Building", "greet-me": "Greeting", "greet.me": "Greeting", "workflow": "Greeting"})
    ids = [operation["operationId"] for operation in get().operations.values()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9_]*", one) for one in ids)
    assert {"run_workflow", "run_workflow_2", "run_greet_me", "run_greet_me_2", "run_greet_me_nowait"} <= set(ids)


def test_all_references_lead_somewhere_in_the_document(serve: Any) -> None:
    serve({"build": "Building", "greet": "Greeting", "wait": "Waiting"})
    text = json.dumps(get().data)
    found = set(re.findall(r'"\$ref": "([^"]+)"', text))
    assert found <= {f"#/components/schemas/{name}" for name in get().components}
    assert "$defs" not in text


def test_every_error_has_the_one_shape(serve: Any) -> None:
    serve()
    document = get()
    for operation in document.operations.values():
        for status, response in operation["responses"].items():
            if status[0] in "45" and "health" not in operation["operationId"]:
                schema = response["content"]["application/json"]["schema"]
                assert document.errors(schema, {"detail": "why"}) == []
                assert document.errors(schema, {"error": "why"})


# --- a workflow's own operations ---------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["run_build", "run_build_nowait"])
def test_a_served_workflow_has_operations_with_its_own_events(serve: Any, operation: str) -> None:
    serve({"build": "Building"})
    document = get()
    body = document.body(operation)
    assert document.errors(body, {"start_event": {"root": {"title": "a", "parts": [{"title": "b"}]}}}) == []
    assert document.errors(body, {"start_event": {"root": {"title": "a", "parts": [{}]}}})
    assert document.errors(body, {"start_event": {}})
    assert document.errors(body, {})
    assert document.errors(body, {"start_event": {"root": {"title": "a"}}, "handler_id": "a/b"})

    handler = document.resolve(document.answer(operation, 200))
    stop = document.resolve(document.resolve(handler["properties"]["result"]["anyOf"][0])["properties"]["value"])
    assert stop["title"] == "Built"
    events = document.operation(operation)[2]["x-workflow-events"]
    assert events == [{"$ref": "#/components/schemas/Build-Output"}, {"$ref": "#/components/schemas/Built"}]


def test_results_are_described_as_they_are_written(serve: Any) -> None:
    serve({"build": "Building"})
    document = get()
    part = Part(title="a", sizeInCm=2)
    written = json.loads(Built(root=part).model_dump_json())
    assert written == {"root": {"title": "a", "parts": [], "size": 2.0}, "depth": 0}
    stop = document.components["Built"]
    assert set(stop["properties"]) == set(written)
    assert set(document.resolve(stop["properties"]["root"])["properties"]) == set(written["root"])
    asked = document.resolve(document.components["Build-Input"]["properties"]["root"])
    assert set(asked["properties"]) == {"title", "parts", "sizeInCm"}


def test_a_start_event_without_needed_fields_may_be_left_out(serve: Any) -> None:
    serve({"echo": "plain"})
    document = get()
    for body in ({}, {"start_event": {"any": 1}}, {"start_event": None}):
        assert document.errors(document.body("run_echo"), body) == []


def test_a_start_event_that_would_be_taken_for_an_envelope_is_asked_for_in_one(serve: Any) -> None:
    serve({"measure": "Measuring"})
    document = get()
    body = document.body("run_measure")
    assert document.errors(body, {"start_event": {"value": 1.5}})
    enveloped = {"type": "Measured", "value": {"value": 1.5}}
    assert document.errors(body, {"start_event": enveloped}) == []
    # And that is so.
    from django_workflows import serialization
    from django_workflows.exceptions import InvalidEvent

    with pytest.raises(InvalidEvent):
        serialization.parse_start_event({"value": 1.5}, registry.get("measure"))
    assert serialization.parse_start_event(enveloped, registry.get("measure")) == Measured(value=1.5)


def test_names_beyond_ascii(serve: Any) -> None:
    serve({"greet": "Greeting"})
    document = get()
    validate(document.data)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in document.components)
    start = document.resolve(document.resolve(document.body("run_greet"))["properties"]["start_event"])
    assert start["title"] == "Grüße"
    assert start["description"] == "Wem „Grüße“ gelten, 你好."
    assert start["properties"]["an"]["title"] == "Grüße an … 👋"
    tag = {"name": "workflow: greet", "description": "Grüßt höflich."}
    assert tag in document.data["tags"]


def test_classes_of_the_same_name_are_kept_apart(serve: Any) -> None:
    serve({"text": "AskingForText", "number": "AskingForNumber", "name": "Naming"})
    document = get()
    validate(document.data)
    assert document.errors(document.body("run_text"), {"start_event": {"text": "x"}}) == []
    assert document.errors(document.body("run_text"), {"start_event": {"number": 1}})
    assert document.errors(document.body("run_number"), {"start_event": {"number": 1}}) == []
    assert document.errors(document.body("run_number"), {"start_event": {"text": "x"}})
    handler = document.resolve(document.answer("get_handler", 200))
    assert "handler_id" in handler["properties"]
    own = document.resolve(document.answer("run_name", 200))
    value = document.resolve(own["properties"]["result"]["anyOf"][0])["properties"]["value"]
    assert set(document.resolve(value)["properties"]) == {"mine"}


def test_a_field_without_a_schema_may_be_anything(serve: Any) -> None:
    serve({"connect": "Connecting"})
    document = get()
    start = document.resolve(document.resolve(document.body("run_connect"))["properties"]["start_event"])
    assert start["properties"]["host"]["type"] == "string"
    assert "type" not in start["properties"]["connection"]


def test_an_event_without_a_schema_does_not_cost_the_others_theirs(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    serve({"describe": "Describing", "greet": "Greeting"})
    document = get()
    validate(document.data)
    assert document.errors(document.body("run_greet"), {"start_event": {}})
    assert document.errors(document.body("run_describe"), {"start_event": {"name": "x"}}) == []
    assert "Indescribable" in caplog.text


# --- whose it is -------------------------------------------------------------------------------------------


class SiteView(APIView):
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse()


class Root:
    urlpatterns = [path("", include("django_workflows.urls"))]


def test_servers_tell_the_prefix_and_the_script_name(serve: Any, settings: Any) -> None:
    serve()
    assert get().data["servers"] == [{"url": "/workflows"}]
    assert get(SCRIPT_NAME="/mounted").data["servers"] == [{"url": "/mounted/workflows"}]
    settings.ROOT_URLCONF = Root
    assert get("/openapi.json").data["servers"] == [{"url": "/"}]
    assert get("/openapi.json", SCRIPT_NAME="/mounted").data["servers"] == [{"url": "/mounted"}]


def test_the_paths_are_ours_alone_and_the_site_has_none_of_them(serve: Any) -> None:
    serve()
    assert not [name for name in get().data["paths"] if "site" in name]

    class Described(SiteView):
        schema = AutoSchema()

    site = [path("site", Described.as_view()), path("api/", include("django_workflows.urls"))]
    with patched_settings({"DISABLE_ERRORS_AND_WARNINGS": True}):
        assert list(SchemaGenerator(patterns=site).get_schema(public=True)["paths"]) == ["/site"]


def no_endpoints(endpoints: Any) -> list[Any]:
    return []


def no_result(result: Any, **more: Any) -> dict[str, Any]:
    return {}


def test_the_sites_drf_spectacular_settings_do_not_apply(serve: Any) -> None:
    serve({"greet": "Greeting"})
    expected = get().data
    openapi.document.cache_clear()
    its = {
        "SCHEMA_PATH_PREFIX_INSERT": "/elsewhere",
        "CAMELIZE_NAMES": True,
        "PREPROCESSING_HOOKS": [f"{__name__}.no_endpoints"],
        "POSTPROCESSING_HOOKS": [f"{__name__}.no_result"],
        "TITLE": "The site",
        "OAS_VERSION": "3.0.3",
    }
    with patched_settings(its):
        assert get().data == expected


def test_it_is_written_once_in_a_process(serve: Any, settings: Any) -> None:
    serve({"greet": "Greeting"})
    get()
    get()
    assert (openapi.document.cache_info().misses, openapi.document.cache_info().hits) == (1, 1)
    serve({"build": "Building"})
    assert "/workflows/build/run" in get().data["paths"]
    assert "/workflows/greet/run" not in get().data["paths"]


# --- who may see it ----------------------------------------------------------------------------------------


class Badge(BaseAuthentication):
    """The badge that the porter hands out."""

    def authenticate(self, request: Request) -> None:
        return None


class Bearer(BaseAuthentication):
    def authenticate(self, request: Request) -> None:
        return None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class Throttle(AnonRateThrottle):
    rate = "1000/s"


def test_it_is_served_to_whoever_may_see_the_rest(serve: Any) -> None:
    serve(
        AUTHENTICATION_CLASSES=["rest_framework.authentication.TokenAuthentication"],
        PERMISSION_CLASSES=["rest_framework.permissions.IsAuthenticated"],
    )
    response = Client().get("/workflows/openapi.json")
    assert response.status_code == 401
    assert json.loads(response.content) == {"detail": "Authentication credentials were not provided."}


def written() -> Document:
    return Document(json.loads(openapi.document(tuple(registry.all_served()))))


@pytest.mark.parametrize(
    ("classes", "schemes"),
    [
        (["rest_framework.authentication.SessionAuthentication"], {"cookieAuth"}),
        (
            ["rest_framework.authentication.BasicAuthentication", f"{__name__}.Bearer"],
            {"basicAuth", "Bearer"},
        ),
        ([f"{__name__}.Badge"], {"Badge"}),
    ],
)
def test_security_schemes_are_those_of_the_authentication_classes(
    serve: Any, classes: list[str], schemes: set[str]
) -> None:
    serve(
        AUTHENTICATION_CLASSES=classes,
        PERMISSION_CLASSES=["rest_framework.permissions.IsAuthenticated"],
    )
    document = written()
    validate({**document.data, "servers": [{"url": "/"}]})
    assert set(document.data["components"]["securitySchemes"]) == schemes
    for (template, _), operation in document.operations.items():
        if template == "/health":
            # Load balancers have no account.
            assert operation["security"] == [{}]
            assert not {"401", "403"} & set(operation["responses"])
        else:
            assert {name for one in operation["security"] for name in one} == schemes
            assert {} not in operation["security"]
            assert {"401", "403"} <= set(operation["responses"])


def test_an_open_site_says_that_it_is_open(serve: Any) -> None:
    serve(AUTHENTICATION_CLASSES=[], PERMISSION_CLASSES=["rest_framework.permissions.AllowAny"])
    document = get()
    assert "securitySchemes" not in document.data["components"]
    assert all(operation["security"] == [{}] for operation in document.operations.values())


def test_throttling_is_described_where_there_is_any(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve()
    assert "429" not in written().operation("get_handlers")[2]["responses"]
    openapi.document.cache_clear()
    monkeypatch.setattr(openapi.WorkflowsView, "throttle_classes", [Throttle])
    assert "429" in written().operation("get_handlers")[2]["responses"]


# --- whether it is true ------------------------------------------------------------------------------------


class Api:
    """A server, asked only for what its own document describes, and answered only as it says."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.document = Document(client.get("/openapi.json").raise_for_status().json())

    def call(self, operation_id: str, answer: int, *names: str, json: Any = None, **query: Any) -> Any:
        """Call an operation, check the answer against the document, and return it.

        Args:
            answer: the status that is expected.
            names: the path's parameters.
            json: the body; checked against the document unless 400 is expected.
            query: the other parameters.
        """
        template, method, operation = self.document.operation(operation_id)
        known = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
        assert set(query) <= known
        rest = iter(names)
        url = re.sub(r"\{\w+\}", lambda _: next(rest), template)
        if json is not None and answer != 400:
            assert self.document.errors(self.document.body(operation_id), json) == []
        response = self.client.request(method, url, json=json, params=query)
        assert response.status_code == answer, response.text
        described = operation["responses"][str(answer)]
        if "content" not in described:
            assert response.content == b""
            return None
        media_type = response.headers["content-type"].split(";")[0]
        assert media_type in described["content"]
        schema = described["content"][media_type]["schema"]
        content = response.json() if media_type == "application/json" else response.text
        assert self.document.errors(schema, content) == []
        return content


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """The site of the wire tests, as a process."""
    with (
        servers.Database() as database,
        servers.terminating(servers.runworkflows(database, site="tests.wire.site")) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield Api(client)


ORDER_START = {
    "lines": [{"title": "Tea", "colours": ["red"]}],
    "placed_at": "2024-05-01T12:00:00Z",
    "notes": {"a": [1, None]},
}


def test_the_documents_server_is_where_it_comes_from(api: Api) -> None:
    url = httpx.URL(str(api.client.base_url))
    assert url.join(api.document.data["servers"][0]["url"]).path == url.path.rstrip("/")
    validate(api.document.data)


def test_the_answers_about_the_server_and_its_workflows(api: Api) -> None:
    assert api.call("get_health", 200) == {"status": "healthy"}
    api.call("get_openapi", 200)
    names = api.call("list_workflows", 200)["workflows"]
    for name in names:
        for operation in ("get_workflow_schema", "get_workflow_events", "get_workflow_representation"):
            api.call(operation, 200, name)
        assert f"/workflows/{name}/run" in api.document.data["paths"]
    for name in names:
        api.call("get_accepted_events", 200, name)
        api.call("get_workflow_layout", 200, name)
    for operation in (
        "get_workflow_schema",
        "get_workflow_events",
        "get_workflow_representation",
        "get_accepted_events",
        "get_workflow_layout",
    ):
        api.call(operation, 404, "nothing")


def test_the_answers_of_a_workflows_own_operations(api: Api) -> None:
    done = api.call("run_greeting", 200, json={"start_event": {"name": "Zoë", "times": 2}})
    assert done["result"]["value"]["length"] == len("Hello, Zoë! Hello, Zoë!")
    done = api.call("run_order", 200, json={"start_event": ORDER_START})
    assert done["result"]["type"] == "OrderStop"
    api.call("run_order_nowait", 200, json={"start_event": ORDER_START, "handler_id": "own"})
    api.call("run_silent", 200, json={})
    api.call("run_failing", 500, json={"start_event": None})
    api.call("run_greeting", 400, json={"start_event": {}})


def test_the_answers_of_the_generic_operations(api: Api) -> None:
    for start in ({"name": "A"}, {"type": "GreetingStart", "value": {"name": "B"}}, '{"name": "C"}'):
        api.call("run_workflow", 200, "greeting", json={"start_event": start})
    api.call("run_workflow", 200, "greeting", json={"kwargs": {"name": "D"}})
    api.call("run_workflow", 400, "greeting", json={"start_event": 1})
    api.call("run_workflow", 400, "echo", json={"context": {"state": {}}})
    api.call("run_workflow", 404, "nothing", json={})
    api.call("run_workflow", 500, "failing", json={})
    api.call("run_workflow_nowait", 404, "nothing", json={})


def test_the_answers_in_a_handlers_life(api: Api) -> None:
    api.call("run_workflow_nowait", 200, "chat", json={"handler_id": "life"})
    api.call("run_workflow_nowait", 409, "chat", json={"handler_id": "life"})
    api.call("get_handler", 202, "life")
    api.call("get_result", 202, "life")
    assert api.call("get_handler_context", 200, "life")["handler"]["status"] == "running"
    assert api.call("get_handler_events", 200, "life", after=-1, limit=2)["run_id"]
    api.call("get_handler_events", 400, "life", after="soon")
    api.call("send_event", 200, "life", json={"event": {"type": "Tick", "value": {"text": "one"}}})
    api.call("send_event", 400, "life", json={"event": 1})
    api.call("send_event", 200, "life", json={"event": '{"type": "Enough", "value": {}}'})
    wait_for(lambda: api.client.get("/handlers/life").status_code == 200)
    api.call("get_handler", 200, "life")
    assert api.call("get_result", 200, "life")["result"] == "enough"
    api.call("send_event", 409, "life", json={"event": {"type": "Tick", "value": {"text": "late"}}})
    api.call("cancel_handler", 404, "life")
    api.call("cancel_handler", 200, "life", purge="true")
    gone = ("get_handler", "get_result", "cancel_handler", "stream_events")
    for operation in (*gone, "get_handler_context", "get_handler_events"):
        api.call(operation, 404, "life")
    api.call("send_event", 404, "life", json={"event": {"type": "Tick", "value": {"text": "late"}}})


def test_the_answers_about_runs_that_failed_or_were_cancelled(api: Api) -> None:
    api.call("run_workflow", 500, "failing", json={"handler_id": "failed"})
    api.call("get_handler", 500, "failed")
    assert api.call("get_handler_context", 200, "failed")["handler"]["error"]
    api.call("get_result", 500, "failed")
    api.call("run_workflow_nowait", 200, "sleeping", json={"handler_id": "cancelled"})
    assert api.call("cancel_handler", 200, "cancelled") == {"status": "cancelled"}
    api.call("get_handler", 500, "cancelled")


def test_the_answers_of_the_list(api: Api) -> None:
    for number in range(3):
        api.call("run_workflow", 200, "silent", json={"handler_id": f"listed-{number}"})
    page = api.call("get_handlers", 200, limit=2, status=["completed", "failed"], workflow_name="silent")
    assert len(page["handlers"]) == 2
    api.call("get_handlers", 200, cursor=page["next_cursor"])
    api.call("get_handlers", 400, limit=0)
    api.call("get_handlers", 400, cursor="x")


def test_the_answers_of_streams(api: Api) -> None:
    api.call("run_workflow", 200, "order", json={"start_event": ORDER_START, "handler_id": "streamed"})
    sse = api.call("stream_events", 200, "streamed", after_sequence=-1, include_internal="true")
    sent = [json.loads(line.removeprefix("data: ")) for line in sse.splitlines() if line.startswith("data: ")]
    lines = api.call("stream_events", 200, "streamed", after_sequence=-1, sse="false", acquire_timeout=1)
    assert sent[-1] == json.loads(lines.splitlines()[-1])
    envelope = api.document.operation("stream_events")[2]["x-stream-items"]
    assert envelope == {"$ref": "#/components/schemas/EventEnvelopeWithMetadata"}
    for event in sent:
        assert api.document.errors(envelope, event) == []
    assert api.document.errors(api.document.components["OrderStop"], sent[-1]["value"]) == []
    api.call("stream_events", 204, "streamed")
    api.call("stream_events", 400, "streamed", after_sequence="soon")


def test_a_body_that_is_too_large_is_answered_as_described(api: Api) -> None:
    api.call("run_workflow", 413, "echo", json={"kwargs": {"text": "x" * 9_000_000}})
