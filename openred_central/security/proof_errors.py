"""The one error of everything that should show who sent a request, and does not."""

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
