"""The check of stored rows that decides which can be served: by whole columns, row by row if needed. Pure.

A row is set aside only if serving it would break something: an answer, a deadline, or its next commit. A row
that today's API would refuse as a registration is served.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, NamedTuple

import orjson

from ..encoding import ED25519_KEY_BYTES, spki_of
from ..limits.origins import PORT_MAX
from .lifecycle import LIVE_STATES, WIRE_NAMES
from .octaves import CODE_MAX
from .state.columns import RecordColumns
from .state.node import KEYED, decode_history

# Nine million years in seconds: later than any time of a directory, and still exact in its arithmetic.
TIME_S_MAX = float(1 << 48)
# A counter that continues from here still fits into 63 bits.
COUNTER_MAX = 1 << 62
# A sign of life is later than now by rounding at most.
ROUNDING_S = 1e-6
# Several times the limit of any text of a record.
TEXT_BYTES_MAX = 1 << 18
# An answer nests a profile in a few levels of its own, and its JSON may have 254 levels.
DEPTH_MAX = 200
SLOT_MAX = (1 << 32) - 1
# Free slots that are allowed below the last row, however small the directory is by its settings.
FREE_SLOTS_MIN = 1 << 20

_INTEGERS = ("slot", "state", "flags", "revision", "generation", "longest")
_FLOATS = (
    *("registered_at", "last_seen_at", "last_seen_s", "since_s", "usual_gap_s"),
    *("away_from_s", "away_until_s"),
)
_TEXTS = ("node_id", "services", "region", "profile", "history", "next_key")
_LIVE = bytes(LIVE_STATES)
# Bytes that an id may hold: answers contain ids without escapes.
_OF_IDS = bytes(byte for byte in range(0x20, 0x100) if byte not in b'"\\')
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# Characters of base64 that may precede one "=": their last two bits are unused.
_BEFORE_PADDING = _BASE64[::4]
_ED25519_CHARS = 4 * -(-ED25519_KEY_BYTES // 3)
# Bytes that may stand in a profile before its metadata if nothing is escaped, and between two profiles.
_OF_HEADS = _OF_IDS + b'"\n'
# For `bytes.translate`: not 0 for the flags of nodes whose key is one.
_KEYED = bytes(flags & KEYED for flags in range(0x100))
# All bytes but the separators of the entries of a history and of their fields.
_NO_SEPARATORS = bytes(byte for byte in range(0x100) if byte not in b",;")
_STATE_NAMES = {name.encode() for name in WIRE_NAMES}
_SHOWN_CHARS_MAX = 80
# Errors that a value which no directory wrote may cause in the check of a whole column.
_ODD = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


class Unserved(NamedTuple):
    """A row that is set aside: its slot, its id if that is readable, and the reason.

    With `is_ahead`, the row is later than the attended time of the directory.
    """

    slot: int
    node_id: str | None
    reason: str
    is_ahead: bool = False

    def __str__(self) -> str:
        named = "" if self.node_id is None else f", node {self.node_id!r}"
        return f"slot {self.slot}{named}: {self.reason}"


class Screen:
    """Filter that divides the rows of a store, by rising slots, into rows to serve and rows to set aside.

    `now_s` is the attended time of the directory. At most `free_slots_max` slots may be free below the last
    row, since each takes memory.
    """

    def __init__(self, now_s: float, free_slots_max: int) -> None:
        self._latest_s = now_s + ROUNDING_S
        self._free_slots_max = free_slots_max
        self._passed = 0
        self.unserved: list[Unserved] = []

    def sound_rows(self, columns: RecordColumns) -> RecordColumns | None:
        """Return the rows that can be served; None if there are none."""
        slots = columns.slot
        # Slots rise, and so does the number of gaps: the last row decides for all.
        if (
            slots[0] >= 0
            and slots[-1] <= SLOT_MAX
            and self._is_near(slots[-1], len(slots) - 1)
            and self._are_sound(columns)
        ):
            self._passed += len(slots)
            return columns
        rows = [row for row in zip(*columns, strict=True) if self._is_sound(row)]
        return RecordColumns._make(zip(*rows, strict=True)) if rows else None

    def _is_near(self, slot: int, before: int = 0) -> bool:
        return slot - before - self._passed <= self._free_slots_max

    def _are_sound(self, columns: RecordColumns) -> bool:
        try:
            return are_sound(columns, self._latest_s)
        except _ODD:
            return False

    def _is_sound(self, row: tuple[Any, ...]) -> bool:
        stored: Any = RecordColumns._make(row)
        reason = find_fault(stored)
        is_ahead = reason is None and max(stored.last_seen_s, stored.since_s) > self._latest_s
        if is_ahead:
            ahead_s = max(stored.last_seen_s, stored.since_s) - self._latest_s
            reason = f"it was seen, or entered its state, {ahead_s:.3f} s after the time of the directory"
        elif reason is None and not self._is_near(stored.slot):
            reason = (
                f"more than {self._free_slots_max} slots below it have no row; if it is right, raise "
                "OPENRED_MAX_NODES"
            )
        if reason is None:
            self._passed += 1
            return True
        self.unserved.append(Unserved(stored.slot, readable_id(stored.node_id), reason, is_ahead))
        return False


def readable_id(value: object) -> str | None:
    """Return the id of a node as text; None if it is not UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None


def are_sound(columns: RecordColumns, latest_s: float) -> bool:
    """Return whether all these rows can be served, by whole columns.

    False, or one of the errors in `_ODD`, means only that some row is odd, so each has to be checked.
    """
    # A value that is no integer of the right size raises here.
    if bytes(columns.state).translate(None, _LIVE) or not bytes(columns.flags):
        return False
    array("Q", columns.revision)
    for times in (columns.registered_at, columns.last_seen_at, columns.last_seen_s):
        if not _are_times(times):
            return False
    if not (_are_times(columns.since_s) and _are_times(columns.usual_gap_s)):
        return False
    rows = len(columns.slot)
    # Few rows have these values, so they are checked only if some row has one.
    for times in (columns.away_from_s, columns.away_until_s):
        if times.count(0.0) < rows and not _are_times(times):
            return False
    # A value that does not fit into a byte raises here.
    bytes(columns.longest)
    if columns.generation.count(0) < rows and max(array("Q", columns.generation)) > COUNTER_MAX:
        return False
    return (
        max(columns.last_seen_s) <= latest_s
        and max(columns.since_s) <= latest_s
        and _are_ids(columns.node_id)
        and not any(map(_services_fault, set(columns.services)))
        and not any(map(_text_fault, set(columns.region)))
        and (columns.next_key.count(b"") == rows or not any(map(_text_fault, columns.next_key)))
        and (columns.history.count(b"") == rows or _are_histories(columns.history))
        and _are_profiles(columns.profile, columns.flags)
    )


def find_fault(row: RecordColumns) -> str | None:
    """Return why a row, given by columns of one value each, cannot be served; None if it can."""
    values: Any = row
    for names, kind in ((_INTEGERS, int), (_FLOATS, float | int), (_TEXTS, bytes)):
        for name in names:
            if not isinstance(getattr(values, name), kind):
                return f"its {name} is {_shown(getattr(values, name))}, which is of another type"
    for name, least, most in _RANGES:
        value = getattr(values, name)
        if not least <= value <= most:
            return f"its {name} is {value!r}, which is not in {least:g} to {most:g}"
    for name in _TEXTS:
        fault = _FAULTS.get(name, _text_fault)(getattr(values, name))
        if fault is not None:
            return f"its {name} {fault}"
    if values.flags & KEYED:
        try:
            spki_of(orjson.loads(values.profile)[2])
        except ValueError:
            return "its public_key is marked as a key, but it is not the text of one"
    return None


def _are_times(times: Sequence[float]) -> bool:
    # None is below 0, so none exceeds the sum, which also shows infinity and NaN.
    return min(times) >= 0.0 and sum(times) <= TIME_S_MAX


def _are_ids(node_ids: Sequence[bytes]) -> bool:
    joined = b"".join(node_ids)
    if not joined.isascii():
        for node_id in node_ids:
            node_id.decode()
    return all(node_ids) and max(map(len, node_ids)) <= TEXT_BYTES_MAX and not joined.translate(None, _OF_IDS)


def _are_histories(histories: Sequence[bytes]) -> bool:
    joined = b";".join([history for history in histories if history != b""])
    separators = joined.translate(None, _NO_SEPARATORS)
    fields = joined.replace(b";", b",").split(b",")
    return (
        joined.isascii()
        and b"\0" not in joined
        and max(map(len, histories)) <= TEXT_BYTES_MAX
        and separators == (b",,,;" * (len(fields) // 4))[:-1]
        and math.isfinite(sum(map(float, fields[::4])))
        and _STATE_NAMES.issuperset(fields[1::4] + fields[2::4])
    )


def _are_profiles(profiles: Sequence[bytes], flags: Sequence[int]) -> bool:
    # Nearly all have the form ["<address>",<port>,"<key>",[],<metadata>], and few kinds of metadata exist.
    lines = b"\n".join(profiles).replace(b",[],", b"\n").split(b"\n")
    heads, tails = lines[::2], set(lines[1::2])
    if len(lines) != 2 * len(profiles) or len(tails) * 4 > len(heads) + 4 or max(map(len, tails)) > DEPTH_MAX:
        if any(map(_profile_fault, profiles)):
            return False
        keyed = compress(profiles, bytes(flags).translate(_KEYED))
        return _are_keys([orjson.loads(profile)[2].encode() for profile in keyed])
    joined = b"\n".join(heads)
    pieces = joined.split(b'"')
    return (
        max(map(len, heads)) <= TEXT_BYTES_MAX
        and joined.isascii()
        and not joined.translate(None, _OF_HEADS)
        and len(pieces) == 4 * len(heads) + 1
        and pieces[0] == b"["
        and set(pieces[4:-1:4]) <= {b"\n["}
        and not pieces[-1]
        and all(map(_is_port, set(pieces[2::4])))
        and not any(_profile_fault(b'["",0,"",[],%b' % tail) for tail in tails)
        and _are_keys(list(compress(pieces[3::4], bytes(flags).translate(_KEYED))))
    )


def _is_port(text: bytes) -> bool:
    """Return whether `text` is a port in JSON, between two commas."""
    digits = text[1:-1]
    if not (text[:1] == text[-1:] == b"," and digits.isdigit() and len(digits) <= 5):
        return False
    return int(digits) <= PORT_MAX and (digits[:1] != b"0" or digits == b"0")


def _are_keys(keys: list[bytes]) -> bool:
    """Return whether each of `keys` is the canonical text of a key."""
    if set(map(len, keys)) - {_ED25519_CHARS}:
        for key in keys:
            spki_of(key.decode())
        return True
    texts = b"".join(keys)
    return (
        texts[_ED25519_CHARS - 1 :: _ED25519_CHARS] == b"=" * len(keys)
        and not texts[_ED25519_CHARS - 2 :: _ED25519_CHARS].translate(None, _BEFORE_PADDING)
        and len(texts.translate(None, _BASE64)) == len(keys)
    )


def _text_fault(text: bytes) -> str | None:
    if len(text) > TEXT_BYTES_MAX:
        return f"has {len(text)} bytes, at most {TEXT_BYTES_MAX} can be served"
    if b"\0" in text:
        return "contains a NUL character, which no store takes"
    try:
        text.decode()
    except UnicodeDecodeError:
        return f"is {_shown(text)}, which is not UTF-8"
    return None


def _id_fault(text: bytes) -> str | None:
    if not text or text.translate(None, _OF_IDS):
        return f"is {_shown(text)}, which has a quote, a backslash or a control character, or is empty"
    return _text_fault(text)


def _services_fault(text: bytes) -> str | None:
    names = text.split(b",") if text else []
    if len(set(names)) < len(names) or b"" in names:
        return f"is {_shown(text)}, in which a name is empty or comes twice"
    return _text_fault(text)


def _history_fault(text: bytes) -> str | None:
    if not text:
        return None
    try:
        if all(math.isfinite(entry.at) for entry in decode_history(text.decode())):
            return _text_fault(text)
    except (ValueError, LookupError):
        pass
    return f"is {_shown(text)}, which is no list of transitions"


def _profile_fault(text: bytes) -> str | None:
    fault = _text_fault(text)
    if fault is not None:
        return fault
    try:
        parts = orjson.loads(text)
    except orjson.JSONDecodeError:
        parts = None
    if not (isinstance(parts, list) and _is_profile(parts)):
        return f"is {_shown(text)}, which is no profile"
    if text.count(b"[") + text.count(b"{") > DEPTH_MAX and is_deeper(parts, DEPTH_MAX):
        return f"is nested deeper than {DEPTH_MAX}"
    return None


def _is_profile(parts: list[Any]) -> bool:
    if list(map(type, parts)) != [str, int, str, list, dict]:
        return False
    more: list[Any] = parts[3]
    endpoints = [parts[:2], *more]
    return all(
        isinstance(one, list)
        and list(map(type, one)) == [str, int]
        and "\0" not in one[0]
        and 0 <= one[1] <= PORT_MAX
        for one in endpoints
    )


def is_deeper(value: list[Any] | dict[str, Any], depth_max: int) -> bool:
    """Return whether more than `depth_max` lists and objects are nested in each other, `value` included."""
    level = [value]
    for _ in range(depth_max):
        level = [
            child
            for one in level
            for child in (one.values() if isinstance(one, dict) else one)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARS_MAX else f"{shown[:_SHOWN_CHARS_MAX]}…"


_FAULTS: dict[str, Callable[[bytes], str | None]] = {
    "node_id": _id_fault,
    "services": _services_fault,
    "profile": _profile_fault,
    "history": _history_fault,
}
# Wall times may lie before 1970 if a clock was wrong. Attended time begins with 0.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("slot", 0, SLOT_MAX),
    ("state", min(LIVE_STATES), max(LIVE_STATES)),
    ("flags", 0, 255),
    ("revision", 0, (1 << 63) - 1),
    ("generation", 0, COUNTER_MAX),
    ("longest", 0, CODE_MAX),
    ("registered_at", -TIME_S_MAX, TIME_S_MAX),
    ("last_seen_at", -TIME_S_MAX, TIME_S_MAX),
    ("last_seen_s", 0.0, TIME_S_MAX),
    ("since_s", 0.0, TIME_S_MAX),
    ("usual_gap_s", 0.0, TIME_S_MAX),
    ("away_from_s", -TIME_S_MAX, TIME_S_MAX),
    ("away_until_s", -TIME_S_MAX, TIME_S_MAX),
)
