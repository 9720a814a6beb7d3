"""Keys of the directory: their ids cover their suite, and they come back from disk as they were."""

from __future__ import annotations

import base64
import json
from itertools import permutations
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from openred_central.encoding import ED25519_SPKI_PREFIX
from openred_central.security.directory_keys.suites import (
    COMPOSITE_SPKI_PREFIX,
    SUITES,
    VerifyingKey,
    directory_key_id,
    load_key,
    load_private_pem,
    private_pem,
    suite_of,
)
from tests.support.keys import directory_key

LETTERS = ("r", "R", "e", "h")
VECTORS = json.loads(Path(__file__).with_name("composite_vectors.json").read_text())


def test_there_are_four_suites() -> None:
    assert tuple(SUITES) == LETTERS
    with pytest.raises(ValueError, match="no suite is called 'x'; there are r, R, e, h"):
        suite_of("x")


@pytest.mark.parametrize("letter", LETTERS)
def test_what_a_key_signs_verifies_with_it_alone(letter: str) -> None:
    key, other = directory_key(letter), directory_key(letter, 1)
    signature = key.sign(b"message")
    assert len(signature) == SUITES[letter].signature_bytes
    assert key.public.verify(signature, b"message")
    assert not key.public.verify(signature, b"massage")
    assert not other.public.verify(signature, b"message")
    assert not key.public.verify(signature + b"\0", b"message")
    assert not key.public.verify(b"", b"message")


@pytest.mark.parametrize("letter", LETTERS)
def test_others_check_with_the_text_of_the_public_key(letter: str) -> None:
    key = directory_key(letter)
    again = VerifyingKey(letter, key.public.spki)
    assert again.key_id == key.public.key_id
    assert again.verify(key.sign(b"message"), b"message")
    lines = key.public.pem().splitlines()
    assert (lines[0], lines[-1]) == ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")
    assert base64.b64decode("".join(lines[1:-1])) == key.public.spki
    assert max(map(len, lines)) <= 64
    assert {len(line) for line in lines[1:-2]} <= {64}


@pytest.mark.parametrize("letter", LETTERS)
def test_a_private_key_survives_the_disk(letter: str) -> None:
    key = directory_key(letter)
    again = load_private_pem(letter, private_pem(key))
    assert again.public.key_id == key.public.key_id
    assert again.pkcs8() == key.pkcs8()


def test_pem_and_keys_are_those_of_other_programs() -> None:
    key = directory_key("r")
    private = serialization.load_pem_private_key(private_pem(key), password=None)
    assert private.public_key() == serialization.load_pem_public_key(key.public.pem().encode())


def test_the_private_key_of_the_draft_is_read() -> None:
    key = load_key("h", base64.b64decode(VECTORS["pkcs8"]))
    assert key.public.spki == COMPOSITE_SPKI_PREFIX + base64.b64decode(VECTORS["public_key"])
    assert base64.b64encode(key.pkcs8()).decode() == VECTORS["pkcs8"]


def test_an_id_covers_suite_and_key() -> None:
    """A classical key can never be passed off as the composite one that somebody has pinned."""
    key = directory_key("R").public
    ids = {directory_key_id(letter, key.spki) for letter in LETTERS}
    assert len(ids) == len(LETTERS)
    assert key.key_id in ids
    assert key.key_id.startswith(key.short_id)
    assert (len(key.key_id), len(key.short_id)) == (43, 16)


def test_the_id_of_a_key_never_changes() -> None:
    assert directory_key_id("r", b"key") == "r4mIKd8kMWX-z12ZxosvDxYCaMPilsP6PvmkzMm4tQE"


@pytest.mark.parametrize(("letter", "given"), list(permutations(LETTERS, 2)))
def test_a_key_of_another_suite_is_refused(letter: str, given: str) -> None:
    with pytest.raises(ValueError, match=r"suite|composite|Unknown|parse|Ed25519"):
        VerifyingKey(letter, directory_key(given).public.spki)
    with pytest.raises(ValueError, match=r"suite|composite|Unknown|parse|RSA|deserialize|Could not|Ed25519"):
        load_key(letter, directory_key(given).pkcs8())


def test_a_key_that_is_no_rsa_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(ValueError, match="suite r needs an RSA key"):
        VerifyingKey("r", spki)
    pkcs8 = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="neither an RSA key nor an Ed25519 key"):
        load_key("r", pkcs8)
    weak = rsa.generate_private_key(3, 2_048).public_key()
    with pytest.raises(ValueError, match="2048 bits and exponent 65537"):
        VerifyingKey(
            "r",
            weak.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        )


@pytest.mark.parametrize("point", ["01" + "00" * 31, "f0" + "ff" * 30 + "7f", "00" * 31, "00" * 33])
def test_an_ed25519_key_for_which_anybody_signs_or_with_a_second_text_is_refused(point: str) -> None:
    with pytest.raises(ValueError, match=r"small order|second, shorter form|SubjectPublicKeyInfo"):
        VerifyingKey("e", ED25519_SPKI_PREFIX + bytes.fromhex(point))


def test_only_ed25519_signs_without_a_thread() -> None:
    assert [letter for letter in LETTERS if SUITES[letter].signs_fast] == ["e"]


def test_a_damaged_private_key_is_noticed_before_it_signs_anything() -> None:
    def numbers(number: int) -> rsa.RSAPrivateNumbers:
        key = serialization.load_der_private_key(directory_key("r", number).pkcs8(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return key.private_numbers()

    one, other = numbers(0), numbers(1)
    mixed = rsa.RSAPrivateNumbers(
        one.p, one.q, other.d, other.dmp1, other.dmq1, one.iqmp, one.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    damaged = mixed.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="does not fit its public half"):
        load_key("r", damaged)


@pytest.mark.parametrize(
    "text",
    [b"", b"key", b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", b"\xff" * 100],
)
def test_invalid_private_pem_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"PEM|base64|ascii|Only"):
        load_private_pem("r", text)


def test_keys_tell_nothing_secret_when_they_are_shown() -> None:
    key = directory_key("r")
    assert repr(key) == f"DirectoryKey('r', {key.public.key_id})"
    assert repr(key.public) == f"VerifyingKey('r', {key.public.key_id})"
