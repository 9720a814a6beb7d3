"""No signed request is accepted twice: each node's last proofs are remembered for as long as they are valid.

A ring is at most 16 entries of 12 bytes: when the signature was made (u32) and BLAKE2b-8 of its nonce. It is
exact, takes proofs in any order, and nobody but the node itself can fill it: only what `check_proof`
returned is entered, and each key has a ring of its own, because anybody may sign a registration under the
name of another with a key of his. It is kept by the node's id, so that it outlives a node that leaves; it
does not outlive the process, which refuses what was signed before it started (`signatures.check_time`).
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict

from .proof_errors import ProofError
from .signatures import AGE_S_MAX, Proof

ENTRY_BYTES = 12
_NONCE_HASH_BYTES = 8
ENTRIES_MAX = 16
# 300 bytes each. A full table refuses those who have none, since to forget one would let a proof in again.
RINGS_MAX = 524_288


def admit(ring: bytes, created: int, nonce: str, wall_s: float) -> bytes:
    """`ring` with one more entry, and without those that are too old to be accepted at `wall_s`.

    Raises `ProofError` ``replayed`` where the entry is in there, ``too_many_proofs`` where it has no room.
    """
    oldest = wall_s - AGE_S_MAX
    new = struct.pack(">I", created) + hashlib.blake2b(nonce.encode(), digest_size=_NONCE_HASH_BYTES).digest()
    live = [
        entry
        for entry in (ring[start : start + ENTRY_BYTES] for start in range(0, len(ring), ENTRY_BYTES))
        if int.from_bytes(entry[:4]) >= oldest
    ]
    if new in live:
        raise ProofError("replayed", "This request was accepted before. Sign anew, with a fresh nonce.")
    if len(live) >= ENTRIES_MAX:
        raise ProofError(
            "too_many_proofs",
            f"The node has signed {ENTRIES_MAX} requests within {AGE_S_MAX} s, more are not taken. "
            "Wait, and use a session for heartbeats.",
        )
    return b"".join([*live, new])


class ReplayRings:
    """The rings of all nodes that have lately proven who they are, by node id and key id."""

    def __init__(self, rings_max: int = RINGS_MAX) -> None:
        self._rings_max = rings_max
        # Whoever was admitted last stands last. What stands first is dead within 90 s of its admission. Not a
        # plain dictionary, which looks for its first key among all that were moved away: among 50,000
        # nodes a proof took up to 27 µs here, instead of 4.
        self._rings: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rings)

    def admit(self, node_id: str, proof: Proof, wall_s: float) -> None:
        """Remember `proof`, which is valid at `wall_s`. Raises `ProofError` as the function `admit` does."""
        name = (node_id, proof.key_id)
        ring = admit(self._rings.get(name, b""), proof.created, proof.nonce, wall_s)
        if name not in self._rings and len(self._rings) >= self._rings_max:
            raise ProofError(
                "too_many_proofs", f"{self._rings_max} nodes have signed within {AGE_S_MAX} s. Wait."
            )
        self._rings[name] = ring
        self._rings.move_to_end(name)

    def sweep(self, wall_s: float, limit: int) -> int:
        """Forget at most `limit` nodes of which no entry is valid any more at `wall_s`; returns how many."""
        oldest = wall_s - AGE_S_MAX
        forgotten = 0
        while self._rings and forgotten < limit:
            name, ring = next(iter(self._rings.items()))
            if any(created >= oldest for created, _ in struct.iter_unpack(">IQ", ring)):
                break
            del self._rings[name]
            forgotten += 1
        return forgotten
