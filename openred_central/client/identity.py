"""The identity of a client, which its requests show by a signature, a session, or a claim."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from enum import Enum

from ..clock import Clock
from ..encoding import base64url
from ..security.sessions import CLAIM_SCHEME, LIFE_S, SESSION_SCHEME
from ..security.signing import PrivateKey, rotation_headers, signed_headers
from .errors import ClockError

# Only the key itself can register this prefix with the id of the key.
SELF_CERTIFYING = "k-"
NONCE_BYTES = 16
# A session is not used in its last seconds: it could expire on the way.
SESSION_MARGIN_S = 10.0
# The time in a refusal is unproven: an attacker could keep a request that is signed for a later time, and
# send it then, at most a day later. A day covers a wrong time zone; a clock that is further off was never
# set, and could check no certificate and no key set either.
CORRECTION_S_MAX = 86_400.0

Headers = list[tuple[str, str]]


class ProofLevel(Enum):
    """The proof that a request needs: none, a sign of life, or that it comes from the node itself."""

    NOTHING = "nothing"
    LIFE = "life"
    NODE = "node"


class Identity:
    """A node: its `node_id`, its `key` where it has one, and the proofs that it was granted.

    `claim` is the secret of a node without a key; `claims_life`: the directory wants it for signs of life,
    too. `offset_s` is how many seconds the directory reports its clock to be ahead of ours; only signatures
    use it. `entropy` gives random bytes.
    """

    def __init__(
        self,
        node_id: str | None,
        key: PrivateKey | None,
        claim: str | None,
        clock: Clock,
        entropy: Callable[[int], bytes],
    ) -> None:
        if node_id is None:
            if key is None:
                raise ValueError("a node without a key needs a node_id")
            node_id = f"{SELF_CERTIFYING}{key.key_id}"
        self.node_id = node_id
        self.key = key
        self.claim = claim
        self.claims_life = False
        self.offset_s = 0.0
        self.session: str | None = None
        self._session_ends_s = 0.0
        self._clock = clock
        self._entropy = entropy

    def now_s(self) -> float:
        """Return the time of our own clock, in seconds since the Unix epoch."""
        return self._clock.wall_s()

    def signing_s(self) -> float:
        """Return the time to sign by: ours, corrected by the directory's report, in Unix seconds."""
        return self._clock.wall_s() + self.offset_s

    def correct(self, server_time_s: float) -> None:
        """Sign by `server_time_s` from now on, the time that the directory reports.

        Raises `ClockError` where that is further from our own than `CORRECTION_S_MAX`.
        """
        ahead_s = server_time_s - self._clock.wall_s()
        if abs(ahead_s) > CORRECTION_S_MAX:
            raise ClockError(ahead_s, CORRECTION_S_MAX)
        self.offset_s = ahead_s

    def take(self, document: Mapping[str, object]) -> None:
        """Keep the session or the claim that an answer grants."""
        session, claim = document.get("session"), document.get("claim")
        # A session that is given back unchanged ends when it would have ended.
        known = (self.session or "").encode()
        if isinstance(session, str) and not hmac.compare_digest(session.encode(), known):
            self.session = session
            self._session_ends_s = self._clock.monotonic_s() + LIFE_S - SESSION_MARGIN_S
        if isinstance(claim, str):
            self.claim = claim

    def end_session(self) -> None:
        """Drop the session, so that the next request is signed."""
        self.session = None

    def headers(self, level: ProofLevel, method: str, authority: str, path: str, body: bytes) -> Headers:
        """Return the headers that prove one request at that level; call it for each time it is sent."""
        if level is ProofLevel.NOTHING:
            return []
        if self.key is None:
            # A claim travels in clear: a sign of life carries it only where the directory demands it.
            needed = self.claim and (level is ProofLevel.NODE or self.claims_life)
            return [("Authorization", f"{CLAIM_SCHEME} {self.claim}")] if needed else []
        if level is ProofLevel.LIFE and self.session and self._clock.monotonic_s() < self._session_ends_s:
            return [("Authorization", f"{SESSION_SCHEME} {self.session}")]
        return signed_headers(method, authority, path, body, self.key, self._created(), self._nonce())

    def rotation_headers(
        self, new: PrivateKey, authority: str, path: str, body: bytes, *, lost: bool
    ) -> Headers:
        """Return the headers of a request for the key `new`. `lost`: the present key cannot sign it."""
        old = None if lost else self.key
        fields = rotation_headers(authority, path, body, old, new, self._created(), self._nonce())
        if self.key is None and self.claim:
            fields.append(("Authorization", f"{CLAIM_SCHEME} {self.claim}"))
        return fields

    def _created(self) -> int:
        return int(self.signing_s())

    def _nonce(self) -> str:
        return base64url(self._entropy(NONCE_BYTES))
