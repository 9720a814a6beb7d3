"""Peer tokens: the directory's statement to one node that it knows another one.

A token is ``or3.<suite>.<key>.<payload>.<signature>``: the letter of a suite, the first 16 characters of the
id of a directory's key, and two pieces of base64url. The signature covers the pre-authentication encoding
(PASETO) of a label, of the text before the payload, and of the payload's bytes as received. The key decides
the algorithm; the letter must agree with it. No field can ask for another algorithm, or for none.

Making and signing are apart, so that a thread can sign: `unsigned`, `Unsigned.message`, `Unsigned.assemble`.
A `Mint` signs tokens for the endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

import orjson

from ...encoding import KEY_ID, TOKEN_ID, base64url, decode_base64url, pre_authentication_encoding
from ..directory_keys.keyset import KeySet
from ..directory_keys.suites import SHORT_ID_CHARS, SUITES, VerifyingKey
from ..refusals import CLOCK_SKEW_S, LIFETIME_S_MAX, TOKEN_CHARS_MAX, VerificationError

VERSION = "or3"
KIND = "peer"
LABEL = b"openred/3 token"
TOKEN_ID_BYTES = 16
# The audience of a token that may be shown to anybody.
ANYONE = "*"

LIFETIME_S = 300
LIFETIME_S_MIN = 30
# When a mint that is busy can probably sign again.
RETRY_AFTER_S = 1

# The claims on the wire, in the order of `PeerToken`.
REQUIRED = ("jti", "sub", "cnf", "aud", "pcnf", "iat", "exp", "gen", "pur")
PAIRED = ("pair", "link")

_SHORT_ID = re.compile(rf"[A-Za-z0-9_-]{{{SHORT_ID_CHARS}}}")
_PAIR = re.compile(r"[0-9a-f]{32}")
_LINK = re.compile(r"[0-9a-f]{64}")
# JSON holds whole numbers up to this exactly in every language.
_NUMBER_MAX = 2**53


class PeerToken(NamedTuple):
    """The claims of a token; brackets give the name of each claim on the wire.

    `token_id` (``jti``): 128 random bits as 22 characters. `node_id` (``sub``): the node it is about.
    `key_id` (``cnf``): the id of that node's key, None where it has proven none. `audience` (``aud``): the
    node it is for, or ``*``. `peer_key_id` (``pcnf``): the id of the audience's key. `issued_at` (``iat``),
    `expires_at` (``exp``): whole seconds since the Unix epoch. `generation` (``gen``): tokens of an earlier
    generation of the node's key are void. `purpose` (``pur``): the use that the node named. `pair` and
    `link`, under these names: they bind two tokens to each other (`link`), and are None in a token that
    stands alone.
    """

    token_id: str
    node_id: str
    key_id: str | None
    audience: str
    peer_key_id: str | None
    issued_at: int
    expires_at: int
    generation: int
    purpose: str
    pair: str | None = None
    link: str | None = None


class Unsigned(NamedTuple):
    """A token but for its signature: the text before the payload, and the payload."""

    header: str
    payload: bytes

    @property
    def message(self) -> bytes:
        return pre_authentication_encoding(LABEL, self.header.encode(), self.payload)

    def assemble(self, signature: bytes) -> str:
        return f"{self.header}{base64url(self.payload)}.{base64url(signature)}"


class TokenKeys(Protocol):
    """A place to look up the keys of tokens, such as a `KeySet`."""

    def find(self, short_id: str, now_s: float) -> VerifyingKey:
        """Return the valid key whose id begins with `short_id`. Raises `VerificationError`."""


class Busy(Exception):
    """The keys can sign no token at the moment; in `retry_after_s` seconds they probably can."""

    retry_after_s = RETRY_AFTER_S


class NoKey(Busy):
    """There is no signing key: the keys cannot be used, or the key set is still to be signed."""


class Publication(NamedTuple):
    """The key set that is served, the bytes of its document, and their entity tag (RFC 9110 §8.8.3)."""

    keyset: KeySet
    document: bytes
    etag: str


class Mint(Protocol):
    """The signer of tokens, as the endpoints see it."""

    async def ready(self) -> None:
        """Return when the keys are open, or cannot be opened: only then `publication` says anything."""

    @property
    def publication(self) -> Publication | None:
        """The key set by which peers check tokens; None before there are keys."""

    @property
    def root_suite(self) -> str | None:
        """The letter of the suite in which the key set is signed; None before there are keys."""

    @property
    def public_key(self) -> str | None:
        """The public key that checks the tokens signed now: base64 of PEM; None before there are keys."""

    def mint(self, *tokens: PeerToken) -> Awaitable[tuple[str, ...]]:
        """Return the text of `tokens`, signed together. Raises `Busy`."""


def new_token_id(entropy: Callable[[int], bytes]) -> str:
    """Return an id for a token, made of random bytes from `entropy`."""
    return base64url(entropy(TOKEN_ID_BYTES))


def lifetime_s(requested_s: float | None) -> int:
    """Return the life of a token in seconds: the requested one, within the limits."""
    if requested_s is None:
        return LIFETIME_S
    return int(min(max(requested_s, LIFETIME_S_MIN), LIFETIME_S_MAX))


def unsigned(token: PeerToken, key: VerifyingKey) -> Unsigned:
    """Return `token` ready to be signed by `key`. Raises `ValueError` where no verifier would accept it."""
    if complaint := _complaint(token):
        raise ValueError(complaint)
    claims: dict[str, object] = {
        name: value
        for name, value in zip(("t", *REQUIRED, *PAIRED), (KIND, *token), strict=True)
        if value is not None or name in REQUIRED
    }
    return Unsigned(f"{VERSION}.{key.suite.letter}.{key.short_id}.", orjson.dumps(claims))


def verify_token(text: str, keys: TokenKeys, now_s: float, *, audience: str | None = None) -> PeerToken:
    """Return the claims of a token, which must be signed by one of `keys` and valid at wall time `now_s`.

    `audience` is the node it is shown to, None where that does not matter. This needs the keys alone; only
    the directory knows whether the token was revoked, and whether its generation is still the node's. Raises
    `VerificationError` with the reason ``malformed``, ``signature``, ``not_yet``, ``expired`` or
    ``audience``, and with those of `keys`.
    """
    header, payload, signature, key = _parse(text, keys, now_s)
    if not key.verify(signature, Unsigned(header, payload).message):
        raise VerificationError(
            "signature", "the token was not signed by the directory, or was changed since"
        )
    token = _claims(payload)
    if now_s < token.issued_at - CLOCK_SKEW_S:
        raise VerificationError(
            "not_yet", f"the token is valid from {token.issued_at} on; is your clock right?"
        )
    if now_s >= token.expires_at:
        raise VerificationError("expired", f"the token was valid until {token.expires_at}; ask for a new one")
    if audience is not None and token.audience not in (audience, ANYONE):
        raise VerificationError("audience", f"the token is for {token.audience}, not for {audience}")
    return token


def _parse(text: str, keys: TokenKeys, now_s: float) -> tuple[str, bytes, bytes, VerifyingKey]:
    """Return header, payload, signature and key of a well-formed token."""
    if len(text) > TOKEN_CHARS_MAX:
        raise VerificationError(
            "malformed", f"a token has at most {TOKEN_CHARS_MAX} characters, not {len(text)}"
        )
    pieces = text.split(".")
    if len(pieces) != 5 or pieces[0] != VERSION:
        raise VerificationError(
            "malformed", f"a token has five pieces with dots between, the first is {VERSION}"
        )
    _, letter, short_id, payload_text, signature_text = pieces
    if letter not in SUITES or not _SHORT_ID.fullmatch(short_id):
        raise VerificationError("malformed", "the token names no suite or no key that could be")
    try:
        payload, signature = decode_base64url(payload_text), decode_base64url(signature_text)
    except ValueError as error:
        raise VerificationError("malformed", f"a piece of the token is {error}") from None
    key = keys.find(short_id, now_s)
    if key.suite.letter != letter:
        raise VerificationError(
            "malformed", f"key {short_id} signs in suite {key.suite.letter}, not {letter}"
        )
    return f"{VERSION}.{letter}.{short_id}.", payload, signature, key


def _claims(payload: bytes) -> PeerToken:
    """Return the claims in a payload. Unknown ones are ignored: later versions may add some."""
    try:
        claims = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise VerificationError("malformed", "the payload is not JSON") from None
    if not isinstance(claims, dict) or claims.get("t") != KIND:
        raise VerificationError("malformed", f"the payload is not that of a token of kind {KIND}")
    if missing := [name for name in REQUIRED if name not in claims]:
        raise VerificationError("malformed", f"the payload lacks {', '.join(missing)}")
    token = PeerToken._make(claims.get(name) for name in (*REQUIRED, *PAIRED))
    if complaint := _complaint(token):
        raise VerificationError("malformed", complaint)
    return token


def _complaint(token: PeerToken) -> str:
    """Return the fault of the values of a token, which may be of any type, or an empty text."""
    for name, value in (("sub", token.node_id), ("aud", token.audience), ("pur", token.purpose)):
        if not isinstance(value, str):
            return f"{name} is no text"
    if not token.node_id or not token.audience:
        return "sub and aud cannot be empty"
    for name, number in (("iat", token.issued_at), ("exp", token.expires_at), ("gen", token.generation)):
        # A bool is an int to Python.
        if type(number) is not int or not 0 <= number < _NUMBER_MAX:
            return f"{name} is no whole number that could be"
    if not 0 < token.expires_at - token.issued_at <= LIFETIME_S_MAX:
        return f"exp lies not within {LIFETIME_S_MAX} s after iat"
    if not _is(TOKEN_ID, token.token_id):
        return "jti is no id of a token"
    for name, key_id in (("cnf", token.key_id), ("pcnf", token.peer_key_id)):
        if key_id is not None and not _is(KEY_ID, key_id):
            return f"{name} is no id of a key"
    if token.pair is None and token.link is None:
        return ""
    if not _is(_PAIR, token.pair) or not _is(_LINK, token.link):
        return "pair and link are no pair and link"
    return ""


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
