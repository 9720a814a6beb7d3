"""What answers for the names of the dead, until it too is forgotten."""

from __future__ import annotations

from binascii import b2a_base64
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from operator import methodcaller

from ..lifecycle import Event
from .node import Tombstone, hash_id, id_digest

_BASE64 = partial(b2a_base64, newline=False)
_URL_SAFE_TO_PLAIN = str.maketrans("-_", "+/")
# The longest that anything counts that a node was granted, after it died: `LIFETIME_S_MAX` of tokens.
GRANTED_S_MAX = 3_600.0


class Tombstones:
    """Tombstones by the hash of the id, of two kinds: of those who died by silence, and of those forgotten.

    All stand for the same time, so in each kind the order in which they were put up is the order in which
    they expire: no heap is needed. `count_max` bounds each kind; beyond it the oldest of that kind goes
    first. Anybody can have nodes forgotten, as many as he likes: they crowd out only their like.
    """

    def __init__(self, *, tombstone_s: float, count_max: int) -> None:
        self._tombstone_s = tombstone_s
        self._count_max = count_max
        # Not plain dictionaries, which look for their first key among all that were ever taken away.
        self._silent: OrderedDict[str, Tombstone] = OrderedDict()
        self._forgotten: OrderedDict[str, Tombstone] = OrderedDict()
        # Until then something may count that was granted to a node whose tombstone is gone.
        self._grants_end_s = 0.0

    def __len__(self) -> int:
        return len(self._silent) + len(self._forgotten)

    def __iter__(self) -> Iterator[Tombstone]:
        return chain(self._silent.values(), self._forgotten.values())

    def put_up(self, tombstone: Tombstone, now_s: float) -> list[Tombstone]:
        """Keep `tombstone` from `now_s` on, in attended seconds, instead of an older one of the same name.

        Return those that had to make room.
        """
        self.lift(tombstone.id_hash)
        kind = self._forgotten if tombstone.reason == Event.FORGOTTEN else self._silent
        kind[tombstone.id_hash] = tombstone
        crowded_out = []
        while len(kind) > self._count_max:
            crowded_out.append(kind.popitem(last=False)[1])
            self._note_gone(now_s)
        return crowded_out

    def lift(self, id_hash: str) -> Tombstone | None:
        """Take the tombstone of `id_hash` away and return it; None where there is none."""
        return self._silent.pop(id_hash, None) or self._forgotten.pop(id_hash, None)

    def get(self, id_hash: str) -> Tombstone | None:
        """The tombstone of `id_hash`; None where there is none."""
        return self._silent.get(id_hash) or self._forgotten.get(id_hash)

    def of_node(self, node_id: str) -> Tombstone | None:
        """The tombstone of a node by its id; None where there is none."""
        return self.get(hash_id(node_id)) if self else None

    def name_any(self, node_ids: Iterable[str]) -> bool:
        """Whether there is a tombstone of any of these nodes: a third of the cost of `of_node` for each."""
        if not self:
            return False
        # In the alphabet and with the padding of base64 as it comes.
        hashes = {
            id_hash.translate(_URL_SAFE_TO_PLAIN).encode() + b"=="
            for id_hash in chain(self._silent, self._forgotten)
        }
        digests = map(methodcaller("digest"), map(id_digest, map(str.encode, node_ids)))
        return not hashes.isdisjoint(map(_BASE64, digests))

    def ends_s(self, tombstone: Tombstone) -> float:
        """When `tombstone` expires, in attended seconds."""
        return tombstone.died_s + self._tombstone_s

    def next_s(self) -> float | None:
        """When the next tombstone expires, in attended seconds; None where there is none."""
        first = self._first()
        return self.ends_s(first) if first is not None else None

    def pop_expired(self, now_s: float) -> Tombstone | None:
        """The next tombstone that has expired at `now_s`, taken away; None where none has."""
        first = self._first()
        if first is None or self.ends_s(first) > now_s:
            return None
        self._note_gone(now_s)
        return self.lift(first.id_hash)

    def restart(self, now_s: float) -> None:
        """Begin anew at `now_s`, in attended seconds: which tombstones went before, nobody remembers."""
        self._note_gone(now_s)

    def may_have_grants(self, node_id: str, now_s: float) -> bool:
        """Whether at `now_s` something may still count that an earlier bearer of the name was granted."""
        return now_s < self._grants_end_s or self.of_node(node_id) is not None

    def _note_gone(self, now_s: float) -> None:
        """Remember that nothing will tell any more of a node that was granted something up to `now_s`.

        Its death may be dated earlier: a deadline that was handled late counts from when it came.
        """
        self._grants_end_s = max(self._grants_end_s, now_s + GRANTED_S_MAX)

    def _first(self) -> Tombstone | None:
        """The one that expires first."""
        heads = [next(iter(kind.values())) for kind in (self._silent, self._forgotten) if kind]
        return min(heads, key=self.ends_s, default=None)
