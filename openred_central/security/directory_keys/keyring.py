"""The schedule of the keys that tokens are signed with, as a state machine. Pure.

- A key is made and published (``next``). It signs (``active``) once it has been published for an hour and its
  predecessor's time is over. Then it only checks what it has signed (``retiring``), and its private half is
  erased. It is gone when no token by it can be valid any more.
- There is one active key, and at most one next one. Where there is no active key, as at the very first start,
  the next one takes over as soon as it is published.
- A key's time is over when its successor takes over, not before. If the successor is late, because the server
  was down, the active key stays active that much longer.
- Peers keep a key set for at most an hour. So a peer with a key set that was served within the last hour can
  check every token, for all of its life.

Times are wall times because key sets state them, but nothing relies on the wall clock alone: the caller calls
`shift` when that clock jumps, and after a restart `resume` counts as published only the time before it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from ...errors import InternalBug
from ..refusals import CLOCK_SKEW_S, LIFETIME_S_MAX
from .keyset import KEYSET_S_MAX, REVOKED_MAX, VERSION_AHEAD_MAX, KeySet, KeyStatus, PublishedKey
from .suites import VerifyingKey

HOUR_S = 3_600.0
DAY_S = 24 * HOUR_S
# How much longer than published a key may stay active before a new key set is published. It is the part of
# the retiring time that tokens, which live an hour, and clocks, half a minute apart, do not need.
LATE_S = 240.0
VERSION_MAX = 2**53


@dataclass(frozen=True, eq=False)
class Schedule:
    """The time that a key spends in each state, in seconds.

    `published_s`: published at least so long before it signs, which is how long a key set may be cached.
    `lead_s`: made so long before its predecessor's time is over. `active_s`: signing. `retiring_s`: checking
    only. `keyset_s`: how long a key set is valid; a new one is made after half of that.
    """

    published_s: float = HOUR_S
    lead_s: float = HOUR_S
    active_s: float = DAY_S
    retiring_s: float = HOUR_S + 300
    keyset_s: float = 2 * DAY_S

    def __post_init__(self) -> None:
        if self.retiring_s < LIFETIME_S_MAX + CLOCK_SKEW_S + LATE_S:
            raise ValueError("a key must not be gone while tokens by it are valid: retiring_s is too short")
        if not 0 < self.published_s <= self.lead_s < self.active_s:
            raise ValueError("allowed is 0 < published_s <= lead_s < active_s")
        if self.keyset_s < 2 * self.published_s:
            raise ValueError("a key set must be valid for at least twice published_s")
        if max(self.keyset_s, self.lead_s + self.active_s + self.retiring_s) > KEYSET_S_MAX:
            raise ValueError(f"peers take no key set that covers more than {KEYSET_S_MAX} s to come")


# An operator has to carry each key set to an offline root key and back: once a month, within a week.
OFFLINE_SCHEDULE = Schedule(lead_s=7 * DAY_S, active_s=30 * DAY_S, keyset_s=KEYSET_S_MAX)


@dataclass
class KeyEntry:
    """A key with its state. `published_at` is None until a key set that lists it is served."""

    key: VerifyingKey
    status: KeyStatus = KeyStatus.NEXT
    published_at: float | None = None
    active_from: float | None = None
    retires_at: float | None = None
    gone_at: float | None = None


_TIMES = ("published_at", "active_from", "retires_at", "gone_at")


class Keyring:
    """The keys of a directory and the work that is due on them. `decode` reads one from the disk.

    Every few seconds the caller does this: `advance`; where `needs_key`, make a key and `add` it; erase the
    private halves that are not in `private_ids`; where `stale`, sign the key set from `issue` and call
    `published`. Where `unsaved`, save what `encode` returns and set it to False.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.version = 0
        self._entries: list[KeyEntry] = []
        # Id → the wall time at which all key sets that list it have expired.
        self._revoked: dict[str, float] = {}
        self._seen_at = -math.inf
        self._issued_at = -math.inf
        # When the active key may have a successor, by the last key set.
        self._promised_at = math.inf
        self._changed = True
        # True if the state has changed since the caller last saved it.
        self.unsaved = True

    @property
    def active(self) -> VerifyingKey | None:
        """The key that signs; None before the first is published, and after it was lost or revoked."""
        entry = self._one(KeyStatus.ACTIVE)
        return None if entry is None else entry.key

    @property
    def ids(self) -> list[str]:
        return [entry.key.key_id for entry in self._entries]

    @property
    def revoked_ids(self) -> tuple[str, ...]:
        """The ids of the keys that were revoked, as long as an older key set may list them."""
        return tuple(self._revoked)

    @property
    def private_ids(self) -> set[str]:
        """The ids of the keys whose private halves are needed. All others are to be erased."""
        needed = (KeyStatus.NEXT, KeyStatus.ACTIVE)
        return {entry.key.key_id for entry in self._entries if entry.status in needed}

    @property
    def private_keys(self) -> list[VerifyingKey]:
        """The keys of `private_ids`."""
        return [entry.key for entry in self._entries if entry.key.key_id in self.private_ids]

    @property
    def waiting(self) -> bool:
        """Return whether the next key is published and its hour runs; a crash takes back unsaved time."""
        entry = self._one(KeyStatus.NEXT)
        return entry is not None and entry.published_at is not None

    @property
    def unpublished(self) -> bool:
        return any(entry.published_at is None for entry in self._entries)

    def stale(self, now_s: float) -> bool:
        """Return whether a key set is to be made: the last one is half over, or out of date."""
        half_over = now_s >= self._issued_at + self.schedule.keyset_s / 2
        # A successor that is late leaves the active key in its place for longer than was published.
        late = self._takeover_at(now_s) > self._promised_at + LATE_S
        return self._changed or half_over or late

    def needs_key(self, now_s: float) -> bool:
        """Return whether a key is to be made and added now."""
        if self._one(KeyStatus.NEXT) is not None:
            return False
        active = self._one(KeyStatus.ACTIVE)
        return active is None or now_s >= _known(active.retires_at) - self.schedule.lead_s

    def add(self, key: VerifyingKey) -> None:
        """Add a new key as the next one; the caller has stored its private half."""
        if self._one(KeyStatus.NEXT) is not None:
            raise InternalBug("there is a next key already")
        self._entries.append(KeyEntry(key))
        self._change()

    def advance(self, now_s: float) -> None:
        """Move the keys to their states at wall time `now_s`."""
        self._seen_at = now_s
        active, successor = self._one(KeyStatus.ACTIVE), self._one(KeyStatus.NEXT)
        ready = successor is not None and successor.published_at is not None
        moved = False
        if successor is not None and ready and (active is None or now_s >= self._takeover_at(now_s)):
            if active is not None:
                self._retire(active, now_s)
            successor.status, successor.active_from = KeyStatus.ACTIVE, now_s
            moved = True
        kept = [entry for entry in self._entries if entry.gone_at is None or entry.gone_at > now_s]
        revoked = {key_id: until for key_id, until in self._revoked.items() if until > now_s}
        moved = moved or len(kept) < len(self._entries) or len(revoked) < len(self._revoked)
        self._entries, self._revoked = kept, revoked
        if moved:
            self._change()

    def issue(self, now_s: float) -> KeySet:
        """Return the key set as it is at wall time `now_s`, of a new version, to be signed."""
        # Not below the time, so that versions rise even where the keyring was lost and starts empty. Nor so
        # far above it, after a clock that was ahead, that peers refuse it: they refused those before it,
        # too.
        time_s = math.floor(now_s)
        self.version = min(max(self.version + 1, time_s), time_s + VERSION_AHEAD_MAX)
        self.unsaved = True
        return KeySet(
            version=self.version,
            issued_at=time_s,
            expires_at=math.floor(now_s + self.schedule.keyset_s),
            keys=tuple(self._published(now_s)),
            revoked_key_ids=self.revoked_ids,
        )

    def published(self, keyset: KeySet, now_s: float) -> None:
        """Take note that `keyset`, made by `issue`, is signed and served from wall time `now_s` on."""
        until = {published.key.key_id: published.not_after for published in keyset.keys}
        for entry in self._entries:
            if entry.key.key_id not in until:
                continue
            if entry.published_at is None:
                entry.published_at = now_s
            if entry.status is KeyStatus.NEXT:
                # The key keeps to the published time.
                entry.retires_at = until[entry.key.key_id] - self.schedule.retiring_s
        ends = [key.not_after for key in keyset.keys if key.status is KeyStatus.ACTIVE]
        self._promised_at = ends[0] - self.schedule.retiring_s if ends else math.inf
        self.version = max(self.version, keyset.version)
        self._issued_at = float(keyset.issued_at)
        self._changed = self.unpublished or self.revoked_ids != keyset.revoked_key_ids
        self.unsaved = True

    def rotate(self, now_s: float) -> None:
        """Replace the active key as soon as its successor has been published for long enough."""
        active = self._one(KeyStatus.ACTIVE)
        if active is not None:
            active.retires_at = min(_known(active.retires_at), now_s + self.schedule.published_s)
            self._change()

    def revoke(self, key_id: str, now_s: float) -> None:
        """Revoke a key at once. Raises `ValueError` where there is none of that id."""
        if all(entry.key.key_id != key_id for entry in self._entries):
            raise ValueError(f"there is no key {key_id}; those there are: {', '.join(self.ids) or 'none'}")
        if len(self._revoked) >= REVOKED_MAX:
            raise ValueError(f"{REVOKED_MAX} keys are revoked, which is the limit of a key set")
        self._entries = [entry for entry in self._entries if entry.key.key_id != key_id]
        self._revoked[key_id] = now_s + self.schedule.keyset_s
        self._change()

    def lost(self, key_id: str, now_s: float) -> None:
        """Take note that the private half of a next or active key is missing."""
        for entry in list(self._entries):
            if entry.key.key_id == key_id and entry.status is KeyStatus.ACTIVE:
                self._retire(entry, now_s)
            elif entry.key.key_id == key_id and entry.status is KeyStatus.NEXT:
                self._entries.remove(entry)
        self._change()

    def shift(self, jump_s: float) -> None:
        """Take note that the wall clock was set forward by `jump_s` seconds, or back where negative."""
        for entry in self._entries:
            for name in _TIMES:
                value = getattr(entry, name)
                if value is not None:
                    setattr(entry, name, value + jump_s)
        self._revoked = {key_id: until + jump_s for key_id, until in self._revoked.items()}
        self._seen_at += jump_s
        self._issued_at += jump_s
        self._promised_at += jump_s
        self._change()

    def resume(self, now_s: float) -> None:
        """Continue at wall time `now_s` after a pause, in which nobody could fetch a key set."""
        idle_s = now_s - self._seen_at
        if idle_s < 0:
            # The clock was set back meanwhile, nobody knows how far: assume that there was no pause.
            self.shift(idle_s)
        elif math.isfinite(idle_s):
            successor = self._one(KeyStatus.NEXT)
            if successor is not None and successor.published_at is not None:
                successor.published_at += idle_s
        self._seen_at = now_s
        self._change()

    def encode(self) -> bytes:
        """Return everything but private halves as JSON."""
        rows = [
            {
                "suite": entry.key.suite.letter,
                "public_key": base64.b64encode(entry.key.spki).decode("ascii"),
                "status": entry.status.value,
                **{name: getattr(entry, name) for name in _TIMES},
            }
            for entry in self._entries
        ]
        # JSON has no infinity: it becomes null.
        state = {
            "version": self.version,
            "seen_at": self._seen_at,
            "issued_at": self._issued_at,
            "promised_at": self._promised_at,
        }
        return orjson.dumps({**state, "keys": rows, "revoked": self._revoked})

    @classmethod
    def decode(cls, schedule: Schedule, content: bytes) -> Keyring:
        """Return the keyring that `encode` wrote. Raises `ValueError`, `KeyError` or `TypeError`."""
        state = orjson.loads(content)
        ring = cls(schedule)
        ring.version = int(state["version"])
        ring._seen_at = _or(state["seen_at"], -math.inf)
        ring._issued_at = _or(state["issued_at"], -math.inf)
        ring._promised_at = _or(state["promised_at"], math.inf)
        ring._revoked = {str(key_id): float(until) for key_id, until in dict(state["revoked"]).items()}
        for row in state["keys"]:
            key = VerifyingKey(row["suite"], base64.b64decode(row["public_key"], validate=True))
            times = (None if row[name] is None else float(row[name]) for name in _TIMES)
            ring._entries.append(KeyEntry(key, KeyStatus(row["status"]), *times))
        ring.check()
        return ring

    def check(self) -> None:
        """Raise `ValueError` for a state that no keyring can be in."""
        if not 0 <= self.version <= VERSION_MAX:
            raise ValueError(f"the version is {self.version}, allowed is 0 to {VERSION_MAX}")
        for status in (KeyStatus.NEXT, KeyStatus.ACTIVE):
            if sum(entry.status is status for entry in self._entries) > 1:
                raise ValueError(f"there are two {status.value} keys")
        for entry in self._entries:
            if entry.status is not KeyStatus.NEXT and None in (entry.active_from, entry.retires_at):
                raise ValueError(f"key {entry.key.short_id} is {entry.status.value} since an unknown time")
            if (entry.status is KeyStatus.RETIRING) != (entry.gone_at is not None):
                raise ValueError(f"key {entry.key.short_id} is {entry.status.value} and its end does not fit")
        if len(set(self.ids)) < len(self._entries):
            raise ValueError("a key is there twice")

    def _change(self) -> None:
        """Note a change that the next key set and the next save must contain."""
        self._changed = self.unsaved = True

    def _one(self, status: KeyStatus) -> KeyEntry | None:
        return next((entry for entry in self._entries if entry.status is status), None)

    def _retire(self, entry: KeyEntry, now_s: float) -> None:
        entry.status = KeyStatus.RETIRING
        entry.retires_at, entry.gone_at = now_s, now_s + self.schedule.retiring_s

    def _takeover_at(self, now_s: float) -> float:
        """Return when the next key takes over, or when one made now could."""
        active, successor = self._one(KeyStatus.ACTIVE), self._one(KeyStatus.NEXT)
        if active is None:
            return now_s
        known_at = now_s if successor is None or successor.published_at is None else successor.published_at
        return max(_known(active.retires_at), known_at + self.schedule.published_s)

    def _published(self, now_s: float) -> Iterator[PublishedKey]:
        takeover_at = self._takeover_at(now_s)
        lifetime_s = self.schedule.active_s + self.schedule.retiring_s
        for entry in self._entries:
            if entry.status is KeyStatus.NEXT:
                since, until = takeover_at, takeover_at + lifetime_s
            elif entry.status is KeyStatus.ACTIVE:
                since, until = _known(entry.active_from), takeover_at + self.schedule.retiring_s
            else:
                since, until = _known(entry.active_from), _known(entry.gone_at)
            yield PublishedKey(entry.key, math.floor(since), math.ceil(until), entry.status)


def _or(time_s: object, missing_s: float) -> float:
    return missing_s if time_s is None else float(str(time_s))


def _known(time_s: float | None) -> float:
    if time_s is None:
        raise InternalBug("a key is in a state without the time that goes with it")
    return time_s
