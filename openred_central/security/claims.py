"""Claims: the one-time secret by which a node without a usable key proves later changes to be its own.

A claim is a MAC over the node's id and the time of its registration, so that nothing needs to be stored but
the one key, and a new registration under an old name makes the former claim void.
"""

from __future__ import annotations

import hmac
import struct

from ..encoding import base64url, pre_authentication_encoding

# The name under which a store keeps the key of all claims.
CLAIM_KEY = "claim_key"
CLAIM_KEY_BYTES = 32
# 128 bits as base64url.
_CLAIM_BYTES = 16

SCHEME = "Claim"


class Claims:
    """Makes and checks claims with `key`, `CLAIM_KEY_BYTES` random bytes that outlive the server."""

    def __init__(self, key: bytes) -> None:
        if len(key) != CLAIM_KEY_BYTES:
            raise ValueError(f"the claim key has {len(key)} bytes, allowed are exactly {CLAIM_KEY_BYTES}")
        self._key = key

    def claim(self, node_id: str, registered_at: float) -> str:
        """The claim, 22 characters, of the node registered as `node_id` at that wall time in seconds."""
        message = pre_authentication_encoding(
            b"openred/3 claim", node_id.encode(), struct.pack("<d", registered_at)
        )
        mac = hmac.digest(self._key, message, "sha256")[:_CLAIM_BYTES]
        return base64url(mac)

    def is_valid(self, presented: str, node_id: str, registered_at: float) -> bool:
        """Whether `presented` is the claim of that node. Takes the same time however wrong it is."""
        return hmac.compare_digest(presented.encode(), self.claim(node_id, registered_at).encode())
