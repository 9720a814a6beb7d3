"""Two tokens made together fit each other, and no other two."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import pytest

from openred_central.security.tokens.link import Side, cross_verify, link, new_pair, triple_hash
from openred_central.security.tokens.tokens import PeerToken, unsigned
from tests.support.keys import NOW, directory_key, keyset

A, B, C = Side("node-a", "A" * 43, 0), Side("node-b", "B" * 43, 3), Side("node-c", None, 0)
KEYS = keyset(directory_key())


class Made(NamedTuple):
    a: str
    b: str


def sign(token: PeerToken) -> str:
    body = unsigned(token, directory_key().public)
    return body.assemble(directory_key().sign(body.message))


def tokens(a: Side = A, b: Side = B, at: int = NOW, seed: int = 1) -> tuple[PeerToken, PeerToken]:
    return new_pair(a, b, "peer", at, 300, random.Random(seed).randbytes)


def made(a: Side = A, b: Side = B, at: int = NOW, seed: int = 1) -> Made:
    return Made(*map(sign, tokens(a, b, at, seed)))


def why(a: str, b: str, now_s: float = NOW) -> str:
    """Why two valid tokens are not linked."""
    result = cross_verify(a, b, KEYS, now_s)
    assert (result.valid, result.linked, result.pair) == (True, False, None)
    return result.reason


def test_a_pair_is_accepted_whichever_comes_first() -> None:
    pair = made()
    for first, second in (pair, pair[::-1]):
        result = cross_verify(first, second, KEYS, NOW)
        assert (result.valid, result.linked, result.reason) == (True, True, "")
        assert result.pair is not None
        assert (result.pair.text_a, result.pair.text_b) == (first, second)
    a, b = tokens()
    assert (a.node_id, a.key_id, a.audience, a.peer_key_id) == ("node-a", "A" * 43, "node-b", "B" * 43)
    assert (b.node_id, b.key_id, b.audience, b.peer_key_id) == ("node-b", "B" * 43, "node-a", "A" * 43)
    assert (a.generation, b.generation) == (0, 3)
    assert a.token_id != b.token_id


def test_a_node_without_a_proven_key_can_be_linked() -> None:
    assert cross_verify(*made(A, C), KEYS, NOW).linked


def test_tokens_of_different_pairs_are_refused() -> None:
    """All pairings of the tokens of four pairs, two of them for the same nodes at the same time."""
    pairs = [made(seed=1), made(seed=2), made(A, C, seed=3), made(B, C, seed=4)]
    everything = [token for pair in pairs for token in pair]
    for first, second in itertools.product(everything, repeat=2):
        belong = any({first, second} == set(pair) for pair in pairs)
        assert cross_verify(first, second, KEYS, NOW).linked == belong


def test_a_token_with_itself_is_refused() -> None:
    assert why(made().a, made().a) == "both tokens are about the same node"


def test_tokens_from_two_requests_are_not_linked() -> None:
    assert why(made(seed=1).a, made(seed=2).b) == "the tokens were not made together"


def test_the_token_of_a_third_node_is_refused() -> None:
    assert why(made().a, made(C, A).a) == "the tokens are not for each other's nodes"
    assert why(made().a, made(C, B).a) == "the tokens are not for each other's nodes"


def test_tokens_that_name_different_keys_are_not_linked() -> None:
    a, b = tokens()
    for wrong in (b._replace(peer_key_id="C" * 43), b._replace(key_id="C" * 43), b._replace(key_id=None)):
        assert why(sign(a), sign(wrong)) == "the tokens name different keys for the same node"


def test_a_token_made_alone_is_refused() -> None:
    a, b = tokens()
    alone = sign(b._replace(pair=None, link=None))
    assert why(sign(a), alone) == "a token that was made alone has no counterpart"


@pytest.mark.parametrize(
    "change",
    [{"pair": "0" * 32}, {"issued_at": NOW - 1}, {"expires_at": NOW + 299}],
)
def test_tokens_that_differ_in_what_a_pair_shares_are_refused(change: dict[str, object]) -> None:
    a, b = tokens()
    assert why(sign(a), sign(b._replace(**change))) == "the tokens were not made together"


def test_even_signed_tokens_with_a_wrong_link_are_refused() -> None:
    a, b = tokens()
    assert a.link is not None
    wrong = ("1" if a.link[0] == "0" else "0") + a.link[1:]
    reason = "the link in the tokens is not that of these two tokens"
    assert why(sign(a._replace(link=wrong)), sign(b)) == reason
    assert why(sign(a), sign(b._replace(link=wrong))) == reason
    assert why(sign(a._replace(link=wrong)), sign(b._replace(link=wrong))) == reason
    # Another id on either side is another token.
    assert why(sign(a._replace(token_id="x" * 22)), sign(b)) == reason


def test_a_token_that_is_not_valid_is_named() -> None:
    pair = made()
    late = cross_verify(*pair, KEYS, NOW + 300)
    assert (late.valid, late.linked) == (False, False)
    assert late.reason == f"token a: the token was valid until {NOW + 300}; ask for a new one"
    broken = cross_verify(pair.a, pair.b[:-1], KEYS, NOW)
    assert not broken.valid
    assert broken.reason.startswith("token b: ")


def test_no_pair_with_one_character_changed_is_linked(seed: int) -> None:
    draw, pair = random.Random(seed), made()
    for _ in range(1_000):
        both = list(pair)
        which = draw.randrange(2)
        place = draw.randrange(len(both[which]))
        new = draw.choice("AbZ09-_.")
        both[which] = both[which][:place] + new + both[which][place + 1 :]
        assert cross_verify(*both, KEYS, NOW).linked == (tuple(both) == tuple(pair))


def test_a_pair_is_of_two_nodes() -> None:
    with pytest.raises(ValueError, match="a pair needs two nodes, node-a is one"):
        new_pair(A, A, "peer", NOW, 300, random.Random(1).randbytes)


@pytest.mark.parametrize(
    ("data", "salt", "digest"),
    [
        ("", "", "7975fb7398d9272ba46df213e5afc06c918f53eb8ebefff141da0ae4ee12cf17"),
        ("data", "salt", "9971afcb577ee67d85958964591459d5625a0be2549a014e6e91b817d1fcb512"),
        ("node-é", "0" * 32, "f66d5bc91d45fa6127bfb750fd15f0cd7a5ba3dd018f48fa5d75aca29e2c7f40"),
    ],
)
def test_the_triple_hash_never_changes(data: str, salt: str, digest: str) -> None:
    assert triple_hash(data, salt) == digest


def test_the_link_never_changes_and_covers_all_it_should() -> None:
    a, b = tokens()
    pair = a.pair or ""
    assert (
        a.link
        == b.link
        == link(a, b, pair)
        == link(b, a, pair)
        == "cbb9eca5cdc939dafb2802ceb54e00c774205d5a41bfc18ea7afcefd8ce829fa"
    )
    for other in (
        link(a._replace(node_id="node-x"), b, pair),
        link(a._replace(key_id=None), b, pair),
        link(a._replace(token_id="x" * 22), b, pair),
        link(a, b._replace(token_id="x" * 22), pair),
        link(a._replace(issued_at=NOW - 1), b, pair),
        link(a._replace(expires_at=NOW + 1), b, pair),
        link(a, b, "0" * 32),
    ):
        assert other != a.link
