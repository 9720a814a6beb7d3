"""The habits of nodes, as far as they are remembered, by columns. Pure.

All of it is an estimate: nothing here moves a node to another state, and a loss costs nothing but some days
of learning. Numbers are bytes; a fraction is rounded up with its probability, by a hash instead of a random
number, so that a seed repeats and no value sticks.
"""

from __future__ import annotations

import struct
from array import array
from binascii import crc32
from functools import cache
from math import inf
from typing import Final, NamedTuple

from ..octaves import code_of

# Slots whose habits are stored together.
CHUNK_SLOTS: Final = 128
# Values of a byte, and of half a byte.
FULL: Final = 255
NIBBLE_FULL: Final = 15
HOURS: Final = 24
PROFILE_BYTES: Final = HOURS // 2
# A node counts as one that follows the advice from here on.
OBEYS_MIN: Final = 77
# From so many days on a node is known: what is expected of it rests on its own history.
DAYS_KNOWN: Final = 14
# How a habit begins: all that is known is how nodes are in general.
ON_TIME_FIRST: Final = 100
OBEYS_FIRST: Final = 128
PROFILE_FIRST: Final = bytes([0x55]) * PROFILE_BYTES
# Bits of `bits`: the node is late since a former visit; its return of this day is counted. From bit 4 on they
# are the code of the pace that it needs.
LATE: Final = 1
RETURNED: Final = 2
NEED_SHIFT: Final = 4
PACE_CODES: Final = 8
SLOWEST: Final = PACE_CODES - 1
# Values of `changes`.
UNCHANGED: Final = 0
CHANGED: Final = 1
URGENT: Final = 2
# Weights of one observation.
ON_TIME_WEIGHT: Final = 1 / 20
OBEYS_WEIGHT: Final = 1 / 8
IGNORED_WEIGHT: Final = 0.03
USUAL_WEIGHT: Final = 0.2
PROFILE_WEIGHT: Final = 0.12
# After so many days without a sign of life nothing is left of a profile.
DAYS_FADED: Final = 24
# Steps of the noise that rounds all hours of a profile at once.
LEVEL_BITS: Final = 5
LEVELS: Final = 1 << LEVEL_BITS
_WORD: Final = 0xFFFF_FFFF
_HEADER: Final = struct.Struct("<4sId")
_FORMAT: Final = b"H\1\0\0"


class Habit(NamedTuple):
    """The habit of one node as plain values.

    `seen_s` and `due_s` are attended seconds; `on_time` and `obeys` are shares; `absences` and `days` stop at
    255; `usual` is the code of the usual absence (`octaves`), `profile` the chance of each UTC hour.
    """

    seen_s: int
    due_s: int
    on_time: float
    obeys: float
    absences: int
    usual: int
    days: int
    profile: tuple[float, ...]

    @property
    def follows(self) -> bool:
        """Return whether the node follows the advice."""
        return self.obeys >= OBEYS_MIN / FULL


class Habits:
    """Habits by slot. A slot whose `seen_s` is 0 has none yet.

    `seen_s` is the last sign of life that was taken in, in whole attended seconds, and `due_s` when the next
    one was due then. `tags` tell whose habit it is. `paces` are the codes of the paces that nodes are told
    now. `odds` are sixteenths of the logit of the chance that the node is up, or comes back, see `Forecast`.
    """

    def __init__(self) -> None:
        self.seen_s, self.due_s, self.tags = array("I"), array("I"), array("H")
        self.on_time, self.obeys, self.absences = bytearray(), bytearray(), bytearray()
        self.usual, self.days, self.bits = bytearray(), bytearray(), bytearray()
        self.paces, self.profile = bytearray(), bytearray()
        self.odds = array("b")
        # By chunk: whether it changed since it was stored, and whether that is to be stored soon.
        self.changes = bytearray()
        # By chunk: 1 where anything changed since the last frame for other processes (`Leading`).
        self.touched = bytearray()
        # The code that new nodes are told.
        self.pace_first = 0
        self._stored = (
            *(self.seen_s, self.due_s, self.tags, self.on_time, self.obeys, self.absences),
            *(self.usual, self.days, self.bits, self.paces),
        )

    @property
    def chunks(self) -> int:
        """Number of chunks, each of `CHUNK_SLOTS` slots."""
        return len(self.paces) // CHUNK_SLOTS

    def make_room(self, slots: int) -> None:
        """Make room for so many slots, up to the end of a chunk."""
        more = -(-slots // CHUNK_SLOTS) * CHUNK_SLOTS - len(self.paces)
        if more > 0:
            for column in (*self._stored, self.odds):
                if isinstance(column, array):
                    column.frombytes(bytes(more * column.itemsize))
                else:
                    column.extend(bytes(more))
            self.profile.extend(bytes(more * PROFILE_BYTES))
            self.changes.extend(bytes(more // CHUNK_SLOTS))
            self.touched.extend(bytes(more // CHUNK_SLOTS))

    def change(self, slot: int) -> None:
        """Note that the habit in `slot` changed."""
        self.changes[slot // CHUNK_SLOTS] = self.changes[slot // CHUNK_SLOTS] or CHANGED

    def begin(self, slot: int, node_id: str, seen_s: int) -> None:
        """Begin the habit of a node that was seen at `seen_s`; `due_s` is to follow."""
        self.seen_s[slot] = seen_s
        self.tags[slot] = tag_of(node_id)
        self.changes[slot // CHUNK_SLOTS] = CHANGED
        self.on_time[slot], self.obeys[slot] = ON_TIME_FIRST, OBEYS_FIRST
        self.absences[slot] = self.usual[slot] = self.bits[slot] = 0
        self.days[slot] = 1
        self.profile[_profile(slot)] = PROFILE_FIRST

    def forget(self, slot: int) -> None:
        """Leave nothing of the node that was in `slot`."""
        if self.seen_s[slot]:
            self.changes[slot // CHUNK_SLOTS] = URGENT
        self.touched[slot // CHUNK_SLOTS] = 1
        for column in (*self._stored, self.odds):
            column[slot] = 0
        self.paces[slot] = self.pace_first
        self.profile[_profile(slot)] = bytes(PROFILE_BYTES)

    def follows(self, slot: int) -> bool:
        """Return whether the node in `slot` follows the advice."""
        return self.obeys[slot] >= OBEYS_MIN

    def met(self, slot: int, noise: Noise) -> None:
        """Count a due that was met as it was told."""
        self.on_time[slot] = noise.moved(self.on_time[slot], FULL, ON_TIME_WEIGHT)

    def missed(self, slot: int, noise: Noise) -> None:
        """Count a due that was missed."""
        self.on_time[slot] = noise.moved(self.on_time[slot], 0, ON_TIME_WEIGHT)
        self.ignored(slot, noise)

    def ignored(self, slot: int, noise: Noise) -> None:
        """Count a due at which no sign of life came."""
        self.obeys[slot] = noise.moved(self.obeys[slot], 0, IGNORED_WEIGHT)

    def obeyed(self, slot: int, noise: Noise) -> None:
        """Count a sign of life that came when the node was told to send it."""
        self.obeys[slot] = noise.moved(self.obeys[slot], FULL, OBEYS_WEIGHT)

    def came_back(self, slot: int, absence_s: float, noise: Noise) -> None:
        """Count an absence of so many seconds that has ended."""
        code = code_of(absence_s)
        absences = self.absences[slot]
        if absences < FULL:
            self.absences[slot] = absences + 1
        self.usual[slot] = noise.moved(self.usual[slot], code, USUAL_WEIGHT) if absences else code

    def was_up(self, slot: int, hour: int, weight: float, noise: Noise) -> None:
        """Count that the node was up in an hour of the day, with a weight from 0 to 1."""
        place, shift = PROFILE_BYTES * slot + hour // 2, 4 * (hour & 1)
        byte = self.profile[place]
        nibble = noise.moved(byte >> shift & NIBBLE_FULL, NIBBLE_FULL, PROFILE_WEIGHT * weight)
        self.profile[place] = byte & ~(NIBBLE_FULL << shift) | nibble << shift

    def was_down(self, slot: int, first_hour: int, hours: int, noise: Noise) -> None:
        """Count that the node was down for so many whole hours, from an hour of the day on."""
        days, rest = divmod(hours, HOURS)
        place, level = _profile(slot), noise.level()
        if days >= DAYS_FADED:
            self.profile[place] = bytes(PROFILE_BYTES)
            return
        former = self.profile[place]
        fewer = int.from_bytes(former.translate(_fading(days, level)), "little")
        more = int.from_bytes(former.translate(_fading(days + 1, level)), "little")
        # The hours that were down once more than the others may go on after midnight.
        span = ((1 << 4 * rest) - 1) << 4 * first_hour
        span |= span >> 4 * HOURS
        self.profile[place] = (fewer ^ (fewer ^ more) & span).to_bytes(PROFILE_BYTES, "little")

    def nibble(self, slot: int, hour: int) -> int:
        """Return the chance of an hour of the day in fifteenths."""
        return self.profile[PROFILE_BYTES * slot + hour // 2] >> 4 * (hour & 1) & NIBBLE_FULL

    def read(self, slot: int) -> Habit:
        """Return the habit of the node in `slot`."""
        return Habit(
            self.seen_s[slot],
            self.due_s[slot],
            self.on_time[slot] / FULL,
            self.obeys[slot] / FULL,
            self.absences[slot],
            self.usual[slot],
            self.days[slot],
            tuple(self.nibble(slot, hour) / NIBBLE_FULL for hour in range(HOURS)),
        )

    def pack(self, chunk: int, passed_s: float) -> bytes:
        """Return one chunk as bytes, to store or to send."""
        slots = slice(chunk * CHUNK_SLOTS, (chunk + 1) * CHUNK_SLOTS)
        parts = [column[slots] for column in self._stored]
        profile = self.profile[slots.start * PROFILE_BYTES : slots.stop * PROFILE_BYTES]
        return b"".join((_HEADER.pack(_FORMAT, CHUNK_SLOTS, passed_s), *map(bytes, parts), profile))

    def unpack(self, chunk: int, packed: bytes) -> float:
        """Take one chunk from bytes that `pack` made, for which there is room. Return its `passed_s`.

        Raise `ValueError` for bytes that no chunk has.
        """
        if len(packed) != PACKED_BYTES:
            raise ValueError(f"a chunk of habits has {len(packed)} of {PACKED_BYTES} bytes")
        form, count, passed_s = _HEADER.unpack_from(packed)
        if (form, count) != (_FORMAT, CHUNK_SLOTS) or not 0 <= passed_s < inf:
            raise ValueError(f"a chunk of habits begins with {packed[: _HEADER.size]!r}")
        at, parts, first = _HEADER.size, list[bytes](), chunk * CHUNK_SLOTS
        for column in self._stored:
            width = column.itemsize if isinstance(column, array) else 1
            parts.append(packed[at : at + width * CHUNK_SLOTS])
            at += width * CHUNK_SLOTS
        bits, paces = parts[-2:]
        if max(paces) >= PACE_CODES or max(bits) >= PACE_CODES << NEED_SHIFT:
            raise ValueError("a chunk of habits has a pace that no node is told")
        slots = slice(first, first + CHUNK_SLOTS)
        for kept, part in zip(self._stored, parts, strict=True):
            if isinstance(kept, array):
                kept[slots] = array(kept.typecode, part)
            else:
                kept[slots] = part
        self.profile[first * PROFILE_BYTES : (first + CHUNK_SLOTS) * PROFILE_BYTES] = packed[at:]
        return float(passed_s)


PACKED_BYTES: Final = _HEADER.size + CHUNK_SLOTS * (4 + 4 + 2 + 7 + PROFILE_BYTES)


class Noise:
    """Fractions in [0, 1) and levels, by a hash of a slot and a whole second; `word` has the latest."""

    __slots__ = ("word",)

    def __init__(self, slot: int, second: int) -> None:
        mixed = (slot * 2_654_435_761 + second * 2_246_822_519) & _WORD
        self.word = (mixed ^ mixed >> 15) * 2_654_435_761 & _WORD

    def moved(self, value: int, target: int, weight: float) -> int:
        """Return `value`, moved by the share `weight` of its distance from `target`, as a whole number."""
        word = self.word = (self.word * 1_664_525 + 1_013_904_223) & _WORD
        return int(value + (target - value) * weight + (word >> 8) / (1 << 24))

    def level(self) -> int:
        """Return a number below `LEVELS`."""
        self.word = (self.word * 1_664_525 + 1_013_904_223) & _WORD
        return self.word >> 32 - LEVEL_BITS


@cache
def _fading(times: int, level: int) -> bytes:
    """Return what becomes of each byte of a profile whose hours were down so many times.

    A higher `level` rounds up more in the first hour of each byte and less in the second, so that their
    errors partly cancel in the mean of a profile.
    """
    kept, up = (1 - PROFILE_WEIGHT) ** times, (level + 0.5) / LEVELS
    return bytes(
        int((byte & NIBBLE_FULL) * kept + up) | int((byte >> 4) * kept + 1 - up) << 4
        for byte in range(FULL + 1)
    )


def _profile(slot: int) -> slice:
    """Return where the profile of the node in `slot` lies in `Habits.profile`."""
    return slice(PROFILE_BYTES * slot, PROFILE_BYTES * (slot + 1))


def tag_of(node_id: str) -> int:
    """Return 16 bits that tell whose habit it is."""
    return crc32(node_id.encode()) & 0xFFFF
