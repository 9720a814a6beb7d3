"""A token is accepted as it was made, by whom it was made for, while it is valid; in no other form."""

from __future__ import annotations

import base64
import random
import re
import string
from itertools import permutations
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.encoding import base64url, decode_base64url, pre_authentication_encoding
from openred_central.security.directory_keys.suites import SUITES, DirectoryKey
from openred_central.security.refusals import CLOCK_SKEW_S, TOKEN_CHARS_MAX, VerificationError
from openred_central.security.tokens.tokens import (
    LIFETIME_S,
    PeerToken,
    Unsigned,
    lifetime_s,
    new_token_id,
    unsigned,
    verify_token,
)
from tests.support.keys import NOW, directory_key, keyset

KEY_A, KEY_B = "A" * 43, "B" * 43
TOKEN = PeerToken("j" * 22, "node-a", KEY_A, "node-b", KEY_B, NOW, NOW + 300, 0, "peer")
PAIRED = TOKEN._replace(pair="0123456789abcdef" * 2, link="0" * 64)
KEYS = keyset(directory_key())


def sign(token: PeerToken = TOKEN, key: DirectoryKey | None = None) -> str:
    key = key or directory_key()
    body = unsigned(token, key.public)
    return body.assemble(key.sign(body.message))


def signed(claims: object, key: DirectoryKey | None = None) -> str:
    """Return a token with these claims that the directory has really signed."""
    key = key or directory_key()
    payload = claims if isinstance(claims, bytes) else orjson.dumps(claims)
    body = Unsigned(f"or3.{key.public.suite.letter}.{key.public.short_id}.", payload)
    return body.assemble(key.sign(body.message))


def claims_of(text: str) -> dict[str, Any]:
    claims = orjson.loads(decode_base64url(text.split(".")[3]))
    assert isinstance(claims, dict)
    return claims


def reason(text: str, now_s: float = NOW, **options: Any) -> str:
    """Return why a token is refused."""
    with pytest.raises(VerificationError) as refused:
        verify_token(text, options.pop("keys", KEYS), now_s, **options)
    return refused.value.reason


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    "token", [TOKEN, PAIRED, TOKEN._replace(key_id=None, audience="*", peer_key_id=None)]
)
def test_a_token_is_read_as_it_was_made(suite: str, token: PeerToken) -> None:
    key = directory_key(suite)
    assert verify_token(sign(token, key), keyset(key), NOW) == token


def test_a_token_is_written_as_documented() -> None:
    key = directory_key().public
    text = sign(PAIRED)
    version, suite, short_id, payload, signature = text.split(".")
    assert (version, suite, short_id) == ("or3", "r", key.key_id[:16])
    assert claims_of(text) == {
        "t": "peer",
        "jti": "j" * 22,
        "sub": "node-a",
        "cnf": KEY_A,
        "aud": "node-b",
        "pcnf": KEY_B,
        "iat": NOW,
        "exp": NOW + 300,
        "gen": 0,
        "pur": "peer",
        "pair": PAIRED.pair,
        "link": PAIRED.link,
    }
    raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    message = pre_authentication_encoding(b"openred/3 token", f"or3.r.{short_id}.".encode(), raw)
    assert key.verify(base64.urlsafe_b64decode(signature + "=="), message)
    assert not {"pair", "link"} & claims_of(sign()).keys()


@pytest.mark.parametrize(
    ("now_s", "expected"),
    [
        (NOW - CLOCK_SKEW_S - 0.1, "not_yet"),
        (NOW - CLOCK_SKEW_S, None),
        (NOW + 299.9, None),
        (NOW + 300, "expired"),
        (NOW + 1e6, "keyset_expired"),
    ],
)
def test_a_token_has_its_time(now_s: float, expected: str | None) -> None:
    # The key is valid long before, so that only the token's own times are seen.
    keys = KEYS._replace(keys=(KEYS.keys[0]._replace(not_before=0),))
    if expected is None:
        assert verify_token(sign(), keys, now_s) == TOKEN
    else:
        assert reason(sign(), now_s, keys=keys) == expected


@pytest.mark.parametrize(
    ("lifetime", "accepted"), [(-1, False), (0, False), (1, True), (3_600, True), (3_601, False)]
)
def test_a_token_lives_an_hour_at_most(lifetime: int, accepted: bool) -> None:
    text = signed({**claims_of(sign()), "exp": NOW + lifetime})
    if accepted:
        assert verify_token(text, KEYS, NOW).expires_at == NOW + lifetime
    else:
        assert reason(text) == "malformed"
    # And the directory makes no other ones.
    if not accepted:
        with pytest.raises(ValueError, match="exp lies not within 3600 s after iat"):
            unsigned(TOKEN._replace(expires_at=NOW + lifetime), directory_key().public)


def test_a_token_is_for_its_audience() -> None:
    assert verify_token(sign(), KEYS, NOW, audience="node-b") == TOKEN
    assert reason(sign(), audience="node-c") == "audience"
    anyone = TOKEN._replace(audience="*", peer_key_id=None)
    assert verify_token(sign(anyone), KEYS, NOW, audience="node-c") == anyone


def test_a_token_of_an_unknown_key_is_refused() -> None:
    other = directory_key("r", 1)
    assert reason(sign(key=other)) == "unknown_key"


def test_a_token_of_a_revoked_key_is_refused() -> None:
    keys = keyset(directory_key(), revoked=(directory_key().public.key_id,))
    assert reason(sign(), keys=keys) == "revoked_key"


@pytest.mark.parametrize(("real", "claimed"), list(permutations(SUITES, 2)))
def test_a_token_cannot_choose_its_suite(real: str, claimed: str) -> None:
    key = directory_key(real)
    version, _, *rest = sign(key=key).split(".")
    assert reason(".".join([version, claimed, *rest]), keys=keyset(key)) == "malformed"
    # The signer cannot choose it either: the key decides.
    body = Unsigned(f"or3.{claimed}.{key.public.short_id}.", orjson.dumps(claims_of(sign(key=key))))
    assert reason(body.assemble(key.sign(body.message)), keys=keyset(key)) == "malformed"


def test_half_of_a_composite_signature_is_none() -> None:
    key = directory_key("h")
    header, signature = sign(key=key).rsplit(".", 1)
    raw, cut = decode_base64url(signature), 3_309
    for half in (raw[:cut], raw[cut:], raw[:cut] + bytes(384), bytes(cut) + raw[cut:]):
        assert reason(f"{header}.{base64url(half)}", keys=keyset(key)) == "signature"


def test_no_token_with_one_character_changed_is_accepted(seed: int) -> None:
    draw = random.Random(seed)
    text = sign(PAIRED)
    alphabet = string.ascii_letters + string.digits + "-_.=+/ é\n"
    places = [*range(len(text)), *(draw.randrange(len(text)) for _ in range(3_000))]
    for place in places:
        character = draw.choice([other for other in alphabet if other != text[place]])
        changed = text[:place] + character + text[place + 1 :]
        with pytest.raises(VerificationError):
            verify_token(changed, KEYS, NOW)


def test_no_token_with_a_character_more_or_fewer_is_accepted(seed: int) -> None:
    draw = random.Random(seed)
    text = sign()
    for place in range(len(text)):
        reason(text[:place] + text[place + 1 :])
        reason(text[:place] + draw.choice(string.ascii_letters) + text[place:])
    reason(text + "A")


@given(
    st.text(max_size=200) | st.from_regex(r"or3\.[rRh]\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
)
def test_any_other_text_is_refused_and_nothing_worse(text: str) -> None:
    with pytest.raises(VerificationError):
        verify_token(text, KEYS, NOW)


def test_long_text_is_refused_before_it_is_looked_at() -> None:
    assert reason("or3." * TOKEN_CHARS_MAX) == "malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"t": "session"},
        {"t": None},
        {"jti": "j" * 21},
        {"jti": 5},
        {"sub": ""},
        {"sub": None},
        {"aud": ""},
        {"aud": ["node-b"]},
        {"cnf": "short"},
        {"cnf": 5},
        {"pcnf": True},
        {"iat": float(NOW)},
        {"iat": True},
        {"iat": str(NOW)},
        {"exp": None},
        {"gen": -1},
        {"gen": 2**60},
        {"pur": None},
        {"pair": "0" * 32},
        {"link": "0" * 64},
        {"pair": "0" * 31, "link": "0" * 64},
        {"pair": "0" * 32, "link": "G" * 64},
        {"pair": 5, "link": 5},
    ],
)
def test_signed_token_with_an_invalid_claim_is_refused(change: dict[str, object]) -> None:
    assert reason(signed({**claims_of(sign()), **change})) == "malformed"


@pytest.mark.parametrize("name", ["t", "jti", "sub", "cnf", "aud", "pcnf", "iat", "exp", "gen", "pur"])
def test_signed_token_without_a_claim_is_refused(name: str) -> None:
    claims = claims_of(sign())
    del claims[name]
    assert reason(signed(claims)) == "malformed"


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b'"peer"', b"\xff", b"{}"])
def test_even_a_signed_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    assert reason(signed(payload)) == "malformed"


def test_claims_of_later_versions_are_passed_over() -> None:
    assert verify_token(signed({**claims_of(sign()), "colour": "red"}), KEYS, NOW) == TOKEN


def test_a_signature_for_another_use_is_no_token() -> None:
    key, body = directory_key(), unsigned(TOKEN, directory_key().public)
    for label in (b"openred/3 keyset", b"openred/3 pop", b"openred/3 link"):
        message = pre_authentication_encoding(label, body.header.encode(), body.payload)
        assert reason(body.assemble(key.sign(message))) == "signature"


def test_ids_are_made_of_128_random_bits() -> None:
    assert new_token_id(lambda count: bytes(range(count))) == "AAECAwQFBgcICQoLDA0ODw"
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", new_token_id(lambda count: b"\xff" * count))


@pytest.mark.parametrize(
    ("requested_s", "given_s"),
    [(None, LIFETIME_S), (0, 30), (30, 30), (31.9, 31), (3_600, 3_600), (1e9, 3_600), (-5, 30)],
)
def test_the_lifetime_asked_for_is_given_within_limits(requested_s: float | None, given_s: int) -> None:
    assert lifetime_s(requested_s) == given_s
