"""A session shows for a while that one node with one key has signed; a claim proves one registration."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.encoding import base64url, pre_authentication_encoding
from openred_central.security.refusals import ProofError
from openred_central.security.sessions import (
    CLAIM_KEY_BYTES,
    LEFT_S_MIN,
    LIFE_S,
    RENEWED_S_MAX,
    SESSION_KEY_BYTES,
    Claims,
    Session,
    Sessions,
)
from tests.support.signed_requests import NOW, ed25519_key, other_key, refusal

KEY = bytes(range(SESSION_KEY_BYTES))
SESSIONS = Sessions(KEY)
KEY_ID = ed25519_key().key_id
CLAIMS = Claims(KEY)
REGISTERED_AT = 1_800_000_000.123456


def mint(now_s: float = NOW, signed_s: float = NOW, generation: int = 0) -> str:
    return SESSIONS.mint("node-1", KEY_ID, now_s, signed_s, generation)


def test_session_is_a_128_bit_mac_over_its_content() -> None:
    text = mint(generation=7)
    content = f"node-1 {KEY_ID} or3s.1800000300.1800000000.7"
    mac = hashlib.blake2b(content.encode(), digest_size=16, key=KEY).digest()
    assert text == f"or3s.1800000300.1800000000.7.{base64url(mac)}"
    assert re.fullmatch(r"or3s(\.\d+){3}\.[A-Za-z0-9_-]{22}", text)
    assert len(text) == 51


def test_a_session_is_valid_for_five_minutes() -> None:
    text = mint()
    for now_s in (NOW, NOW + LIFE_S - 0.001):
        session = SESSIONS.check(text, "node-1", KEY_ID, now_s, 0)
        assert session == Session(text, "node-1", KEY_ID, 0, NOW + LIFE_S, NOW)
    assert refusal(SESSIONS.check, text, "node-1", KEY_ID, NOW + LIFE_S, 0) == "session_expired"


def test_session_is_renewed_for_an_hour_after_a_signature() -> None:
    text, now_s, beats = mint(), float(NOW), 0
    while True:
        session = SESSIONS.check(text, "node-1", KEY_ID, now_s, 0)
        fresh = SESSIONS.renew(session, now_s)
        if fresh is None:
            break
        assert SESSIONS.check(fresh, "node-1", KEY_ID, now_s, 0).signed_s == NOW
        text, beats = fresh, beats + 1
        now_s += 60
        if now_s >= NOW + RENEWED_S_MAX:
            break
    assert beats == 60
    assert refusal(SESSIONS.check, text, "node-1", KEY_ID, NOW + RENEWED_S_MAX, 0) == "session_expired"


def test_no_session_is_renewed_after_its_hour() -> None:
    for end_s in (NOW + RENEWED_S_MAX, NOW + RENEWED_S_MAX + LIFE_S):
        session = Session("or3s.some.text", "node-1", KEY_ID, 0, end_s, NOW)
        assert SESSIONS.renew(session, NOW + RENEWED_S_MAX - 0.001) is not None
        assert SESSIONS.renew(session, NOW + RENEWED_S_MAX) is None


@pytest.mark.parametrize("fraction_s", [0.0, 0.999])
def test_sessions_with_over_four_minutes_left_stay_unchanged(fraction_s: float) -> None:
    """The bytes of requests and answers repeat, and a session never has less than four minutes."""
    text = mint(NOW + fraction_s)
    session = SESSIONS.check(text, "node-1", KEY_ID, NOW + 1, 0)
    assert SESSIONS.renew(session, NOW + fraction_s) == text
    assert SESSIONS.renew(session, NOW + 59.999) == text
    # A node that sends one heartbeat a minute or fewer always gets a new session.
    renewed = SESSIONS.renew(session, NOW + fraction_s + 60)
    assert renewed is not None
    assert SESSIONS.check(renewed, "node-1", KEY_ID, NOW + 61, 0).expires_s == NOW + 60 + LIFE_S


@given(st.integers(0, RENEWED_S_MAX - 1), st.floats(0, LIFE_S, exclude_max=True))
def test_renewed_sessions_last_four_minutes_or_to_the_hours_end(minted_s: int, age_s: float) -> None:
    now_s = NOW + minted_s + age_s
    text = mint(NOW + minted_s)
    if now_s >= min(NOW + minted_s + LIFE_S, NOW + RENEWED_S_MAX):
        assert refusal(SESSIONS.check, text, "node-1", KEY_ID, now_s, 0) == "session_expired"
        return
    fresh = SESSIONS.renew(SESSIONS.check(text, "node-1", KEY_ID, now_s, 0), now_s)
    assert fresh is not None
    expires_s = SESSIONS.check(fresh, "node-1", KEY_ID, now_s, 0).expires_s
    assert expires_s >= min(now_s + LEFT_S_MIN, NOW + RENEWED_S_MAX)
    assert expires_s <= NOW + RENEWED_S_MAX


def test_renewal_keeps_node_key_and_generation() -> None:
    session = SESSIONS.check(mint(generation=7), "node-1", KEY_ID, NOW + 100, 7)
    assert SESSIONS.renew(session, NOW + 100) == mint(NOW + 100, NOW, 7)


def test_session_of_another_node_key_or_start_is_refused() -> None:
    text = mint()
    assert refusal(SESSIONS.check, text, "node-2", KEY_ID, NOW, 0) == "bad_session"
    assert refusal(SESSIONS.check, text, "node-1", other_key().key_id, NOW, 0) == "bad_session"
    restarted = Sessions(bytes(SESSION_KEY_BYTES))
    assert refusal(restarted.check, text, "node-1", KEY_ID, NOW, 0) == "bad_session"


def test_a_new_generation_ends_all_sessions() -> None:
    assert refusal(SESSIONS.check, mint(generation=1), "node-1", KEY_ID, NOW, 2) == "session_revoked"
    assert refusal(SESSIONS.check, mint(generation=2), "node-1", KEY_ID, NOW, 1) == "session_revoked"
    assert SESSIONS.check(mint(generation=2), "node-1", KEY_ID, NOW, 2)


def test_its_numbers_cannot_be_changed() -> None:
    _, expires, signed, generation, mac = mint().split(".")
    for numbers in (
        (str(int(expires) + 1), signed, generation),
        (expires, str(int(signed) + 1), generation),
        (expires, signed, "1"),
    ):
        text = ".".join(["or3s", *numbers, mac])
        assert refusal(SESSIONS.check, text, "node-1", KEY_ID, NOW, int(numbers[2])) == "bad_session"


def test_pieces_cannot_move_from_the_name_to_the_key() -> None:
    text = SESSIONS.mint("node-1", "2" + KEY_ID, NOW, NOW, 0)
    assert refusal(SESSIONS.check, text, "node-12", KEY_ID, NOW, 0) == "bad_session"


def test_no_session_with_one_character_changed_is_accepted(seed: int) -> None:
    source = random.Random(seed)
    text = mint()
    alphabet = "ABCXYZabcxyz0123456789-_.= "
    for _ in range(3_000):
        place = source.randrange(len(text))
        changed = text[:place] + source.choice(alphabet) + text[place + 1 :]
        if changed != text:
            assert refusal(SESSIONS.check, changed, "node-1", KEY_ID, NOW, 0)


def test_a_mac_of_another_purpose_is_refused() -> None:
    """Neither another label over equal pieces nor a claim by the same key passes for a session."""
    numbers = [b"1800000300", b"1800000000", b"0"]
    for label in (b"openred/3 claim", b"openred/3 token", b"openred/3 pop", b"openred/3 link", b""):
        message = pre_authentication_encoding(label, b"node-1", KEY_ID.encode(), *numbers)
        mac = base64url(hmac.digest(KEY, message, "sha256")[:16])
        text = f"or3s.1800000300.1800000000.0.{mac}"
        assert refusal(SESSIONS.check, text, "node-1", KEY_ID, NOW, 0) == "bad_session"
    claim = Claims(KEY).claim("node-1", NOW)
    for text in (claim, f"or3s.1800000300.1800000000.0.{claim}"):
        assert refusal(SESSIONS.check, text, "node-1", KEY_ID, NOW, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "or3s", "or3s....", "or3.r.a.b.c", "or3s.01800000300.1800000000.0." + "A" * 22),
        *("or3s.1.1.0." + "A" * 21, "or3s.1.1.0." + "A" * 23, "or3s.-1.1.0." + "A" * 22, "A" * 100_000),
        *("or3s.1.1.0." + "A" * 22 + "\n", " or3s.1.1.0." + "A" * 22, "or3s.١.1.0." + "A" * 22, "\ud800"),
        "or3s." + "9" * 100 + ".1.0." + "A" * 22,
    ],
)
def test_what_is_no_session_is_refused(text: str) -> None:
    assert refusal(SESSIONS.check, text, "node-1", KEY_ID, NOW, 0) == "session_syntax"


@given(st.text() | st.from_regex(r"or3s\.[0-9]{1,12}\.[0-9]{1,12}\.[0-9]{1,3}\.[A-Za-z0-9_-]{22}"))
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(ProofError):
        SESSIONS.check(text, "node-1", KEY_ID, NOW, 0)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_session_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="exactly 32"):
        Sessions(bytes(size))


def test_claim_is_a_128_bit_mac_over_node_and_time() -> None:
    message = pre_authentication_encoding(b"openred/3 claim", b"node-1", struct.pack("<d", REGISTERED_AT))
    mac = hmac.new(KEY, message, hashlib.sha256).digest()[:16]
    claim = CLAIMS.claim("node-1", REGISTERED_AT)
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", claim)
    assert base64.urlsafe_b64decode(claim + "==") == mac


def test_claim_of_another_node_registration_or_key_is_refused() -> None:
    for claims, node_id, registered_at in (
        (CLAIMS, "node-2", REGISTERED_AT),
        (CLAIMS, "node-1", REGISTERED_AT - 0.001),
        (Claims(bytes(CLAIM_KEY_BYTES)), "node-1", REGISTERED_AT),
    ):
        assert not CLAIMS.is_valid(claims.claim(node_id, registered_at), "node-1", REGISTERED_AT)


@pytest.mark.parametrize("presented", ["", " ", "A" * 22, "A" * 10_000, "ÿ", "\u20ac", "null"])
def test_anything_else_is_refused(presented: str) -> None:
    assert not CLAIMS.is_valid(presented, "node-1", REGISTERED_AT)


def test_a_claim_with_any_one_character_changed_is_refused() -> None:
    claim = CLAIMS.claim("node-1", REGISTERED_AT)
    for place, character in enumerate(claim):
        changed = claim[:place] + ("A" if character != "A" else "B") + claim[place + 1 :]
        assert not CLAIMS.is_valid(changed, "node-1", REGISTERED_AT)
    assert not CLAIMS.is_valid(claim[:-1], "node-1", REGISTERED_AT)
    assert not CLAIMS.is_valid(claim + "=", "node-1", REGISTERED_AT)


@given(st.text(max_size=30), st.floats(allow_nan=False, allow_infinity=False))
def test_every_claim_is_accepted_for_what_it_was_made_for(node_id: str, registered_at: float) -> None:
    assert CLAIMS.is_valid(CLAIMS.claim(node_id, registered_at), node_id, registered_at)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_claim_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=rf"has {length} bytes, allowed are exactly {CLAIM_KEY_BYTES}"):
        Claims(bytes(length))
