"""No signed request is accepted twice: each node's last proofs are remembered for as long as they are valid.

A ring is at most 16 entries of 12 bytes: when the signature was made (u32) and BLAKE2b-8 of its nonce. It is
exact, takes proofs in any order, and nobody but the node itself can fill it, since only what `check_proof`
returned is entered. It is kept by the node's id, so that it outlives a node that leaves; it does not outlive
the process, which refuses what was signed before it started (`signatures.check_time`).
"""

from __future__ import annotations

import hashlib
import struct

from .proof_errors import ProofError
from .signatures import AGE_S_MAX, Proof

ENTRY_BYTES = 12
_NONCE_HASH_BYTES = 8
ENTRIES_MAX = 16


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
    """The rings of all nodes that have lately proven who they are, by node id."""

    def __init__(self) -> None:
        # Whoever was admitted last stands last. What stands first is dead within 90 s of its admission.
        self._rings: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._rings)

    def admit(self, node_id: str, proof: Proof, wall_s: float) -> None:
        """Remember `proof`, which is valid at `wall_s`. Raises `ProofError` as the function `admit` does."""
        ring = admit(self._rings.get(node_id, b""), proof.created, proof.nonce, wall_s)
        self._rings.pop(node_id, None)
        self._rings[node_id] = ring

    def sweep(self, wall_s: float, limit: int) -> int:
        """Forget at most `limit` nodes of which no entry is valid any more at `wall_s`; returns how many."""
        oldest = wall_s - AGE_S_MAX
        forgotten = 0
        while self._rings and forgotten < limit:
            node_id, ring = next(iter(self._rings.items()))
            if any(created >= oldest for created, _ in struct.iter_unpack(">IQ", ring)):
                break
            del self._rings[node_id]
            forgotten += 1
        return forgotten
