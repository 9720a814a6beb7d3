"""Comparison of answers with the description of the API: its status, error, media type and body."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from openred_central.api.description.openapi import describe
from openred_central.micro_engine.wire.messages import PROBLEM_TYPE

DOCUMENT = describe("9.9.9")
COMPONENTS = "urn:components"


def operation(method: str, path: str) -> dict[str, Any] | None:
    """Return the description of `method` on `path`, such as ``/nodes/a``; None where nothing answers that."""
    template = _template(path)
    item: dict[str, Any] = DOCUMENT["paths"].get(template, {})
    return item.get("get" if method == "HEAD" else method.lower())


def label(method: str, path: str) -> str:
    """Return the operation as one text, such as ``GET /nodes/{node_id}``."""
    return f"{method} {_template(path)}"


def faults(method: str, path: str, status: int, content_type: str | None, body: bytes) -> list[str]:
    """Return the differences between an answer and its description. Members without a description count."""
    described = operation(method, path)
    if described is None:
        code = orjson.loads(body)["error"]
        return [] if code in DOCUMENT["x-problems-elsewhere"] else [f"{code} where nothing is"]
    response = described["responses"].get(str(status))
    if response is None:
        return [f"the status {status} is not described"]
    content = response.get("content", {})
    if not body and not content:
        return []
    if content_type not in content:
        return [f"{content_type} is not described for {status}"]
    if content_type not in ("application/json", PROBLEM_TYPE):
        return []
    validator = _validator(label(method, path), str(status), content_type)
    return [error.message for error in validator.iter_errors(orjson.loads(body))]


@cache
def _validator(name: str, status: str, content_type: str) -> Draft202012Validator:
    method, _, path = name.partition(" ")
    described = operation(method, path)
    assert described is not None
    schema = described["responses"][status]["content"][content_type]["schema"]
    return Draft202012Validator(_pointed(schema), registry=_registry())


@cache
def _registry() -> Registry[Any]:
    schemas = copy.deepcopy(DOCUMENT["components"]["schemas"])
    for schema in schemas.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    components = DRAFT202012.create_resource({"$defs": _pointed(schemas)})
    return Registry().with_resource(COMPONENTS, components)


def _pointed(value: Any) -> Any:
    """`value` with its references made to lead into the registry."""
    if isinstance(value, list):
        return [_pointed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: inner.replace("#/components/schemas/", f"{COMPONENTS}#/$defs/")
        if name == "$ref"
        else _pointed(inner)
        for name, inner in value.items()
    }


@cache
def _template(path: str) -> str:
    templates = DOCUMENT["paths"]
    matching = (each for each in templates if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", each), path))
    return path if path in templates else next(matching, path)
