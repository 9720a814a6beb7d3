"""HTTP message signatures (RFC 9421) in one fixed profile, ``openred-3``: they show who sent a request.

    Content-Digest: sha-256=:<base64 of the SHA-256 of the body>:
    Signature-Input: sig1=("@method" "@authority" "@path" "content-digest");created=1766400000;nonce="<16 to
        64 characters>";keyid="<key id>";tag="openred-3"
    Signature: sig1=:<base64>:

A request with a body covers these four components in this order, one without a body the first three. The
parameters stand in any order; ``expires`` and ``alg`` may be added. The form is so strict that a regular
expression reads it, and the parameters go into the signature base as they were received.

The order of work goes from cheap to expensive: `read_signature`, the authority, `check_time`, then the
caller's budget of failed proofs and its look-up of the key, then `check_proof`, and with its result
`ReplayRings.admit`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import NamedTuple

from ..encoding import KEY_ID, decode_base64, key_id
from .authority import HOST_CHANGED, signed_authority
from .node_keys import ALGORITHMS, kind_of, verify
from .refusals import ProofError

TAG = "openred-3"
LABEL = "sig1"
# The two signatures of a request that exchanges a node's key.
OLD_LABEL = "old"
NEW_LABEL = "new"

# A signature is accepted this long after it was made, and this long before, for clocks that are fast.
AGE_S_MAX = 60
EARLY_S_MAX = 30

WITHOUT_BODY = '("@method" "@authority" "@path")'
WITH_BODY = '("@method" "@authority" "@path" "content-digest")'

_SIGNATURES_MAX = 4
_OUR_TAG = f';tag="{TAG}"'
_UINT32_MAX = 2**32 - 1
_LABEL = r"[a-z*][a-z0-9_.*-]{0,31}"
_STRING = r'"[!#-\[\]-~]{0,128}"'
_INPUT = re.compile(rf"({_LABEL})=((\([^()]*\))((?:;[a-z]+=(?:[0-9]{{1,15}}|{_STRING}))*))", re.ASCII)
_PARAMETER = re.compile(rf";([a-z]+)=(?:([0-9]+)|({_STRING}))", re.ASCII)
_BASE64 = r"[A-Za-z0-9+/]{1,684}={0,2}"
_BYTES = re.compile(rf"({_LABEL})=:({_BASE64}):", re.ASCII)
_NEXT = re.compile(r"[ \t]*,[ \t]*")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):", re.ASCII)
_NONCE_CHARACTERS_MIN = 16
_NONCE_CHARACTERS_MAX = 64
# Signature-Input and Signature, a line each, of a request without body, with parameters in their usual order.
_USUAL = re.compile(
    rf"({_LABEL})=({re.escape(WITHOUT_BODY)};created=([1-9][0-9]{{8,9}})"
    rf';nonce="([!#-\[\]-~]{{{_NONCE_CHARACTERS_MIN},{_NONCE_CHARACTERS_MAX}}})"'
    rf';keyid="({KEY_ID.pattern})";tag="{TAG}")\n\1=:({_BASE64}):',
    re.ASCII,
)

# Headers that must not come twice: nobody could say which of two was signed.
_ONCE = frozenset({"host", "signature", "signature-input", "content-digest", "content-length"})
_INTEGERS = frozenset({"created", "expires"})
_STRINGS = frozenset({"nonce", "keyid", "tag", "alg"})
_REQUIRED = frozenset({"created", "nonce", "keyid", "tag"})

_EXAMPLE = f'{LABEL}={WITH_BODY};created=<seconds>;nonce="<16 to 64 characters>";keyid="<key id>";tag="{TAG}"'


class Message(NamedTuple):
    """A request as signatures see it.

    `authority` is the host and port it is for, `path` and `query` are as received, `fields` are the headers
    in order, with names in lower case.
    """

    method: str
    authority: str
    path: str
    query: str
    body: bytes
    fields: tuple[tuple[str, str], ...]


class Signature(NamedTuple):
    """A signature as a request states it; nothing of it is proven yet.

    `created` and `expires` are seconds of Unix time; `parameters` is the list of components and all after
    it, verbatim; `signature` is bytes; `digest` is the value of ``Content-Digest``, empty without a body.
    """

    label: str
    created: int
    expires: int | None
    nonce: str
    key_id: str
    algorithm: str | None
    parameters: str
    signature: bytes
    digest: str


class Proof(NamedTuple):
    """A signature that was checked and holds. Only `check_proof` makes one."""

    key_id: str
    created: int
    nonce: str


def read_signature(message: Message) -> Signature:
    """Return the one signature of a request, not yet checked. It may have any label.

    Raises `ProofError` ``proof_required`` where there is none, and ``signature_syntax`` where it is not of
    this profile.
    """
    usual = read_usual(message)
    if usual is not None:
        return usual
    signatures = _read(message)
    if len(signatures) != 1:
        raise _syntax(f"The request has {len(signatures)} signatures, allowed is one.")
    return signatures[0]


def read_rotation(message: Message) -> tuple[Signature | None, Signature]:
    """Return the signatures of a request that exchanges a key: by the old key or None, and by the new one.

    Their labels are ``old`` and ``new``. Raises `ProofError` as `read_signature` does.
    """
    by_label = {signature.label: signature for signature in _read(message)}
    if NEW_LABEL not in by_label or not by_label.keys() <= {OLD_LABEL, NEW_LABEL}:
        raise _syntax(
            f"The request has the signatures {', '.join(by_label)}; expected are {OLD_LABEL}, by the present "
            f"key, and {NEW_LABEL}, by the new one."
        )
    return by_label.get(OLD_LABEL), by_label[NEW_LABEL]


def check_time(signature: Signature, wall_s: float, started_wall_s: float) -> None:
    """Raise `ProofError` where a signature is too old, from before the start of this process, or too new.

    A process does not know what its predecessor accepted, so it refuses all that was signed before it
    started. One gap remains: a node whose clock is fast signs for up to `EARLY_S_MAX` ahead, and a quicker
    restart forgets having accepted that. `wall_s` is now and `started_wall_s` when the process started, both
    in seconds of Unix time.
    """
    created = signature.created
    if created < wall_s - AGE_S_MAX:
        raise ProofError(
            "signature_expired",
            f"The signature is {wall_s - created:.0f} s old, allowed are {AGE_S_MAX} s. Sign again; "
            "set your clock if it is slow.",
        )
    if created < started_wall_s:
        raise ProofError("signature_expired", "The directory has started since this was signed. Sign again.")
    if created > wall_s + EARLY_S_MAX:
        raise ProofError(
            "signature_early",
            f"The signature is from {created - wall_s:.0f} s in the future, allowed are {EARLY_S_MAX} s. "
            "Your clock is fast: set it, and sign again.",
        )
    if signature.expires is not None and signature.expires <= wall_s:
        raise ProofError("signature_expired", "The signature has expired by its own `expires`. Sign again.")


def check_proof(signature: Signature, message: Message, spki: bytes) -> Proof:
    """Return what `signature` proves, which must be one of `message` by the accepted key `spki`.

    Raises `ProofError`: ``wrong_key``, ``wrong_algorithm``, ``digest_mismatch`` or ``bad_signature``.
    """
    if signature.key_id != key_id(spki):
        raise ProofError(
            "wrong_key", f"The signature is by the key {signature.key_id}, which is not the key of this node."
        )
    expected = ALGORITHMS[kind_of(spki)]
    if signature.algorithm not in (None, expected):
        raise ProofError(
            "wrong_algorithm",
            f"The signature says alg={signature.algorithm}, but this key signs by {expected}.",
        )
    check_digest(signature.digest, message.body)
    # The default port depends on the scheme, which a proxy may have changed: try both spellings.
    for authority in dict.fromkeys((signed_authority(message.authority), message.authority.lower())):
        base = request_base(message.method, authority, message.path, signature.digest, signature.parameters)
        if verify(spki, signature.signature, base):
            return Proof(signature.key_id, signature.created, signature.nonce)
    raise ProofError(
        "bad_signature",
        "The signature does not fit the request. It must be of the signature base for "
        f"{message.method} {signed_authority(message.authority)} {message.path}, all as it was sent. "
        f"{HOST_CHANGED}",
    )


def check_digest(digest: str, body: bytes) -> None:
    """Raise `ProofError` ``digest_mismatch`` where `digest`, a ``Content-Digest``, is not that of `body`.

    A request without a body has the empty `digest`; RFC 9530 §2 holds for all others.
    """
    if not digest and not body:
        return
    # Others may stand beside it (RFC 9530 §2). The signature covers them all; only this one is checked.
    matches = [match for member in digest.split(",") if (match := _DIGEST.fullmatch(member.strip(" \t")))]
    if len(matches) != 1:
        raise _syntax(
            "Content-Digest is malformed; needed is sha-256=:<base64 of the SHA-256 of the body>:, once, and "
            "digests by other algorithms may stand beside it."
        )
    (match,) = matches
    if not hmac.compare_digest(_decode(match[1], "Content-Digest"), hashlib.sha256(body).digest()):
        raise ProofError("digest_mismatch", "Content-Digest is not the SHA-256 of the body that arrived.")


def request_base(method: str, authority: str, path: str, digest: str, parameters: str) -> bytes:
    """Return the bytes that are signed of a request in this profile (RFC 9421 §2.5).

    `authority` is as `signed_authority` returns it; `digest` is empty where there is no body; `parameters` is
    the list of the components and all after it.
    """
    covered = f'"@method": {method}\n"@authority": {authority}\n"@path": {path}\n'
    if digest:
        covered += f'"content-digest": {digest}\n'
    return f'{covered}"@signature-params": {parameters}'.encode("ascii")


def content_digest(body: bytes) -> str:
    """Return the value of ``Content-Digest`` for `body` (RFC 9530 §2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def accept_signature(*, with_body: bool) -> str:
    """Return the ``Accept-Signature`` that asks for a signature of this profile (RFC 9421 §5.1)."""
    return f'{LABEL}={WITH_BODY if with_body else WITHOUT_BODY};created;nonce;keyid;tag="{TAG}"'


def read_usual(message: Message) -> Signature | None:
    """Return the signature of a request without body if it has the usual form, None if `_read` has to see."""
    if message.body or message.query or not message.authority:
        return None
    fields = dict(message.fields)
    covered = f"{message.method} {message.authority} {message.path}"
    if (
        len(fields) != len(message.fields)
        or not covered.isprintable()
        or not "".join((covered, *fields.values())).isascii()
    ):
        return None
    match = _USUAL.fullmatch(f"{fields.get('signature-input')}\n{fields.get('signature')}")
    if match is None or int(match[3]) > _UINT32_MAX:
        return None
    label, parameters, created, nonce, key, text = match.groups()
    signature = _decode(text, "Signature")
    return Signature(label, int(created), None, nonce, key, None, parameters, signature, "")


def _read(message: Message) -> list[Signature]:
    values = _once(message.fields)
    if "signature-input" not in values and "signature" not in values:
        raise ProofError(
            "proof_required", f"The request is not signed. Expected is Signature-Input: {_EXAMPLE}"
        )
    if message.query:
        raise _syntax(
            "A signed request has no query: it would not be covered. Leave out the `?` and what follows."
        )
    covered = f"{message.method} {message.authority} {message.path}"
    if not message.authority or not covered.isascii() or not covered.isprintable():
        raise _syntax("Method, host and path of a signed request must be there, in printable ASCII.")
    digest = values.get("content-digest", "") if message.body else ""
    if message.body and not digest:
        raise _syntax("Content-Digest is missing; expected is sha-256=:<base64 of the SHA-256 of the body>:")
    components = WITH_BODY if message.body else WITHOUT_BODY
    inputs = _members(_INPUT, values.get("signature-input", ""), "Signature-Input", _EXAMPLE)
    signed = _members(_BYTES, values.get("signature", ""), "Signature", f"{LABEL}=:<base64>:")
    # A proxy may sign for itself under another tag: that is not ours to check.
    if len(inputs) > 1 and (
        ours := {label: match for label, match in inputs.items() if _OUR_TAG in match[4]}
    ):
        inputs, signed = ours, {label: match for label, match in signed.items() if label in ours}
    if inputs.keys() != signed.keys():
        raise _syntax("Signature-Input and Signature do not have the same labels.")
    return [
        _signature(match, components, _decode(signed[label][2], "Signature"), digest)
        for label, match in inputs.items()
    ]


def _once(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers that matter to signatures, none of them twice."""
    values: dict[str, str] = {}
    for name, value in fields:
        if name in _ONCE:
            if name in values:
                raise _syntax(f"The request has the header {name} twice, allowed is once.")
            if not value.isascii():
                raise _syntax(f"The header {name} has characters outside of ASCII.")
            values[name] = value
    return values


def _members(pattern: re.Pattern[str], value: str, field: str, example: str) -> dict[str, re.Match[str]]:
    """Return the few members of a dictionary (RFC 8941 §3.2), label → match."""
    # Nearly always there is one.
    match = pattern.fullmatch(value)
    if match is not None:
        return {match[1]: match}
    members: dict[str, re.Match[str]] = {}
    position = 0
    # At most two are the node's; the others are by proxies.
    while len(members) < _SIGNATURES_MAX:
        match = pattern.match(value, position)
        if match is None or match[1] in members:
            break
        members[match[1]] = match
        if match.end() == len(value):
            return members
        comma = _NEXT.match(value, match.end())
        if comma is None:
            break
        position = comma.end()
    raise _syntax(f"{field} is malformed; expected is {example}")


def _signature(match: re.Match[str], components: str, signature: bytes, digest: str) -> Signature:
    """Return one member of ``Signature-Input`` with its `signature`. It must cover `components`."""
    if match[3] != components:
        raise _syntax(
            f"The signature covers {match[3][:200]}; expected for this request is exactly {components}"
        )
    given: dict[str, str] = {}
    for name, number, quoted in _PARAMETER.findall(match[4]):
        if name in given:
            raise _syntax(f"The signature has the parameter {name} twice, allowed is once.")
        if name not in (_INTEGERS if number else _STRINGS):
            raise _syntax(
                f"The parameter {name} of the signature is unknown or of the wrong type; "
                "known are created, expires (integers), nonce, keyid, tag, alg (strings)."
            )
        given[name] = number or quoted[1:-1]
    if not given.keys() >= _REQUIRED:
        raise _syntax(f"The signature lacks the parameter {min(_REQUIRED - given.keys())}.")
    if given["tag"] != TAG:
        raise _syntax(f'The signature has another tag than "{TAG}".')
    if not _NONCE_CHARACTERS_MIN <= len(given["nonce"]) <= _NONCE_CHARACTERS_MAX:
        raise _syntax(f"The nonce must have {_NONCE_CHARACTERS_MIN} to {_NONCE_CHARACTERS_MAX} characters.")
    if KEY_ID.fullmatch(given["keyid"]) is None:
        raise _syntax(
            "keyid must be the base64url SHA-256 of the key's DER SubjectPublicKeyInfo, 43 characters."
        )
    created, expires = _integer("created", given["created"]), None
    if "expires" in given:
        expires = _integer("expires", given["expires"])
    return Signature(
        label=match[1],
        created=created,
        expires=expires,
        nonce=given["nonce"],
        key_id=given["keyid"],
        algorithm=given.get("alg"),
        parameters=match[2],
        signature=signature,
        digest=digest,
    )


def _integer(name: str, text: str) -> int:
    seconds = int(text)
    if seconds > _UINT32_MAX or (text[0] == "0" and text != "0"):
        raise _syntax(f"{name} must be in whole seconds since 1970, without leading zeros.")
    return seconds


def _decode(text: str, field: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        raise _syntax(f"{field} holds base64 that is not in its one form.") from None


def _syntax(message: str) -> ProofError:
    return ProofError("signature_syntax", message)
