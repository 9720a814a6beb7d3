"""Why a request proves nothing, and why a token, a pair, a proof of possession or a key set is refused."""

from __future__ import annotations

# Reason → HTTP status (RFC 9110 §15). 400: no reader of the profile could take it; 401: it proves nothing
# here and now, another proof may; 429: wait.
REASONS = {
    "proof_required": 401,
    "signature_syntax": 400,
    "signature_expired": 401,
    "signature_early": 401,
    "digest_mismatch": 401,
    "wrong_authority": 401,
    "wrong_key": 401,
    "wrong_algorithm": 401,
    "bad_signature": 401,
    "replayed": 401,
    "too_many_proofs": 429,
    "session_syntax": 401,
    "session_expired": 401,
    "session_revoked": 401,
    "bad_session": 401,
}

# A pair token of the longest suite has about 5,400 characters, 6,000 with the longest ids.
TOKEN_CHARS_MAX = 8_192
# The longest life of a token, in seconds.
LIFETIME_S_MAX = 3_600
# How far the clocks of the directory and of a peer may lie apart.
CLOCK_SKEW_S = 30


class ProofError(Exception):
    """A request is not shown to come from the node it speaks for.

    `code` is one of `REASONS`, stable and for machines; `status` its HTTP status; `message` says what was
    wrong and what is expected, for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.status = REASONS[code]
        self.message = message


class VerificationError(Exception):
    """A signed token, pair, proof of possession or key set does not verify.

    `reason` is the stable name of what is wrong, such as ``expired``; `message` explains it to a person.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
