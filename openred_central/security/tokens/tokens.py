"""Peer tokens: the directory's word to one node that another one is known to it.

A token is ``or3.<suite>.<key>.<payload>.<signature>``: the letter of a suite, the first 16 characters of the
id of a directory's key, and two pieces of base64url. What is signed is the pre-authentication encoding
(PASETO) of a label, of the text before the payload, and of the payload's bytes, which are never written anew
to be checked. The key decides the algorithm; the letter must agree with it. There is no field that could ask
for another algorithm, or for none.

Making and signing are apart, so that a thread can sign: `unsigned`, `Unsigned.message`, `Unsigned.assemble`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

import orjson

from ...encoding import base64url, decode_base64url, pre_authentication_encoding
from ..directory_keys.suites import SHORT_ID_CHARS, SUITES, VerifyingKey
from ..refused import CLOCK_SKEW_S, LIFETIME_S_MAX, TOKEN_CHARS_MAX, Refused

VERSION = "or3"
KIND = "peer"
LABEL = b"openred/3 token"
TOKEN_ID_BYTES = 16
# The audience of a token for whoever it is shown to.
ANYONE = "*"

LIFETIME_S = 300
LIFETIME_S_MIN = 30

# The claims on the wire, in the order of `PeerToken`.
REQUIRED = ("jti", "sub", "cnf", "aud", "pcnf", "iat", "exp", "gen", "pur")
PAIRED = ("pair", "link")

_TOKEN_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_SHORT_ID = re.compile(rf"[A-Za-z0-9_-]{{{SHORT_ID_CHARS}}}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_PAIR = re.compile(r"[0-9a-f]{32}")
_LINK = re.compile(r"[0-9a-f]{64}")
# What JSON and every language hold exactly.
_NUMBER_MAX = 2**53


class PeerToken(NamedTuple):
    """What a token says; the name of each claim on the wire is given in brackets.

    `token_id` (``jti``): 128 random bits as 22 characters. `node_id` (``sub``): whom it is about. `key_id`
    (``cnf``): the id of that node's key, None where it has proven none. `audience` (``aud``): the node it is
    for, or ``*``. `peer_key_id` (``pcnf``): the id of the audience's key. `issued_at` (``iat``), `expires_at`
    (``exp``): whole seconds since the Unix epoch. `generation` (``gen``): tokens of an earlier generation of
    the node's key are void. `purpose` (``pur``): what the node asked for it for. `pair` and `link`, under the
    same names: what binds two tokens to each other (`link`), None in a token that stands alone.
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
        """What is signed."""
        return pre_authentication_encoding(LABEL, self.header.encode(), self.payload)

    def assemble(self, signature: bytes) -> str:
        """The token, with the signature of `message`."""
        return f"{self.header}{base64url(self.payload)}.{base64url(signature)}"


class TokenKeys(Protocol):
    """Where the keys of tokens are looked up; a `KeySet` is one."""

    def find(self, short_id: str, now_s: float) -> VerifyingKey:
        """The key whose id begins with `short_id`, where it is valid now. Raises `Refused`."""


def new_token_id(entropy: Callable[[int], bytes]) -> str:
    """An id for a token, made of random bytes from `entropy`."""
    return base64url(entropy(TOKEN_ID_BYTES))


def lifetime_s(requested_s: float | None) -> int:
    """How long a token lives, in seconds: what was requested, within what is allowed."""
    if requested_s is None:
        return LIFETIME_S
    return int(min(max(requested_s, LIFETIME_S_MIN), LIFETIME_S_MAX))


def unsigned(token: PeerToken, key: VerifyingKey) -> Unsigned:
    """`token`, ready to be signed by `key`. Raises `ValueError` where no verifier would accept it."""
    if complaint := _complaint(token):
        raise ValueError(complaint)
    claims: dict[str, object] = {
        name: value
        for name, value in zip(("t", *REQUIRED, *PAIRED), (KIND, *token), strict=True)
        if value is not None or name in REQUIRED
    }
    return Unsigned(f"{VERSION}.{key.suite.letter}.{key.short_id}.", orjson.dumps(claims))


def verify_token(text: str, keys: TokenKeys, now_s: float, *, audience: str | None = None) -> PeerToken:
    """What a token says that is signed by one of `keys` and valid at wall time `now_s`.

    `audience` is the node it is shown to, None where that does not matter. Needs nothing but the keys:
    whether it was revoked, and whether its generation is still the node's, only the directory knows. Raises
    `Refused` with one of the reasons ``malformed``, ``signature``, ``not_yet``, ``expired``, ``audience``,
    and those of `keys`.
    """
    header, payload, signature, key = _parse(text, keys, now_s)
    if not key.verify(signature, Unsigned(header, payload).message):
        raise Refused("signature", "the token was not signed by the directory, or was changed since")
    token = _claims(payload)
    if now_s < token.issued_at - CLOCK_SKEW_S:
        raise Refused("not_yet", f"the token is valid from {token.issued_at} on; is your clock right?")
    if now_s >= token.expires_at:
        raise Refused("expired", f"the token was valid until {token.expires_at}; ask for a new one")
    if audience is not None and token.audience not in (audience, ANYONE):
        raise Refused("audience", f"the token is for {token.audience}, not for {audience}")
    return token


def _parse(text: str, keys: TokenKeys, now_s: float) -> tuple[str, bytes, bytes, VerifyingKey]:
    """Header, payload, signature and key of a token that is one by its form."""
    if len(text) > TOKEN_CHARS_MAX:
        raise Refused("malformed", f"a token has at most {TOKEN_CHARS_MAX} characters, not {len(text)}")
    pieces = text.split(".")
    if len(pieces) != 5 or pieces[0] != VERSION:
        raise Refused("malformed", f"a token has five pieces with dots between, the first is {VERSION}")
    _, letter, short_id, payload_text, signature_text = pieces
    if letter not in SUITES or not _SHORT_ID.fullmatch(short_id):
        raise Refused("malformed", "the token names no suite or no key that could be")
    try:
        payload, signature = decode_base64url(payload_text), decode_base64url(signature_text)
    except ValueError as error:
        raise Refused("malformed", f"a piece of the token is {error}") from None
    key = keys.find(short_id, now_s)
    if key.suite.letter != letter:
        raise Refused("malformed", f"key {short_id} signs in suite {key.suite.letter}, not {letter}")
    return f"{VERSION}.{letter}.{short_id}.", payload, signature, key


def _claims(payload: bytes) -> PeerToken:
    """The claims in a payload. Those that are not known are passed over: later versions may add some."""
    try:
        claims = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise Refused("malformed", "the payload is not JSON") from None
    if not isinstance(claims, dict) or claims.get("t") != KIND:
        raise Refused("malformed", f"the payload is not that of a token of kind {KIND}")
    if missing := [name for name in REQUIRED if name not in claims]:
        raise Refused("malformed", f"the payload lacks {', '.join(missing)}")
    token = PeerToken._make(claims.get(name) for name in (*REQUIRED, *PAIRED))
    if complaint := _complaint(token):
        raise Refused("malformed", complaint)
    return token


def _complaint(token: PeerToken) -> str:
    """What is wrong with the values of a token; empty where nothing is. They may be of any type."""
    for name, value in (("sub", token.node_id), ("aud", token.audience), ("pur", token.purpose)):
        if not isinstance(value, str):
            return f"{name} is no text"
    if not token.node_id or not token.audience:
        return "sub and aud cannot be empty"
    for name, number in (("iat", token.issued_at), ("exp", token.expires_at), ("gen", token.generation)):
        # A truth value is a number to Python.
        if type(number) is not int or not 0 <= number < _NUMBER_MAX:
            return f"{name} is no whole number that could be"
    if not 0 < token.expires_at - token.issued_at <= LIFETIME_S_MAX:
        return f"exp lies not within {LIFETIME_S_MAX} s after iat"
    if not _is(_TOKEN_ID, token.token_id):
        return "jti is no id of a token"
    for name, key_id in (("cnf", token.key_id), ("pcnf", token.peer_key_id)):
        if key_id is not None and not _is(_KEY_ID, key_id):
            return f"{name} is no id of a key"
    if token.pair is None and token.link is None:
        return ""
    if not _is(_PAIR, token.pair) or not _is(_LINK, token.link):
        return "pair and link are no pair and link"
    return ""


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
