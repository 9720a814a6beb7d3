"""Text has one form, joined pieces can be told apart, and keys are kept short."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.encoding import (
    ED25519_SPKI_PREFIX,
    base64url,
    base64url_of_digests,
    decode_base64,
    decode_base64url,
    kept_spki,
    key_id,
    key_text,
    pre_authentication_encoding,
    spki_of,
)

ED25519 = ED25519_SPKI_PREFIX + bytes(range(32))
OTHER = bytes(range(200))


@pytest.mark.parametrize(
    ("pieces", "encoded"),
    [
        ((), b"\x00\x00\x00\x00\x00\x00\x00\x00"),
        ((b"",), b"\x01" + b"\x00" * 7 + b"\x00" * 8),
        ((b"test",), b"\x01" + b"\x00" * 7 + b"\x04" + b"\x00" * 7 + b"test"),
    ],
)
def test_pieces_are_encoded_like_the_examples_of_paseto(pieces: tuple[bytes, ...], encoded: bytes) -> None:
    assert pre_authentication_encoding(*pieces) == encoded


@given(st.lists(st.binary(max_size=20), max_size=5), st.lists(st.binary(max_size=20), max_size=5))
def test_different_pieces_never_encode_alike(first: list[bytes], second: list[bytes]) -> None:
    same = pre_authentication_encoding(*first) == pre_authentication_encoding(*second)
    assert same == (first == second)


@given(st.binary(max_size=100))
def test_encoded_bytes_are_decoded(content: bytes) -> None:
    assert decode_base64url(base64url(content)) == content
    assert decode_base64(base64.b64encode(content).decode()) == content


@pytest.mark.parametrize("text", ["AQ==", "AQ!I", "AR", "A", "AQ\n", "AQ ", "+/+/", "é"])
def test_base64url_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        decode_base64url(text)


@pytest.mark.parametrize("text", ["AQ", "AQ!IDBA==", "AR==", "AQ==\n", " AQ==", "-_-_", "é==="])
def test_base64_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        decode_base64(text)


@pytest.mark.parametrize(("spki", "length"), [(ED25519, 44), (OTHER, 268)])
def test_keys_are_kept_short_and_come_back_whole(spki: bytes, length: int) -> None:
    assert len(key_text(spki)) == length
    assert spki_of(key_text(spki)) == spki


def test_a_key_is_named_by_its_whole_der() -> None:
    digest = hashlib.sha256(ED25519).digest()
    assert key_id(ED25519) == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert len(key_id(ED25519)) == 43


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=5))
def test_digests_are_encoded_together_as_one_by_one(digests: list[bytes]) -> None:
    assert base64url_of_digests(digests) == [base64url(digest) for digest in digests]


@pytest.mark.parametrize("spki", [ED25519, OTHER])
def test_a_stored_key_is_read_back(spki: bytes) -> None:
    assert kept_spki(key_text(spki)) == spki_of(key_text(spki)) == spki
