"""The kinds of settings: how the values of each are written, parsed, bounded and shown.

Each public function from `whole` on makes a row for `table`: a field of a dataclass, with its kind and its
meaning as metadata.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import field
from typing import Any, Final, NamedTuple

from ..limits.origins import PORT_MAX

ANYTHING: Final = re.compile(r".*")
DAY_S = 86_400.0
UNITS_S = {"d": DAY_S, "h": 3_600.0, "m": 60.0, "s": 1.0}

# Plain ASCII digits only: int() and float() take signs, underscores, spaces, "nan" and other scripts.
_WHOLE = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DURATION = re.compile(rf"({_NUMBER.pattern})([smhd]?)")


class Kind(NamedTuple):
    """How the values of a setting are written.

    `parse` turns text into a value, or raises `ValueError`; `show` does the reverse. `allowed` describes the
    values, and `form` how to write them if that is not obvious.
    """

    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    allowed: str
    form: str = ""


def show_duration(seconds: float) -> str:
    """Return a duration in the largest unit that fits: 86400 is ``1d``, 5400 is ``90m``, 0.5 is ``0.5s``."""
    unit = next((unit for unit, unit_s in UNITS_S.items() if seconds and seconds % unit_s == 0), "s")
    return f"{seconds / UNITS_S[unit]:.15g}{unit}"


def parse_duration(written: str) -> float:
    """Return the seconds in ``90``, ``0.5``, ``90s``, ``15m``, ``48h`` or ``180d``. Raises `ValueError`."""
    match = _DURATION.fullmatch(written)
    if match is None:
        raise ValueError(written)
    return float(match[1]) * UNITS_S[match[2] or "s"]


def _parse_whole(written: str) -> int:
    if not _WHOLE.fullmatch(written):
        raise ValueError(written)
    return int(written)


def _parse_number(written: str) -> float:
    if not _NUMBER.fullmatch(written):
        raise ValueError(written)
    return float(written)


def _bounded(parse: Callable[[str], float], minimum: float, maximum: float) -> Callable[[str], float]:
    def parse_bounded(written: str) -> float:
        value = parse(written)
        if not minimum <= value <= maximum:
            raise ValueError(written)
        return value

    return parse_bounded


def _row(default: Any, kind: Kind, meaning: str) -> Any:
    return field(default=default, metadata={"kind": kind, "meaning": meaning})


def whole(default: int, minimum: int, maximum: int, meaning: str) -> Any:
    """Return a row of whole numbers."""
    kind = Kind(_bounded(_parse_whole, minimum, maximum), str, f"{minimum} to {maximum}", "a whole number")
    return _row(default, kind, meaning)


def port_or_off(default: int, meaning: str) -> Any:
    """Return a row of ports, 0 for any free one; the word off is None."""

    def parse(written: str) -> int | None:
        if written == "off":
            return None
        port = _parse_whole(written)
        if port > PORT_MAX:
            raise ValueError(written)
        return port

    def show(value: int | None) -> str:
        return "off" if value is None else str(value)

    return _row(default, Kind(parse, show, f"0 to {PORT_MAX}, or off"), meaning)


def number(default: float, minimum: float, maximum: float, meaning: str) -> Any:
    """Return a row of numbers with or without a fraction."""
    allowed = f"{minimum:g} to {maximum:g}"
    return _row(default, Kind(_bounded(_parse_number, minimum, maximum), "{:g}".format, allowed), meaning)


def duration(default_s: float, minimum_s: float, maximum_s: float, meaning: str) -> Any:
    """Return a row of durations: seconds, or a number with a unit."""
    kind = Kind(
        _bounded(parse_duration, minimum_s, maximum_s),
        show_duration,
        f"{show_duration(minimum_s)} to {show_duration(maximum_s)}",
        "seconds, or a number followed by s, m, h or d",
    )
    return _row(default_s, kind, meaning)


def choice(default: str, choices: tuple[str, ...], meaning: str) -> Any:
    """Return a row whose values are `choices`."""

    def parse(written: str) -> str:
        if written not in choices:
            raise ValueError(written)
        return written

    return _row(default, Kind(parse, str, ", ".join(choices[:-1]) + " or " + choices[-1]), meaning)


def switch(default: bool, meaning: str) -> Any:
    """Return a row that is true or false."""

    def parse(written: str) -> bool:
        if written not in ("true", "false"):
            raise ValueError(written)
        return written == "true"

    return _row(default, Kind(parse, lambda value: str(value).lower(), "true or false"), meaning)


def text(default: str, allowed: str, meaning: str, pattern: re.Pattern[str] = ANYTHING) -> Any:
    """Return a row of text that fits `pattern`; it may be empty only if `default` is."""

    def parse(written: str) -> str:
        if not (pattern.fullmatch(written) if written else not default):
            raise ValueError(written)
        return written

    return _row(default, Kind(parse, str, allowed), meaning)


def path(default: str, meaning: str, *, word: str = "nothing") -> Any:
    """Return a row of paths, or `word`; it may be empty only if `default` is.

    A leading ``~`` is the home folder of the user of this process, ``~name`` that of another user. Shells do
    not expand it in variables, nor in flags such as ``--database=~/x``.
    """

    def parse(written: str) -> str:
        if default and not written:
            raise ValueError(written)
        found = os.path.expanduser(written)
        # Without such a home, the server would make a folder with this name.
        if found.startswith("~"):
            raise ValueError(written)
        return found

    return _row(default, Kind(parse, str, f"a path, or {word}"), meaning)


class Rate(NamedTuple):
    """At most `limit` in `window_s` seconds."""

    limit: int
    window_s: int


RATE_LIMIT_MAX = 1_000_000


def rate(limit: int, window_s: int, meaning: str) -> Any:
    """Return a row of rates; the word off is None."""

    def parse(written: str) -> Rate | None:
        if written == "off":
            return None
        count, _, window = written.partition("/")
        limit, window_s = _parse_whole(count), parse_duration(window)
        # The headers that report the window have whole seconds.
        if not 1 <= limit <= RATE_LIMIT_MAX or not 1 <= window_s <= DAY_S or window_s % 1:
            raise ValueError(written)
        return Rate(limit, int(window_s))

    def show(value: Rate | None) -> str:
        return f"{value.limit}/{value.window_s}s" if value else "off"

    allowed = f"off, or 1 to {RATE_LIMIT_MAX} in 1s to {show_duration(DAY_S)}"
    return _row(
        Rate(limit, window_s), Kind(parse, show, allowed, "such as 10/60s, in whole seconds"), meaning
    )


def texts(meaning: str, allowed: str, check: Callable[[str], object]) -> Any:
    """Return a row of texts, none by default; `check` raises `ValueError` for a wrong one."""

    def parse(written: str) -> tuple[str, ...]:
        parts = tuple(part.strip() for part in written.split(",")) if written else ()
        for part in parts:
            check(part)
        return parts

    return _row((), Kind(parse, ",".join, f"{allowed}, or nothing", "separated by commas"), meaning)


def networks(meaning: str, *, words: tuple[str, ...] = ()) -> Any:
    """Return a row of networks in CIDR notation, or `words`; none by default."""

    def parse_one(written: str) -> str:
        return written if written in words else str(ipaddress.ip_network(written))

    def parse(written: str) -> tuple[str, ...]:
        parts = written.split(",") if written else ()
        return tuple(parse_one(part.strip()) for part in parts)

    form = "such as 10.0.0.0/8,::1/128, without bits after the prefix"
    allowed = ", ".join(["networks", *words, "or nothing"])
    return _row((), Kind(parse, ",".join, allowed, form), meaning)
