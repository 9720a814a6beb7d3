"""What a reader of values takes, written beside it as JSON Schema, for the description of the API."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

Schema = dict[str, Any]
Read = Callable[[Any], Any]
R = TypeVar("R", bound=Read)

_SCHEMAS: dict[Read, Schema] = {}


def takes(schema: Schema) -> Callable[[R], R]:
    """Note that the decorated reader takes what `schema` (JSON Schema, draft 2020-12) allows, and that alone.

    What JSON Schema cannot say, such as a size in bytes, stands in the schema's description. A schema with a
    `title` is told once for all its uses, under that title.
    """

    def note(read: R) -> R:
        _SCHEMAS[read] = schema
        return read

    return note


def schema_of(read: Read) -> Schema:
    """The schema of what `read` takes. Raises `KeyError` for a reader without one."""
    return _SCHEMAS[read]


def text_like(form: re.Pattern[str], **more: Any) -> Schema:
    """The schema of text that matches `form` as a whole.

    JSON Schema's expressions are those of ECMA-262, which has to read `form` as Python does, and match
    anywhere where they are not anchored.
    """
    return {"type": "string", "pattern": f"^(?:{form.pattern})$", **more}


def only(value: str | int) -> Schema:
    """The schema of one value alone.

    It is an enumeration of one with its type: generators of clients cannot narrow a type by ``const``.
    """
    kind = "boolean" if isinstance(value, bool) else "integer" if isinstance(value, int) else "string"
    return {"type": kind, "enum": [value]}


def or_null(schema: Schema) -> Schema:
    """The schema of what may be null instead."""
    if isinstance(schema.get("type"), str) and "enum" not in schema and "title" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}
