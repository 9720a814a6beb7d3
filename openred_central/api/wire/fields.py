"""Reading the fields of a body or query: all that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from ...errors import CallerError
from ...micro_engine.wire.target import parse_query

T = TypeVar("T")

# A parameter that differs from a declared one by so many edits is a slip, not one of a newer protocol.
SLIP_EDITS_MAX = 2
# Each undeclared parameter is compared with all that are declared.
UNDECLARED_MAX = 16


class Wrong(ValueError):
    """A value that cannot be taken. The message says what is allowed, without the field's name."""


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """A field that an endpoint takes: declared once, read by `Fields.take`, told by ``GET /openapi.json``.

    `read` turns the JSON value, or in a query the text, into the checked one, or raises `Wrong`;
    `description` is for whoever sends it; a field that is not `required` may be left out; `alias` is an
    older spelling of the name.
    """

    name: str
    read: Callable[[Any], T]
    description: str
    required: bool = False
    alias: str | None = None


class Fields:
    """The fields of one request. Read each with `take`, then let `finish` raise what was wrong.

    Fields that nobody reads are ignored, so that newer nodes can speak to older servers; those of a query
    are named in `ignored`.
    """

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self._document = document
        self._where = where
        self._wrong: dict[str, str] = {}
        self.ignored: list[str] = []

    @classmethod
    def of_query(cls, text: str, declared: Iterable[Field[Any]]) -> Fields:
        """Return the parameters of the raw query `text`, of which an endpoint has `declared` some.

        One that is a slip for a declared one is wrong; any other that is not declared is `ignored`.
        Raises `CallerError` 400 ``bad_request`` for a query that cannot be read.
        """
        fields = cls(parse_query(text), "query")
        names = [name for field in declared for name in (field.name, field.alias) if name is not None]
        fields.ignored = [name for name in fields._document if name not in names]
        if len(fields.ignored) > UNDECLARED_MAX:
            raise CallerError(
                400,
                "bad_request",
                f"The query has {len(fields.ignored)} parameters that are not known here, "
                f"{UNDECLARED_MAX} are allowed.",
                suggestion=f"Send only these: {', '.join(names)}." if names else "Send no query.",
            )
        for name in fields.ignored:
            meant = next((known for known in names if is_slip(name, known)), None)
            if meant is not None:
                fields.reject(name, f"is no parameter of this endpoint; did you mean {meant}?")
        return fields

    @classmethod
    def of_body(cls, document: Any) -> Fields:
        """The fields of a JSON body. Raises `CallerError` 400 ``bad_request`` where it is not an object."""
        if not isinstance(document, dict):
            raise CallerError(
                400,
                "bad_request",
                f"The body is {_json_kind(document)}, it has to be an object.",
                suggestion='Send a JSON object, such as {"node_id": "node-1"}.',
            )
        return cls(document, "body")

    def has(self, field: Field[Any]) -> bool:
        """Whether the field was sent, under its name or its older spelling."""
        return field.name in self._document or (field.alias is not None and field.alias in self._document)

    @overload
    def take(self, field: Field[T]) -> T | None: ...

    @overload
    def take(self, field: Field[T], default: T) -> T: ...

    def take(self, field: Field[T], default: T | None = None) -> T | None:
        """The value of a field as it is read; `default` where it was not sent, or is wrong.

        A field that is required and was not sent is wrong.
        """
        name, alias = field.name, field.alias
        if field.required and not self.has(field):
            self._wrong[name] = "is required"
            return default
        taken = self._read(name, field.read, default) if name in self._document else default
        if alias is None or alias not in self._document:
            return taken
        older = self._read(alias, field.read, default)
        # What was read is compared, not what was sent: that may be nested deeper than Python can compare.
        if name in self._document and older != taken and not self._wrong.keys() & {name, alias}:
            self._wrong[name] = f"differs from {alias}, its older spelling; send only {name}"
        return older

    def _read(self, name: str, read: Callable[[Any], T], default: T | None) -> T | None:
        try:
            return read(self._document[name])
        except Wrong as wrong:
            self._wrong[name] = str(wrong)
            return default

    def reject(self, name: str, wrong: str) -> None:
        """Find fault with a field for a reason that only the whole request shows."""
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
            suggestion="Mend what `fields` tells, then send it again.",
            fields=self._wrong,
        )


def is_slip(name: str, known: str) -> bool:
    """Return whether `name` becomes `known` by at most two edits.

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


def _json_kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "a string" if isinstance(value, str) else "a list"
