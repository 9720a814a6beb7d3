"""The description of the API: valid, complete, and true of every answer."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import openred_central.api
from openred_central.api.description import openapi
from openred_central.api.endpoint import Endpoint
from openred_central.api.problems import ALWAYS, PROBLEMS
from openred_central.api.routes import ENDPOINTS
from openred_central.api.wire.fields import Field, schema_of
from openred_central.storage.store import StoreState
from tests.support.cluster_figures import FOLLOWER, LEADER
from tests.support.described import DOCUMENT, faults, label
from tests.support.minting import Here
from tests.support.world import NODE, World, run

from ..caller.test_proving import NEW, OWNER, enrol, rotate
from ..test_granting import ALICE

OPERATION_ROWS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
FIELDS = [(endpoint, field) for endpoint in ENDPOINTS for field in (*endpoint.query, *endpoint.body)]

# Fields that refuse some values; others cannot be shown to be read.
CHOOSY = [(endpoint, field) for endpoint, field in FIELDS if schema_of(field.read) != {"type": "string"}]


def codes_of(operation: dict[str, Any]) -> set[str]:
    """Return the error codes in the description of an operation."""
    return {
        code
        for response in operation["responses"].values()
        for media, content in response.get("content", {}).items()
        if "problem" in media
        for code in content["schema"]["allOf"][1]["properties"]["error"]["enum"]
    }


def test_the_document_is_valid() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_exactly_the_endpoints_and_older_paths_are_described() -> None:
    served = {(path, one.method.lower()) for one in ENDPOINTS for path in (one.path, *one.aliases)}
    assert {(path, method) for path, method, _ in OPERATION_ROWS} == served


def test_older_paths_are_marked_and_names_are_unique() -> None:
    older = {path for one in ENDPOINTS for path in one.aliases}
    assert {path for path, _, operation in OPERATION_ROWS if operation.get("deprecated")} == older
    names = [operation["operationId"] for _, _, operation in OPERATION_ROWS]
    assert len(set(names)) == len(names)


def declared() -> Iterator[Field[Any]]:
    for module in pkgutil.iter_modules(openred_central.api.__path__):
        for value in vars(importlib.import_module(f"openred_central.api.{module.name}")).values():
            if isinstance(value, Field):
                yield value


def test_every_declared_field_is_described() -> None:
    described = {id(field) for _, field in FIELDS}
    assert {field.name for field in declared() if id(field) not in described} == set()


@pytest.mark.parametrize(("endpoint", "field"), CHOOSY, ids=lambda value: value.name)
def test_every_described_field_is_read(endpoint: Endpoint, field: Field[Any]) -> None:
    world = World(mint=Here())
    world.register()
    method, path = endpoint.method, endpoint.path.replace("{node_id}", str(NODE["node_id"]))
    for spelling in filter(None, (field.name, field.alias)):
        if field in endpoint.body:
            reply = world.call(method, path, {spelling: {"no": [{"such": [{"value": []}]}]}})
        else:
            reply = world.call(method, f"{path}?{spelling}=No+such+value!")
        assert reply.status == 400
        assert spelling in reply.document["fields"]


def test_every_field_is_described_as_it_is_read() -> None:
    for endpoint, field in FIELDS:
        operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
        told = {one["name"]: one["schema"] for one in operation["parameters"]}
        body = (
            operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        )
        shapes = body.get("anyOf", [body])
        told |= shapes[0].get("properties", {})
        schema = schema_of(field.read)
        for spelling in filter(None, (field.name, field.alias)):
            if "title" in schema:
                assert told[spelling]["$ref"] == f"#/components/schemas/{schema['title']}"
            else:
                assert told[spelling].get("type") == schema.get("type")
        if field.required and not field.alias:
            assert all(field.name in shape["required"] for shape in shapes)


def test_limited_endpoints_can_answer_rate_limited() -> None:
    for endpoint in ENDPOINTS:
        codes = codes_of(DOCUMENT["paths"][endpoint.path][endpoint.method.lower()])
        assert set(ALWAYS) <= codes <= PROBLEMS.keys()
        assert endpoint.limit is None or "rate_limited" in codes
        assert ("bad_json" in codes) == bool(endpoint.body)


def test_statuses_and_codes_belong_together() -> None:
    for path, method, operation in OPERATION_ROWS:
        for status, response in operation["responses"].items():
            for media, content in response.get("content", {}).items():
                if "problem" in media:
                    narrowed = content["schema"]["allOf"][1]["properties"]
                    assert narrowed["status"] == {"type": "integer", "enum": [int(status)]}, (path, method)
                    assert {PROBLEMS[code].status for code in narrowed["error"]["enum"]} == {int(status)}


def test_links_lead_to_operations() -> None:
    names = {operation["operationId"] for _, _, operation in OPERATION_ROWS}
    links = [
        link["operationId"]
        for _, _, operation in OPERATION_ROWS
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert links
    assert set(links) <= names


def test_two_schemas_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two schemas are called A"):
        openapi.hoisted([{"title": "A", "type": "string"}, {"title": "A", "type": "integer"}], {})


class Story:
    """Calls of a world, which compares each answer with the description; notes the statuses."""

    def __init__(self) -> None:
        self.world = World()
        self.seen: set[str] = set()

    def send(self, method: str, target: str, body: Any = None, **options: Any) -> Any:
        reply = self.world.call(method, target, body, **options)
        return self.note(method, target.partition("?")[0], reply)

    def note(self, method: str, path: str, reply: Any) -> Any:
        self.seen.add(f"{label(method, path)} {reply.status}")
        return reply.document


def successes() -> set[str]:
    """Return every described success with a JSON body, and being unready."""
    return {
        f"{method.upper()} {path} {status}"
        for path, method, operation in OPERATION_ROWS
        for status, response in operation["responses"].items()
        if "application/json" in response.get("content", {}) and not operation.get("deprecated")
    }


def nodes_come_and_go(story: Story) -> None:
    world = story.world
    claim = story.send("POST", "/register", NODE)["claim"]
    story.send("POST", "/register", {**NODE, "port": 9, "metadata": {"a": 1}}, claim=claim)
    story.send("POST", "/heartbeat/node-1")
    story.send("GET", "/discover")
    story.send("GET", "/nodes/node-1")
    story.send("POST", "/lookup", {"node_ids": ["node-1", "node-2"]})
    world.durable = False
    story.send("POST", "/register", {**NODE, "port": 10}, claim=claim)
    story.send("POST", "/heartbeat/node-1", {"port": 11}, claim=claim)
    story.send("DELETE", "/nodes/node-1?mode=leave", claim=claim)
    world.durable = True
    story.send("POST", "/register", {**NODE, "port": 11}, claim=claim)
    story.send("DELETE", "/nodes/node-1?mode=forget", claim=claim)


def keys_change(story: Story) -> None:
    world = story.world = World()
    enrol(world)
    for durable in (True, False):
        world.durable = durable
        old, new = (OWNER, NEW) if durable else (NEW, OWNER)
        story.note("POST", "/nodes/node-1/key", rotate(world, old, new))


def tokens_are_made_and_void(story: Story) -> None:
    world = story.world = World(mint=Here())
    for node_id in ("alice", "bob"):
        world.signed(
            ALICE, "POST", "/register", {**NODE, "node_id": node_id, "public_key": ALICE.public_text}
        )
    path = "/security/token"
    pair = world.signed(ALICE, "POST", path, {"node_id": "alice", "peer_id": "bob"})
    story.note("POST", path, pair)
    story.note("POST", path, world.signed(ALICE, "POST", path, {"node_id": "alice"}))
    story.note("POST", path, world.signed(ALICE, "POST", path, {"node_id": "alice", "purpose": "session"}))
    shown = {"token_a": pair.document["token"], "token_b": pair.document["peer_token"]}
    assert story.send("POST", "/security/verify", shown)["linked"]
    for durable in (True, False):
        world.durable = durable
        revoked = world.signed(ALICE, "POST", "/security/revoke", {"node_id": "alice", "all": True})
        story.note("POST", "/security/revoke", revoked)
    # The first signature of a node binds it to its key, and the store fails.
    world.register(node_id="carol", public_key=ALICE.public_text)
    story.note("POST", path, world.signed(ALICE, "POST", path, {"node_id": "carol"}))


def test_every_success_is_as_described() -> None:
    story = Story()
    nodes_come_and_go(story)
    keys_change(story)
    tokens_are_made_and_void(story)
    for path in ("/", "/stats", "/analytics", "/security/keys", "/openapi.json"):
        story.send("GET", path)
    for path in ("/health", "/health/live", "/health/ready"):
        story.send("GET", path)
    story.world.store_state = StoreState.DETACHED
    for path in ("/health", "/health/ready"):
        story.send("GET", path)
    story.send("GET", "/health/leader")
    for cluster in (FOLLOWER, LEADER):
        story.world.cluster = cluster
        for path in ("/stats", "/health/leader"):
            story.send("GET", path)
    assert successes() - story.seen == set()


def test_the_stream_of_events_is_described_as_one() -> None:
    world = World()
    response = run(world.start(world.request("GET", "/events")))
    assert faults("GET", "/events", response.status, response.content_type, b"retry: 1") == []


@pytest.mark.parametrize(
    ("status", "content_type", "body", "fault"),
    [
        (200, "application/json", b'{"status":"ok"}', None),
        (200, "application/json", b'{"status":"ok","more":1}', "more"),
        (200, "application/json", b'{"status":"well"}', "'well' is not one of ['ok']"),
        (200, "text/plain", b"ok", "text/plain is not described"),
        (201, "application/json", b"{}", "the status 201 is not described"),
        (400, "application/problem+json", b'{"status":400,"error":"bad_json"}', "bad_json"),
    ],
)
def test_an_answer_that_differs_from_its_description_is_found(
    status: int, content_type: str, body: bytes, fault: str | None
) -> None:
    found = faults("GET", "/health/live", status, content_type, body)
    assert (found == []) if fault is None else any(fault in one for one in found)
