"""Reading the fields of a body or query: all that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from ..errors import CallerError

T = TypeVar("T")


class Wrong(ValueError):
    """A value that cannot be taken. The message says what is allowed, without the field's name."""


class Fields:
    """The fields of one request. Read each with `take`, then let `finish` raise what was wrong.

    Fields that nobody reads are ignored, so that newer nodes can speak to older servers.
    """

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self._document = document
        self._where = where
        self._wrong: dict[str, str] = {}

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

    def has(self, name: str, alias: str | None = None) -> bool:
        """Whether the field was sent, under its name or its older spelling."""
        return name in self._document or (alias is not None and alias in self._document)

    @overload
    def take(self, name: str, read: Callable[[Any], T], *, alias: str | None = None) -> T | None: ...

    @overload
    def take(self, name: str, read: Callable[[Any], T], default: T, *, alias: str | None = None) -> T: ...

    def take(
        self, name: str, read: Callable[[Any], T], default: T | None = None, *, alias: str | None = None
    ) -> T | None:
        """The value of a field as `read` returns it; `default` where it was not sent, or is wrong.

        `read` raises `Wrong` for a value that is not allowed. `alias` is an older spelling of the name.
        """
        taken = self._read(name, read, default) if name in self._document else default
        if alias is None or alias not in self._document:
            return taken
        older = self._read(alias, read, default)
        # What was read is compared, not what was sent: that may be nested deeper than Python can compare.
        if name in self._document and older != taken and not self._wrong.keys() & {name, alias}:
            self._wrong[name] = f"differs from {alias}, its older spelling; send only {name}"
        return older

    def require(self, name: str, read: Callable[[Any], T], default: T, *, alias: str | None = None) -> T:
        """The value of a field that has to be there; `default` stands in for it where it is wrong."""
        if not self.has(name, alias):
            self._wrong[name] = "is required"
            return default
        return self.take(name, read, default, alias=alias)

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


def _json_kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "a string" if isinstance(value, str) else "a list"
