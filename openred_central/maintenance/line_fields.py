"""The fields of a line of JSON, taken one by one: each is what it has to be, and none is left over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ..directory.lifecycle import State

_WHOLE_MAX = 2**63 - 1

# 30,000 years in seconds: far more than any time of a directory, and no more than its arithmetic bears.
NUMBER_MAX = 1e12


class LineError(ValueError):
    """A line, or what is to become one, is not what this format knows. The message says what is wrong."""


def object_of(line: bytes) -> dict[str, Any]:
    """The fields of `line`. Raises `LineError` where it is no JSON object."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LineError(f"it is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise LineError("it is not a JSON object")
    return fields


class Fields:
    """The fields of an object, each to be taken once; `done` refuses those that are left."""

    def __init__(self, fields: dict[str, Any], where: str) -> None:
        self._fields = fields
        self._where = where

    def _take(self, name: str, allowed: str, is_allowed: Callable[[Any], bool]) -> Any:
        if name not in self._fields:
            raise LineError(f"{self._where}{name} is missing")
        value = self._fields.pop(name)
        if not is_allowed(value):
            shown = repr(value)
            raise LineError(f"{self._where}{name} is {shown[:80]}, allowed is {allowed}")
        return value

    def text(self, name: str) -> str:
        """Text without a zero character, which no store takes."""
        value: str = self._take(name, "text", lambda value: isinstance(value, str) and "\0" not in value)
        return value

    def name(self, name: str) -> str:
        """Text that can stand in a list of such with commas or semicolons between."""
        value = self.text(name)
        if not value or "," in value or ";" in value:
            raise LineError(f"{self._where}{name} is {value!r}, allowed is text without comma and semicolon")
        return value

    def number(self, name: str) -> float:
        """A number that a time in seconds, or a rate, can be."""

        def is_allowed(value: Any) -> bool:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and -NUMBER_MAX <= value <= NUMBER_MAX

        return float(self._take(name, f"a number up to {NUMBER_MAX:g}", is_allowed))

    def whole(self, name: str, maximum: int = _WHOLE_MAX) -> int:
        """A whole number from 0 to `maximum`."""
        allowed = f"a whole number from 0 to {maximum}"
        value: int = self._take(name, allowed, lambda value: type(value) is int and 0 <= value <= maximum)
        return value

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """True or false; `default`, where it is given, if the field is missing."""
        if default is not None and name not in self._fields:
            return default
        return self._take(name, "true or false", lambda value: isinstance(value, bool)) is True

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self._fields

    def choice(self, name: str, choices: Mapping[str, State]) -> State:
        """What `choices` has for the field's text."""
        allowed = f"one of {', '.join(choices)}"
        return choices[self._take(name, allowed, lambda value: isinstance(value, str) and value in choices)]

    def texts(self, name: str) -> list[str]:
        """A sorted list of different names, without commas."""

        def is_allowed(value: Any) -> bool:
            texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
            return (
                texts and value == sorted(set(value)) and not any(set(text) & {",", "\0"} for text in value)
            )

        value: list[str] = self._take(name, "a sorted list of different names", is_allowed)
        return value

    def objects(self, name: str) -> list[Fields]:
        """A list of objects, each with its own place in messages."""

        def is_allowed(value: Any) -> bool:
            return isinstance(value, list) and all(isinstance(one, dict) for one in value)

        taken = self._take(name, "a list of objects", is_allowed)
        return [Fields(one, f"{self._where}{name}[{index}].") for index, one in enumerate(taken)]

    def object(self, name: str) -> dict[str, Any]:
        """An object, as it is."""
        value: dict[str, Any] = self._take(name, "an object", lambda value: isinstance(value, dict))
        return value

    def inside(self, name: str) -> Fields:
        """An object, whose own fields are to be taken."""
        return Fields(self.object(name), f"{self._where}{name}.")

    def done(self) -> None:
        """Raise `LineError` where a field is left that nobody took."""
        if self._fields:
            raise LineError(f"{self._where}{next(iter(self._fields))} is not known")
