"""Who a client is, and how its requests show that: by a signature, a session, or a claim."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from enum import Enum

from ..clock import Clock
from ..encoding import base64url
from ..security.claims import SCHEME as CLAIM
from ..security.sessions import LIFE_S
from ..security.sessions import SCHEME as SESSION
from ..security.signing import PrivateKey, rotation_headers, signed_headers
from .errors import ClockError

# An id that begins so and goes on with the id of a key can be registered by that key alone.
SELF_CERTIFYING = "k-"
NONCE_BYTES = 16
# A session is not used in its last seconds: it would end on the way.
SESSION_MARGIN_S = 10.0
# Nobody has proved the time in a refusal. Somebody may keep a request that is signed for a later time, and
# send it then: a day later at most. A day is enough for a time zone that was set wrongly; a clock that is
# further off was never set, and could check no certificate and no key set either.
CORRECTION_S_MAX = 86_400.0

Headers = list[tuple[str, str]]


class Proof(Enum):
    """What a request has to show: nothing, that its node lives, or that it comes from the node itself."""

    NOTHING = "nothing"
    LIFE = "life"
    NODE = "node"


class Identity:
    """A node: its `node_id`, its `key` where it has one, and the proofs that it was granted.

    `claim` is the secret of a node without a key; `claims_life`: the directory wants it for signs of life,
    too. `offset_s` is how many seconds the directory says that its clock is ahead of ours; only what is
    signed goes by it. `entropy` gives random bytes.
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
        """The time of our own clock, in seconds since the Unix epoch."""
        return self._clock.wall_s()

    def signing_s(self) -> float:
        """The time to sign by: ours, corrected by what the directory says, in seconds since the epoch."""
        return self._clock.wall_s() + self.offset_s

    def correct(self, server_time_s: float) -> None:
        """Sign by `server_time_s` from now on, the time that the directory tells.

        Raises `ClockError` where that is further from our own than `CORRECTION_S_MAX`.
        """
        ahead_s = server_time_s - self._clock.wall_s()
        if abs(ahead_s) > CORRECTION_S_MAX:
            raise ClockError(ahead_s, CORRECTION_S_MAX)
        self.offset_s = ahead_s

    def take(self, document: Mapping[str, object]) -> None:
        """Keep the session or the claim that an answer grants."""
        session, claim = document.get("session"), document.get("claim")
        # A session that was renewed by being given back ends no later for that.
        known = (self.session or "").encode()
        if isinstance(session, str) and not hmac.compare_digest(session.encode(), known):
            self.session = session
            self._session_ends_s = self._clock.monotonic_s() + LIFE_S - SESSION_MARGIN_S
        if isinstance(claim, str):
            self.claim = claim

    def end_session(self) -> None:
        """Sign the next time."""
        self.session = None

    def live_session(self) -> str | None:
        """The session, where it is likely to be accepted."""
        return self.session if self._clock.monotonic_s() < self._session_ends_s else None

    def headers(self, proof: Proof, method: str, authority: str, path: str, body: bytes) -> Headers:
        """The header fields that show `proof` with one request, made anew for each time that it is sent."""
        if proof is Proof.NOTHING:
            return []
        if self.key is None:
            # A claim travels in clear: it is not sent for a mere sign of life, unless that is strict.
            needed = self.claim and (proof is Proof.NODE or self.claims_life)
            return [("Authorization", f"{CLAIM} {self.claim}")] if needed else []
        if proof is Proof.LIFE and (session := self.live_session()):
            return [("Authorization", f"{SESSION} {session}")]
        return signed_headers(method, authority, path, body, self.key, self._created(), self._nonce())

    def rotation_headers(
        self, new: PrivateKey, authority: str, path: str, body: bytes, *, lost: bool
    ) -> Headers:
        """The header fields of a request for the key `new`. `lost`: the node's own one cannot sign it."""
        old = None if lost else self.key
        fields = rotation_headers(authority, path, body, old, new, self._created(), self._nonce())
        if self.key is None and self.claim:
            fields.append(("Authorization", f"{CLAIM} {self.claim}"))
        return fields

    def _created(self) -> int:
        return int(self.signing_s())

    def _nonce(self) -> str:
        return base64url(self._entropy(NONCE_BYTES))
