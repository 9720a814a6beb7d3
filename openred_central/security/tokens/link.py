"""The mathematical link: it binds two tokens so that either node can check that alone, without the directory.

The directory makes two tokens at once, one about each node, for the other. The link is a hash over both
nodes, both keys, both tokens' ids and their times; it stands in both tokens. No token states the id of its
counterpart, so the link commits to exactly these two: two tokens for the same nodes from two requests do not
fit together.

The signatures of the tokens show that the directory made them; the link adds the exact pairing. The triple
hash makes collisions no harder to find than the SHA-256 around it does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from ...encoding import base64url, pre_authentication_encoding
from ..refusals import VerificationError
from .tokens import ANYONE, PeerToken, TokenKeys, new_token_id, verify_token

LABEL = b"openred/3 link"
PAIR_BYTES = 16


class Side(NamedTuple):
    """One of two nodes: its id, the id of its proven key or None, and the generation of that key."""

    node_id: str
    key_id: str | None
    generation: int


class Pair(NamedTuple):
    """Two tokens that belong together, as text and decoded."""

    text_a: str
    text_b: str
    a: PeerToken
    b: PeerToken


class LinkResult(NamedTuple):
    """The result of `cross_verify` for two tokens.

    `valid`: both verify; `linked`: they also belong together; `reason`: why not, else empty; `pair`: the
    tokens where they are linked, else None.
    """

    valid: bool
    linked: bool
    reason: str
    pair: Pair | None = None


def triple_hash(data: str, salt: str) -> str:
    """Return 64 hex digits: SHA-256 over the hex SHA-256, SHA-512 and BLAKE2b (64 bytes) of ``data:salt``.

    The three are joined with colons. `data` must have no colon, so that its end is clear.
    """
    content = f"{data}:{salt}".encode()
    digests = (
        hashlib.sha256(content).hexdigest(),
        hashlib.sha512(content).hexdigest(),
        hashlib.blake2b(content).hexdigest(),
    )
    return hashlib.sha256(":".join(digests).encode()).hexdigest()


def link(a: PeerToken, b: PeerToken, pair: str) -> str:
    """Return the link of two tokens in either order. `pair` is the random text that they share.

    It hashes the pre-authentication encoding of the label, of node id, key id (empty where there is none) and
    token id of either node in the order of these three, and of the times of the tokens as decimal digits.
    """
    sides = sorted((token.node_id, token.key_id or "", token.token_id) for token in (a, b))
    pieces = [*sides[0], *sides[1], str(a.issued_at), str(a.expires_at)]
    encoded = pre_authentication_encoding(LABEL, *(piece.encode() for piece in pieces))
    return triple_hash(base64url(encoded), pair)


def new_token(
    node: Side,
    peer: Side | None,
    purpose: str,
    issued_at: int,
    lifetime_s: int,
    entropy: Callable[[int], bytes],
    pair: str | None = None,
) -> PeerToken:
    """Return a token about `node`, not yet signed and without a link, for `peer`; None: for any peer."""
    return PeerToken(
        token_id=new_token_id(entropy),
        node_id=node.node_id,
        key_id=node.key_id,
        audience=ANYONE if peer is None else peer.node_id,
        peer_key_id=None if peer is None else peer.key_id,
        issued_at=issued_at,
        expires_at=issued_at + lifetime_s,
        generation=node.generation,
        purpose=purpose,
        pair=pair,
    )


def new_pair(
    a: Side, b: Side, purpose: str, issued_at: int, lifetime_s: int, entropy: Callable[[int], bytes]
) -> tuple[PeerToken, PeerToken]:
    """Return two tokens that belong together, not yet signed: the first about `a`, the second about `b`.

    `issued_at` is the wall time and `entropy` gives random bytes. Raises `ValueError` where `a` is `b`.
    """
    if a.node_id == b.node_id:
        raise ValueError(f"a pair needs two nodes, {a.node_id} is one")
    pair = entropy(PAIR_BYTES).hex()
    first, second = (
        new_token(mine, theirs, purpose, issued_at, lifetime_s, entropy, pair)
        for mine, theirs in ((a, b), (b, a))
    )
    linked = link(first, second, pair)
    return first._replace(link=linked), second._replace(link=linked)


def cross_verify(text_a: str, text_b: str, keys: TokenKeys, now_s: float) -> LinkResult:
    """Check that two tokens are valid at wall time `now_s` and belong together. Needs no network.

    `keys` as in `verify_token`. Only the directory knows whether one was revoked since. A proof of possession
    (`holder`) shows that the peer holds the key that its token names.
    """
    tokens = []
    for name, text in (("a", text_a), ("b", text_b)):
        try:
            tokens.append(verify_token(text, keys, now_s))
        except VerificationError as error:
            return LinkResult(False, False, f"token {name}: {error.message}")
    a, b = tokens
    if reason := _unlinked(a, b):
        return LinkResult(True, False, reason)
    return LinkResult(True, True, "", Pair(text_a, text_b, a, b))


def _unlinked(a: PeerToken, b: PeerToken) -> str:
    """Return why two valid tokens do not belong together, or an empty text."""
    if a.node_id == b.node_id:
        return "both tokens are about the same node"
    if a.node_id != b.audience or b.node_id != a.audience:
        return "the tokens are not for each other's nodes"
    if a.key_id != b.peer_key_id or b.key_id != a.peer_key_id:
        return "the tokens name different keys for the same node"
    if a.pair is None or b.pair is None or a.link is None or b.link is None:
        return "a token that was made alone has no counterpart"
    if (a.pair, a.issued_at, a.expires_at) != (b.pair, b.issued_at, b.expires_at):
        return "the tokens were not made together"
    computed = link(a, b, a.pair)
    # `&`, not `and`: the time must not depend on the first comparison.
    if not hmac.compare_digest(computed, a.link) & hmac.compare_digest(computed, b.link):
        return "the link in the tokens is not that of these two tokens"
    return ""
