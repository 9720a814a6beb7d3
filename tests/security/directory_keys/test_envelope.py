"""An envelope opens with its secret, under its name, unchanged; and in no other way."""

from __future__ import annotations

import random

import orjson
import pytest

from openred_central.security.directory_keys.envelope import is_envelope, seal, unseal

CONTENT, SECRET, NAME = b"the private key", b"correct horse battery staple", "root-h.key"


def sealed(seed: int = 1) -> bytes:
    return seal(CONTENT, SECRET, NAME, random.Random(seed).randbytes)


def test_what_is_sealed_is_opened() -> None:
    assert unseal(sealed(), SECRET, NAME) == CONTENT
    assert is_envelope(sealed())
    assert not is_envelope(CONTENT)


def test_nothing_of_it_can_be_seen() -> None:
    assert CONTENT not in sealed()
    fields = orjson.loads(sealed())
    assert fields.keys() == {"format", "salt", "nonce", "sealed"}
    # Salt and nonce are new each time.
    other = orjson.loads(sealed(2))
    assert all(fields[name] != other[name] for name in ("salt", "nonce", "sealed"))


@pytest.mark.parametrize(("secret", "name"), [(b"", NAME), (SECRET + b"\n", NAME), (SECRET, "root-R.key")])
def test_another_secret_or_another_name_opens_nothing(secret: bytes, name: str) -> None:
    with pytest.raises(ValueError, match="encrypted with another secret, or changed since"):
        unseal(sealed(), secret, name)


def test_any_change_is_noticed(seed: int) -> None:
    draw, content = random.Random(seed), sealed()
    for _ in range(20):
        place = draw.randrange(len(content) - 1)
        changed = content[:place] + bytes([content[place] ^ 1 << draw.randrange(7)]) + content[place + 1 :]
        try:
            assert unseal(changed, SECRET, NAME) == CONTENT
        except ValueError:
            continue
        # Nothing but what base64 and JSON pass over.
        assert orjson.loads(changed)["format"] == orjson.loads(content)["format"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format":"openred-envelope-2"}',
        b'{"format":"openred-envelope-1","salt":1,"nonce":2,"sealed":3}',
        b'{"format":"openred-envelope-1","salt":"AAAA","nonce":"AAAA","sealed":"AAAA"}',
    ],
)
def test_what_is_no_envelope_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"envelope|format|nonce|unexpected|expected|zero-length"):
        unseal(content, SECRET, NAME)


def test_later_envelope_format_is_recognised() -> None:
    assert is_envelope(b'{"format":"openred-envelope-2","sealed":""}')
