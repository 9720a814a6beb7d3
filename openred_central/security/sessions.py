"""Sessions and claims: short MACs by which a node speaks for itself without a signature.

A session, ``or3s.<expires>.<signed>.<generation>.<mac>``, lets a node with a key send heartbeats for a while
after it has signed. It states when it ends, when the node last signed, and the node's generation, all in
decimal; the MAC is 128 bits of keyed BLAKE2b over these, the node's id and its key id. It lives five minutes
and heartbeats renew it for at most an hour after a real signature. A session proves that the node lives and
may ask for tokens; a change of the record needs a signature. Its times are of a clock that no jump of the
wall clock moves; those of instances differ as little as their wall clocks did when they started.

A claim is the one-time secret by which a node without a usable key proves later changes to be its own. It is
a MAC over the node's id and the time of its registration: nothing needs to be stored but one key, and a new
registration under an old name voids the former claim.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from typing import NamedTuple

from ..encoding import base64url, pre_authentication_encoding
from .refusals import ProofError

SESSION_SCHEME = "OpenRed"
# The name under which a store that instances share keeps the key of all sessions.
SESSION_KEY = "session_key"
SESSION_KEY_BYTES = 32
LIFE_S = 300
# From the last real signature.
RENEWED_S_MAX = 3_600
# A session with more than this left is given back unchanged: nothing is computed, and the bytes that its node
# sends and receives stay equal.
LEFT_S_MIN = 240

CLAIM_SCHEME = "Claim"
# The name under which a store keeps the key of all claims.
CLAIM_KEY = "claim_key"
CLAIM_KEY_BYTES = 32

# 128 bits.
_MAC_BYTES = 16
# Up to 2^53, as in tokens.
_NUMBER = "(0|[1-9][0-9]{0,15})"
_SESSION = re.compile(rf"(or3s\.{_NUMBER}\.{_NUMBER}\.{_NUMBER})\.([A-Za-z0-9_-]{{22}})", re.ASCII)


class Session(NamedTuple):
    """A checked session: its `text`, its node and key, and the generation of the node.

    It ends at `expires_s`; its node last signed at `signed_s`, both in steady Unix seconds.
    """

    text: str
    node_id: str
    key_id: str
    generation: int
    expires_s: int
    signed_s: int

    def is_fresh(self, now_s: float) -> bool:
        """Return whether more than `LEFT_S_MIN` is left, so that it need not be renewed yet."""
        return self.expires_s - now_s > LEFT_S_MIN


class Sessions:
    """The sessions made and checked with `key`, `SESSION_KEY_BYTES` random bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != SESSION_KEY_BYTES:
            raise ValueError(f"the session key has {len(key)} bytes, allowed are exactly {SESSION_KEY_BYTES}")
        self.key = key

    def mint(self, node_id: str, key_id: str, now_s: float, signed_s: float, generation: int) -> str:
        """Return a session for the node `node_id` with the key `key_id`, which has signed at `signed_s`.

        Times are steady Unix seconds, as in `Prover`. It ends after `LIFE_S`, and never later than
        `RENEWED_S_MAX` after `signed_s`. Call this for a signature that was just checked; `renew` for a
        session.
        """
        signed = int(signed_s)
        expires = min(int(now_s) + LIFE_S, signed + RENEWED_S_MAX)
        stated = f"or3s.{expires}.{signed}.{generation}"
        return f"{stated}.{self._mac(node_id, key_id, stated)}"

    def renew(self, session: Session, now_s: float) -> str | None:
        """Return a fresh session in place of one that `check` returned, or None once its node has to sign.

        A session that is fresh itself is returned unchanged.
        """
        if now_s >= session.signed_s + RENEWED_S_MAX:
            return None
        if session.is_fresh(now_s):
            return session.text
        return self.mint(session.node_id, session.key_id, now_s, session.signed_s, session.generation)

    def check(self, text: str, node_id: str, key_id: str, now_s: float, generation: int) -> Session:
        """Return the session `text`, which must be of this node, key and generation, and valid at `now_s`.

        Raises `ProofError` ``session_syntax``, ``session_revoked``, ``bad_session`` or ``session_expired``.
        """
        match = _SESSION.fullmatch(text)
        if match is None:
            raise ProofError(
                "session_syntax",
                f"This is no session; expected is Authorization: {SESSION_SCHEME} or3s.<...>",
            )
        stated, expires, signed, given_generation, mac = match.groups()
        if not hmac.compare_digest(mac, self._mac(node_id, key_id, stated)):
            raise ProofError(
                "bad_session",
                "The session is of another node or key, or from before the last start. Sign once more.",
            )
        if int(given_generation) != generation:
            raise ProofError("session_revoked", "The session was revoked. Sign once more.")
        expires_s = int(expires)
        if now_s >= expires_s:
            raise ProofError(
                "session_expired", f"The session has expired: it is valid for {LIFE_S} s. Sign once more."
            )
        return Session(text, node_id, key_id, generation, expires_s, int(signed))

    def _mac(self, node_id: str, key_id: str, stated: str) -> str:
        """Return the MAC over node, key, and a session without its MAC."""
        # Key and session have no space, so no three other texts give these bytes.
        content = f"{node_id} {key_id} {stated}".encode()
        return base64url(hashlib.blake2b(content, digest_size=_MAC_BYTES, key=self.key).digest())


class Claims:
    """The claims made and checked with `key`, `CLAIM_KEY_BYTES` random bytes that outlive the server."""

    def __init__(self, key: bytes) -> None:
        if len(key) != CLAIM_KEY_BYTES:
            raise ValueError(f"the claim key has {len(key)} bytes, allowed are exactly {CLAIM_KEY_BYTES}")
        self._keyed = hmac.new(key, digestmod="sha256")

    def claim(self, node_id: str, registered_at: float) -> str:
        """Return the claim, 22 characters, of the node registered as `node_id` at that wall time."""
        # A copy costs less than to take the key again.
        mac = self._keyed.copy()
        mac.update(
            pre_authentication_encoding(
                b"openred/3 claim", node_id.encode(), struct.pack("<d", registered_at)
            )
        )
        return base64url(mac.digest()[:_MAC_BYTES])

    def is_valid(self, presented: str, node_id: str, registered_at: float) -> bool:
        """Return whether `presented` is the claim of that node, in a time that does not depend on it."""
        return hmac.compare_digest(presented.encode(), self.claim(node_id, registered_at).encode())
