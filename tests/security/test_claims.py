"""A claim proves one registration of one node, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.encoding import pre_authentication_encoding
from openred_central.security.claims import CLAIM_KEY_BYTES, Claims

KEY = bytes(range(CLAIM_KEY_BYTES))
CLAIMS = Claims(KEY)
AT = 1_800_000_000.123456


def test_a_claim_is_128_bits_of_a_mac_over_label_name_and_time() -> None:
    message = pre_authentication_encoding(b"openred/3 claim", b"node-1", struct.pack("<d", AT))
    mac = hmac.new(KEY, message, hashlib.sha256).digest()[:16]
    claim = CLAIMS.claim("node-1", AT)
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", claim)
    assert base64.urlsafe_b64decode(claim + "==") == mac


def test_a_claim_is_accepted_for_the_registration_it_was_made_for() -> None:
    assert CLAIMS.is_valid(CLAIMS.claim("node-1", AT), "node-1", AT)


def test_the_claim_of_another_node_is_refused() -> None:
    assert not CLAIMS.is_valid(CLAIMS.claim("node-2", AT), "node-1", AT)


def test_the_claim_of_an_earlier_registration_of_the_same_name_is_refused() -> None:
    assert not CLAIMS.is_valid(CLAIMS.claim("node-1", AT - 0.001), "node-1", AT)


def test_a_claim_made_with_another_key_is_refused() -> None:
    other = Claims(bytes(CLAIM_KEY_BYTES))
    assert not CLAIMS.is_valid(other.claim("node-1", AT), "node-1", AT)


@pytest.mark.parametrize("presented", ["", " ", "A" * 22, "A" * 10_000, "ÿ", "\u20ac", "null"])
def test_anything_else_is_refused(presented: str) -> None:
    assert not CLAIMS.is_valid(presented, "node-1", AT)


def test_a_claim_with_any_one_character_changed_is_refused() -> None:
    claim = CLAIMS.claim("node-1", AT)
    for place, character in enumerate(claim):
        changed = claim[:place] + ("A" if character != "A" else "B") + claim[place + 1 :]
        assert not CLAIMS.is_valid(changed, "node-1", AT)
    assert not CLAIMS.is_valid(claim[:-1], "node-1", AT)
    assert not CLAIMS.is_valid(claim + "=", "node-1", AT)


@given(st.text(max_size=30), st.floats(allow_nan=False, allow_infinity=False))
def test_every_claim_is_accepted_for_what_it_was_made_for(node_id: str, registered_at: float) -> None:
    assert CLAIMS.is_valid(CLAIMS.claim(node_id, registered_at), node_id, registered_at)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=rf"has {length} bytes, allowed are exactly {CLAIM_KEY_BYTES}"):
        Claims(bytes(length))
