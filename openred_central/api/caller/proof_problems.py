"""Errors of requests without a valid proof: what is wrong, and which proof is accepted."""

from __future__ import annotations

from ...clock import Now
from ...errors import CallerError
from ...micro_engine.wire.messages import Request
from ...security.refusals import ProofError
from ...security.sessions import CLAIM_SCHEME, SESSION_SCHEME
from ...security.signatures import AGE_S_MAX, accept_signature
from ...wording import rfc3339
from .limiting import PROOFS, QUOTA_EXCEEDED


def refused(request: Request, error: ProofError, now: Now) -> CallerError:
    """Make the reply to `error`; it has the server's time, for callers whose clock is wrong."""
    members = {"reason": error.code, "server_time": rfc3339(now.wall_s)}
    if error.status == 400:
        return CallerError(
            400,
            "bad_request",
            error.message,
            suggestion="Sign as `openred-central example sign` shows.",
            members=members,
        )
    if error.status == 429:
        return CallerError(
            429,
            "rate_limited",
            error.message,
            suggestion=f"Try again in {AGE_S_MAX} s.",
            headers=(("Retry-After", str(AGE_S_MAX)),),
            problem_type=QUOTA_EXCEEDED,
            members={**members, "violated-policies": [PROOFS]},
        )
    return CallerError(
        401,
        "proof_required",
        error.message,
        suggestion="Sign the request with the node's key (RFC 9421), as Accept-Signature says; a node "
        f"that never signed may send `Authorization: {CLAIM_SCHEME} <secret>` with its claim.",
        headers=(
            ("WWW-Authenticate", f"{SESSION_SCHEME}, {CLAIM_SCHEME}"),
            ("Accept-Signature", accept_signature(with_body=bool(request.body))),
        ),
        members=members,
    )


def not_the_claim() -> CallerError:
    """Make the 403 for an ``Authorization`` that is neither a session nor the claim of the node."""
    return CallerError(
        403,
        "forbidden",
        "The Authorization header does not hold the claim of this node.",
        suggestion=f"Send `Authorization: {CLAIM_SCHEME} <secret>` with the claim from its registration.",
    )


def key_is_text() -> CallerError:
    """Make the 401 for a signature of a node whose key is only text."""
    return CallerError(
        401,
        "proof_required",
        "The node has no key to check a signature with: it registered only text.",
        suggestion="Register a public key, and prove the change with "
        f"`Authorization: {CLAIM_SCHEME} <secret>`.",
        headers=(("WWW-Authenticate", CLAIM_SCHEME),),
    )


def no_key() -> CallerError:
    """Make the 400 for a signed registration whose own key is only text."""
    return CallerError(
        400,
        "invalid_key",
        "The registration is signed, but its public_key is only text, which cannot check a signature.",
        suggestion="Send the public key as PEM, as base64 of DER, or as base64 of the 32 bytes of Ed25519.",
        fields={"public_key": "is not a key"},
    )


def name_of_another_key(node_id: str, own: str) -> CallerError:
    """Make the 409 for a `node_id` that names another key than the signing one, whose name is `own`."""
    return CallerError(
        409,
        "node_id_taken",
        f"The node_id {node_id!r} names a key, and only that key may register it.",
        suggestion=f"Register as {own}, or under a name that does not begin with k-.",
    )


def next_key_unsigned() -> CallerError:
    """Make the 400 for an unsigned registration that names the next key."""
    return CallerError(
        400,
        "bad_request",
        "Only a signed registration may name the next key.",
        suggestion="Sign the request with the node's key, or leave out next_key.",
        fields={"next_key": "needs a signature"},
    )
