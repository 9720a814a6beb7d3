"""The description of the API as an OpenAPI document (3.1), generated from `routes.ENDPOINTS`.

Each endpoint declares its path, fields, replies and problems; fields have schemas; `problems.PROBLEMS` are
the errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import orjson

from ...micro_engine.wire.messages import HTML_TYPE, JSON_TYPE, PROBLEM_TYPE
from ..endpoint import CLAIM, SESSION, SIGNATURE, Endpoint
from ..problems import ALWAYS, ELSEWHERE, PROBLEM, PROBLEMS, WITH_A_BODY
from ..registering import NODE_ID
from ..routes import ENDPOINTS
from ..service import Documents
from ..wire.caching import StaticDocument
from ..wire.fields import Field, Schema, only, schema_of
from . import reference_page
from .curl_lines import curl_line

VERSION = "3.1.0"
DESCRIPTION = """\
Nodes register, give signs of life, and find each other by the services they offer.

HTTP/1.1 and JSON in UTF-8. Times are RFC 3339 in UTC, durations are seconds. Unknown fields are ignored. \
`HEAD` works wherever `GET` does, and `OPTIONS` everywhere. Every error is a problem document (RFC 9457) \
with a stable code. In an open directory, a node that never signed needs no proof. Once a node has signed, \
and in a strict directory always, only its signature proves a request."""
TAGS = {
    "Nodes": "Register, give signs of life, and find others.",
    "Security": "Keys and tokens, by which nodes identify each other.",
    "Server": "The server itself.",
}
# The page runs nothing, loads nothing, and cannot be framed.
PAGE_POLICY = "; ".join(
    (
        *("default-src 'none'", "style-src 'unsafe-inline'", "base-uri 'none'"),
        *("form-action 'none'", "frame-ancestors 'none'"),
    )
)
PAGE_HEADERS = (("Content-Security-Policy", PAGE_POLICY), ("Referrer-Policy", "no-referrer"))
SECURITY_SCHEMES = {
    SIGNATURE: {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": "An HTTP message signature (RFC 9421) by the node's key, with `Signature-Input` and, "
        "with a body, `Content-Digest` (RFC 9530). The field `Accept-Signature` of a 401 says what to sign; "
        "`openred-central example sign` shows how.",
    },
    SESSION: {
        "type": "http",
        "scheme": "OpenRed",
        "description": "`Authorization: OpenRed <session>`, from the answer to a signed request. It is "
        "accepted for heartbeats without a body and for tokens.",
    },
    CLAIM: {
        "type": "http",
        "scheme": "Claim",
        "description": "`Authorization: Claim <secret>`, from the answer to the registration. It is accepted "
        "until the node signs for the first time.",
    },
}
HEADERS: dict[str, Schema] = {
    "ETag": {"type": "string"},
    "Cache-Control": {"type": "string"},
    "Vary": {"type": "string"},
    "Preference-Applied": {"type": "string", "examples": ["wait=60"]},
    "RateLimit-Policy": {"type": "string", "examples": ['"register";q=10;w=60']},
    "RateLimit": {"type": "string", "examples": ['"register";r=9;t=6']},
    "Retry-After": {"type": "integer", "minimum": 1, "description": "When to try again, in seconds."},
    "WWW-Authenticate": {"type": "string"},
    "Accept-Signature": {"type": "string", "description": "What to sign."},
}
# Further header fields of error replies, by status.
PROBLEM_HEADERS = {
    401: ("WWW-Authenticate", "Accept-Signature"),
    429: ("Retry-After", "RateLimit-Policy", "RateLimit"),
    503: ("Retry-After",),
}


def documents(version: str) -> Documents:
    """Make the documents that a server of this `version` serves."""
    document = describe(version)
    return Documents(
        openapi=StaticDocument.of(orjson.dumps(document), JSON_TYPE),
        reference=StaticDocument.of(reference_page.render(document).encode(), HTML_TYPE, PAGE_HEADERS),
    )


def describe(version: str) -> dict[str, Any]:
    """Return the OpenAPI document of a server of this `version`."""
    named: dict[str, Schema] = {}
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        method = endpoint.method.lower()
        paths.setdefault(endpoint.path, {})[method] = _operation(endpoint)
        for number, path in enumerate(endpoint.aliases, 1):
            older = _operation(endpoint)
            older["operationId"] = f"{endpoint.name}Older{number}"
            older["summary"] += " (older path)"
            paths.setdefault(path, {})[method] = older | {"deprecated": True}
    return {
        "openapi": VERSION,
        "info": {
            "title": "OpenRed Central",
            "version": version,
            "summary": "A directory server for decentralised networks.",
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": hoisted(paths, named),
        "components": {
            "schemas": {name: named[name] for name in sorted(named)},
            "headers": {name: {"schema": schema} for name, schema in HEADERS.items()},
            "securitySchemes": SECURITY_SCHEMES,
        },
        "x-problems": {code: problem._asdict() for code, problem in PROBLEMS.items()},
        "x-problems-elsewhere": list(ELSEWHERE),
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    document: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.description,
        "parameters": list(_parameters(endpoint)),
        "responses": _responses(endpoint),
        # As tools that show OpenAPI documents read it.
        "x-codeSamples": [{"lang": "Shell", "label": "curl", "source": curl_line(endpoint)}],
    }
    if endpoint.body:
        content = {JSON_TYPE: {"schema": _body(endpoint)}}
        document["requestBody"] = {"content": content, "required": endpoint.body_required}
    if endpoint.proofs:
        document["security"] = [{} if name is None else {name: []} for name in endpoint.proofs]
    return document


def _parameters(endpoint: Endpoint) -> Iterable[dict[str, Any]]:
    if "{node_id}" in endpoint.path:
        yield {
            "name": NODE_ID.name,
            "in": "path",
            "required": True,
            "description": NODE_ID.description,
            "schema": schema_of(NODE_ID.read),
        }
    for field in endpoint.query:
        for name, older in _spellings(field):
            yield {
                "name": name,
                "in": "query",
                "required": field.required,
                "description": field.description,
                "schema": schema_of(field.read),
                **older,
            }
    headers = dict(endpoint.headers)
    if endpoint.caches:
        headers["If-None-Match"] = "The `ETag` of what the caller has."
    for name, description in headers.items():
        yield {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _spellings(field: Field[Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    yield field.name, {}
    if field.alias is not None:
        yield field.alias, {"deprecated": True, "description": f"The older spelling of `{field.name}`."}


def _body(endpoint: Endpoint) -> Schema:
    """Return the schema of a body.

    Each of several alternative sets of fields is an object of its own: generators of clients make types of
    objects, and ignore rules that only name members.
    """
    properties: dict[str, Schema] = {}
    choices: list[list[Schema]] = [endpoint.rules["anyOf"]] if endpoint.rules else []
    for field in endpoint.body:
        for name, older in _spellings(field):
            properties[name] = {"description": field.description, **older, "allOf": [schema_of(field.read)]}
        # Both spellings may be sent with the same value, which a schema cannot say.
        if field.alias is not None and field.required:
            choices.append([{"required": [field.name]}, {"required": [field.alias]}])
    required = [field.name for field in endpoint.body if field.required and field.alias is None]
    shapes = [_shape(properties, required, chosen) for chosen in product(*choices)]
    return shapes[0] if len(shapes) == 1 else {"anyOf": shapes}


def _shape(properties: dict[str, Schema], required: list[str], chosen: Sequence[Schema]) -> Schema:
    """Return the schema of an object with `properties`, in which `chosen` narrow and require some."""
    needed = required + [name for one in chosen for name in one["required"]]
    narrowed = {name: schema for one in chosen for name, schema in one.get("properties", {}).items()}
    shape: Schema = {"type": "object", "properties": properties | narrowed}
    return {**shape, "required": needed} if needed else shape


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    codes = {*ALWAYS, *endpoint.problems}
    if endpoint.body:
        codes.update(WITH_A_BODY)
    if "{" in endpoint.path:
        codes.add("not_found")
    if endpoint.limit is not None:
        codes.add("rate_limited")
    by_status: dict[int, list[str]] = {}
    for code, problem in PROBLEMS.items():
        if code in codes:
            by_status.setdefault(problem.status, []).append(code)
    responses: dict[str, Any] = {}
    for status in sorted(by_status.keys() | endpoint.replies.keys()):
        responses[str(status)] = _response(status, endpoint, by_status.get(status, []))
    return responses


def _response(status: int, endpoint: Endpoint, codes: list[str]) -> dict[str, Any]:
    reply = endpoint.replies.get(status)
    content: dict[str, Any] = {}
    texts, headers = list[str](), list[str]()
    if reply is not None:
        texts.append(reply.description)
        headers += reply.headers
        if reply.schema is not None:
            content[reply.content_type] = {"schema": reply.schema}
        if reply.also_as is not None:
            content[reply.also_as] = {"schema": {"type": "string"}}
    if codes:
        texts += [f"`{code}`: {PROBLEMS[code].when}." for code in codes]
        headers += PROBLEM_HEADERS.get(status, ())
        narrowed = {"properties": {"status": only(status), "error": {"type": "string", "enum": codes}}}
        content[PROBLEM_TYPE] = {"schema": {"allOf": [PROBLEM, narrowed]}}
    response: dict[str, Any] = {"description": "\n\n".join(texts)}
    if headers:
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    if content:
        response["content"] = content
    if reply is not None and status in (200, 201) and endpoint.leads_to:
        response["links"] = {
            name: {"operationId": name, "parameters": {"node_id": "$response.body#/node_id"}}
            for name in endpoint.leads_to
        }
    return response


def hoisted(value: Any, named: dict[str, Schema]) -> Any:
    """Return `value` with each titled schema moved to `named`, and a reference in its place."""
    if isinstance(value, list):
        return [hoisted(item, named) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: hoisted(item, named) for name, item in value.items()}
    title = inner.get("title")
    if not isinstance(title, str):
        return _plain(inner)
    if named.setdefault(title, inner) != inner:
        raise ValueError(f"two schemas are called {title}")
    return {"$ref": f"#/components/schemas/{title}"}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema`; if it only adds a description to another schema, merge the two."""
    match schema:
        case {"allOf": [{"$ref": reference}], "description": description}:
            rest = {name: value for name, value in schema.items() if name not in ("allOf", "description")}
            return {"$ref": reference, "description": description, **rest}
        case {"allOf": [dict(only)], "description": description}:
            rest = {name: value for name, value in schema.items() if name not in ("allOf", "description")}
            further = only.get("description")
            return {**only, **rest, "description": f"{description} {further}" if further else description}
    return schema
