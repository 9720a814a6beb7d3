"""No signed request is accepted twice: each node's last proofs are remembered for as long as they are valid.

A ring is at most 16 entries of 16 bytes: when the signature was made (u32), BLAKE2b-8 of its nonce, and until
which second of monotonic time the entry is kept at least (u32). An entry goes only when both clocks say that
the signature is too old, so it outlives a wall clock that is set forward and back.

A ring is exact and takes proofs in any order. Only the node itself can fill it: only results of
`check_proof` enter, and each key has a ring of its own, because anybody may sign a registration under the
name of another node with their own key. Rings are kept by the node's id, so they outlive a node that leaves.
They do not outlive the process, which refuses what was signed before it started (`signatures.check_time`).
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import OrderedDict

from ..clock import Now
from .refusals import ProofError
from .signatures import AGE_S_MAX, Proof

_NONCE_HASH_BYTES = 8
_ENTRY = struct.Struct(f">I{_NONCE_HASH_BYTES}sI")
ENTRY_BYTES = _ENTRY.size
ENTRIES_MAX = 16
# A full table refuses nodes that have no ring yet: to forget one would let a proof in again.
RINGS_MAX = 524_288


def admit(ring: bytes, created: int, nonce: str, now: Now) -> bytes:
    """Return `ring` with one more entry, and without those that cannot be accepted any more after `now`.

    Raises `ProofError` ``replayed`` where the entry is in there, ``too_many_proofs`` where it has no room.
    """
    nonce_hash = hashlib.blake2b(nonce.encode(), digest_size=_NONCE_HASH_BYTES).digest()
    live = _live(ring, now)
    if any(entry[:2] == (created, nonce_hash) for entry in live):
        raise ProofError("replayed", "This request was accepted before. Sign again, with a fresh nonce.")
    if len(live) >= ENTRIES_MAX:
        raise ProofError(
            "too_many_proofs",
            f"The node has signed {ENTRIES_MAX} requests within {AGE_S_MAX} s, which is the limit. "
            "Wait, and use a session for heartbeats.",
        )
    until_s = now.monotonic_s + max(0.0, created + AGE_S_MAX - now.wall_s)
    live.append((created, nonce_hash, math.ceil(until_s)))
    return b"".join([_ENTRY.pack(*entry) for entry in live])


def _live(ring: bytes, now: Now) -> list[tuple[int, bytes, int]]:
    """Return the entries of `ring` whose signature, by one of the clocks, may still be accepted."""
    oldest_at, now_s = now.wall_s - AGE_S_MAX, now.monotonic_s
    return [entry for entry in _ENTRY.iter_unpack(ring) if entry[0] >= oldest_at or entry[2] > now_s]


class ReplayRings:
    """The rings of all nodes with recent proofs, by node id and key id."""

    def __init__(self, rings_max: int = RINGS_MAX) -> None:
        self._rings_max = rings_max
        # The ring admitted last stands last; the first one is dead within 90 s of its admission. A plain
        # dictionary would search for its first key among all that were moved away.
        self._rings: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rings)

    def admit(self, node_id: str, proof: Proof, now: Now) -> None:
        """Remember `proof`, which is valid `now`. Raises `ProofError` as the function `admit` does."""
        name = (node_id, proof.key_id)
        ring = admit(self._rings.get(name, b""), proof.created, proof.nonce, now)
        if name not in self._rings and len(self._rings) >= self._rings_max:
            raise ProofError(
                "too_many_proofs",
                f"{self._rings_max} nodes have signed within {AGE_S_MAX} s, which is the limit. Wait.",
            )
        self._rings[name] = ring
        self._rings.move_to_end(name)

    def sweep(self, now: Now, limit: int) -> int:
        """Forget at most `limit` nodes of which no entry can be accepted after `now`; return how many."""
        forgotten = 0
        while self._rings and forgotten < limit:
            name, ring = next(iter(self._rings.items()))
            if _live(ring, now):
                break
            del self._rings[name]
            forgotten += 1
        return forgotten
