"""Fields of a body or query: declared once, read with all faults at once, described as JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from ...errors import CallerError
from ...micro_engine.wire.target import parse_query

T = TypeVar("T")
Schema = dict[str, Any]
Read = Callable[[Any], Any]
R = TypeVar("R", bound=Read)

# An unknown parameter within this many edits of a declared one is a slip, not one of a newer protocol.
SLIP_EDITS_MAX = 2
# Each unknown parameter is compared with all declared ones.
UNDECLARED_MAX = 16

_SCHEMAS: dict[Read, Schema] = {}
_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
}


class Wrong(ValueError):
    """A value that is refused. The message says what is allowed, without the field's name."""


@dataclass(frozen=True, eq=False)
class Field(Generic[T]):
    """A field that an endpoint takes: read by `Fields.take`, described in ``GET /openapi.json``.

    `read` turns the JSON value, or the text of a query, into the checked value, or raises `Wrong`.
    `description` is for callers; a field that is not `required` may be left out; `alias` is an older
    spelling of the name.
    """

    name: str
    read: Callable[[Any], T]
    description: str
    required: bool = False
    alias: str | None = None


class Fields:
    """The fields of one request. Read each with `take`, then let `finish` raise what was wrong.

    Unknown fields are ignored, so that newer nodes can speak to older servers; `ignored` names those of a
    query.
    """

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self._document = document
        self._where = where
        self._wrong: dict[str, str] = {}
        self.ignored: list[str] = []

    @classmethod
    def of_query(cls, text: str, declared: Iterable[Field[Any]]) -> Fields:
        """Return the parameters of the raw query `text`; the endpoint has `declared` those it knows.

        A slip for a declared parameter is wrong; any other unknown one is `ignored`. Raises `CallerError`
        400 ``bad_request`` for a query that cannot be read.
        """
        fields = cls(parse_query(text), "query")
        names = [name for field in declared for name in (field.name, field.alias) if name is not None]
        fields.ignored = [name for name in fields._document if name not in names]
        if len(fields.ignored) > UNDECLARED_MAX:
            raise CallerError(
                400,
                "bad_request",
                f"The query has {len(fields.ignored)} unknown parameters, {UNDECLARED_MAX} are allowed.",
                suggestion=f"Send only these: {', '.join(names)}." if names else "Send no query.",
            )
        for name in fields.ignored:
            meant = next((known for known in names if is_slip(name, known)), None)
            if meant is not None:
                fields.reject(name, f"is no parameter of this endpoint; did you mean {meant}?")
        return fields

    @classmethod
    def of_body(cls, document: Any) -> Fields:
        """Return the fields of a JSON body. Raises `CallerError` 400 ``bad_request`` if it is no object."""
        if not isinstance(document, dict):
            raise CallerError(
                400,
                "bad_request",
                f"The body is {_KINDS[type(document)]}, it has to be an object.",
                suggestion='Send a JSON object, such as {"node_id": "node-1"}.',
            )
        return cls(document, "body")

    def has(self, field: Field[Any]) -> bool:
        """Return whether the field was sent, under its name or its older spelling."""
        return field.name in self._document or (field.alias is not None and field.alias in self._document)

    @overload
    def take(self, field: Field[T]) -> T | None: ...

    @overload
    def take(self, field: Field[T], default: T) -> T: ...

    def take(self, field: Field[T], default: T | None = None) -> T | None:
        """Return the value of a field as read; `default` if it was not sent, or is wrong.

        A required field that was not sent is wrong.
        """
        name, alias = field.name, field.alias
        if name not in self._document:
            if alias is not None and alias in self._document:
                return self._read(alias, field.read, default)
            if field.required:
                self._wrong[name] = "is required"
            return default
        taken = self._read(name, field.read, default)
        if alias is None or alias not in self._document:
            return taken
        older = self._read(alias, field.read, default)
        # Compares the values read: those sent may be nested deeper than Python can compare.
        if older != taken and not self._wrong.keys() & {name, alias}:
            self._wrong[name] = f"differs from {alias}, its older spelling; send only {name}"
        return older

    def _read(self, name: str, read: Callable[[Any], T], default: T | None) -> T | None:
        try:
            return read(self._document[name])
        except Wrong as wrong:
            self._wrong[name] = str(wrong)
            return default

    def reject(self, name: str, wrong: str) -> None:
        """Note a fault of a field that only the whole request shows."""
        self._wrong.setdefault(name, wrong)

    def finish(self) -> None:
        """Raise `CallerError` 400 ``bad_request`` that names every wrong field, if there is one."""
        if not self._wrong:
            return
        names = ", ".join(self._wrong)
        count = "One field" if len(self._wrong) == 1 else f"{len(self._wrong)} fields"
        raise CallerError(
            400,
            "bad_request",
            f"{count} of the {self._where} cannot be taken: {names}.",
            suggestion="Fix the fields listed in `fields` and send the request again.",
            fields=self._wrong,
        )


def is_slip(name: str, known: str) -> bool:
    """Return whether at most two edits turn `name` into `known`.

    An edit inserts, deletes or replaces one character (Levenshtein distance).
    """
    if abs(len(name) - len(known)) > SLIP_EDITS_MAX:
        return False
    row = list(range(len(known) + 1))
    for number, letter in enumerate(name, 1):
        above, row = row, [number]
        for place, other in enumerate(known, 1):
            row.append(min(above[place] + 1, row[-1] + 1, above[place - 1] + (letter != other)))
    return row[-1] <= SLIP_EDITS_MAX


def takes(schema: Schema) -> Callable[[R], R]:
    """Register `schema` (JSON Schema, draft 2020-12) as exactly what the decorated reader takes.

    The schema's description says what JSON Schema cannot, such as a size in bytes. A schema with a `title`
    is described once for all its uses.
    """

    def note(read: R) -> R:
        _SCHEMAS[read] = schema
        return read

    return note


def schema_of(read: Read) -> Schema:
    """Return the schema of what `read` takes. Raises `KeyError` for a reader without one."""
    return _SCHEMAS[read]


def text_like(form: str, **more: Any) -> Schema:
    """Return the schema of text that matches `form` as a whole.

    ECMA-262, whose expressions JSON Schema uses, has to read `form` as Python does. Those match anywhere
    unless anchored.
    """
    return {"type": "string", "pattern": f"^(?:{form})$", **more}


def only(value: str | int) -> Schema:
    """Return the schema of one value alone.

    It is an enumeration of one with its type: generators of clients cannot narrow a type by ``const``.
    """
    kind = "boolean" if isinstance(value, bool) else "integer" if isinstance(value, int) else "string"
    return {"type": kind, "enum": [value]}


def or_null(schema: Schema) -> Schema:
    """Return the schema of a value of `schema`, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema and "title" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}
