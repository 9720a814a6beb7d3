"""Sessions: a short text by which a node that has lately signed may beat without signing every time.

``or3s.<expires>.<signed>.<generation>.<mac>``: when it ends, when its node last really signed, and the
node's generation, all decimal; then 128 bits of HMAC-SHA-256 over these, the node's id and its key id. It
lives five minutes and is renewed by heartbeats, for at most an hour after a real signature: one that has more
than four minutes left is given back as it is. It says "alive" and asks for tokens: what changes a record
needs a signature. No jump of the wall clock moves the clock of its times, which only this process reads.
"""

from __future__ import annotations

import hmac
import re
from typing import NamedTuple

from ..encoding import base64url, pre_authentication_encoding
from .proof_errors import ProofError

SCHEME = "OpenRed"
SESSION_KEY_BYTES = 32
LIFE_S = 300
# From the last real signature.
RENEWED_S_MAX = 3_600
# One with more than this left is renewed by being given back: nothing is made, and what its node sends and is
# answered stays the same.
LEFT_S_MIN = 240

# 128 bits as base64url.
_MAC_BYTES = 16
# Up to 2^53, as in tokens.
_NUMBER = "(0|[1-9][0-9]{0,15})"
_SESSION = re.compile(rf"or3s\.{_NUMBER}\.{_NUMBER}\.{_NUMBER}\.([A-Za-z0-9_-]{{22}})", re.ASCII)


class Session(NamedTuple):
    """A session `text` that was checked and holds: whose it is, and in which generation of its node.

    It ends at `expires_s`; its node last signed at `signed_s`, both in steady Unix seconds.
    """

    text: str
    node_id: str
    key_id: str
    generation: int
    expires_s: int
    signed_s: int

    def is_fresh(self, now_s: float) -> bool:
        """Whether it has more than `LEFT_S_MIN` left, so that it need not be made anew yet."""
        return self.expires_s - now_s > LEFT_S_MIN


class Sessions:
    """Makes and checks sessions with `key`, `SESSION_KEY_BYTES` random bytes that are kept in memory only."""

    def __init__(self, key: bytes) -> None:
        if len(key) != SESSION_KEY_BYTES:
            raise ValueError(f"the session key has {len(key)} bytes, allowed are exactly {SESSION_KEY_BYTES}")
        self._key = key

    def mint(self, node_id: str, key_id: str, now_s: float, signed_s: float, generation: int) -> str:
        """A session for the node `node_id` with the key `key_id`, which has signed at `signed_s`.

        Times are steady Unix seconds, as in `Prover`. It ends after `LIFE_S`, and never later than
        `RENEWED_S_MAX` after `signed_s`.
        Call this for a signature that was just checked; `renew` for a session.
        """
        signed = int(signed_s)
        expires = min(int(now_s) + LIFE_S, signed + RENEWED_S_MAX)
        mac = self._mac(node_id, key_id, str(expires), str(signed), str(generation))
        return f"or3s.{expires}.{signed}.{generation}.{mac}"

    def renew(self, session: Session, now_s: float) -> str | None:
        """A fresh session in place of one that `check` returned; None once its node has to sign again.

        One that is fresh itself is given back.
        """
        if now_s >= session.signed_s + RENEWED_S_MAX:
            return None
        # Saves 4 µs, and more where a head that came before need not be read again.
        if session.is_fresh(now_s):
            return session.text
        return self.mint(session.node_id, session.key_id, now_s, session.signed_s, session.generation)

    def check(self, text: str, node_id: str, key_id: str, now_s: float, generation: int) -> Session:
        """The session `text`, which must be of this node, key and generation, and valid at `now_s`.

        Raises `ProofError` ``session_syntax``, ``session_revoked``, ``bad_session`` or ``session_expired``.
        """
        match = _SESSION.fullmatch(text)
        if match is None:
            raise ProofError(
                "session_syntax", f"This is no session; expected is Authorization: {SCHEME} or3s.<...>"
            )
        expires, signed, given_generation, given_mac = match.groups()
        mac = self._mac(node_id, key_id, expires, signed, given_generation)
        if not hmac.compare_digest(mac, given_mac):
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

    def _mac(self, node_id: str, key_id: str, expires: str, signed: str, generation: str) -> str:
        """The MAC over the pre-authentication encoding of the label and the arguments, numbers in decimal."""
        message = pre_authentication_encoding(
            b"openred/3 session",
            *(node_id.encode(), key_id.encode(), expires.encode(), signed.encode(), generation.encode()),
        )
        return base64url(hmac.digest(self._key, message, "sha256")[:_MAC_BYTES])
