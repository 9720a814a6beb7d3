"""Sealed values open with their secret and their name alone, and while a secret is exchanged."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.security.sealing import NONCE_BYTES, VERSION, Sealer

SECRET, ANOTHER = b"a secret of operators", b"another secret of theirs"


def sealer(secret: bytes = SECRET, *others: bytes) -> Sealer:
    return Sealer(secret, others, entropy=os.urandom)


@given(st.text(), st.binary())
def test_a_sealed_value_opens_with_its_name(name: str, value: bytes) -> None:
    assert sealer().unseal(name, sealer().seal(name, value)) == value


def test_equal_values_look_different() -> None:
    one = sealer()
    assert one.seal("name", b"value") != one.seal("name", b"value")


def test_known_answer_so_that_values_open_after_an_upgrade() -> None:
    fixed = Sealer(SECRET, entropy=bytes)
    sealed = "01" + "00" * NONCE_BYTES + "0ae32cbb2c6f065e3d9448cc460b236847e108b8da"
    assert fixed.seal("name", b"value").hex() == sealed


def test_a_value_opens_with_no_other_secret() -> None:
    with pytest.raises(ValueError, match="another key secret"):
        sealer(ANOTHER).unseal("name", sealer().seal("name", b"value"))


def test_two_values_cannot_be_exchanged_for_each_other() -> None:
    sealed = sealer().seal("name", b"value")
    with pytest.raises(ValueError, match=r"the sealed value other does not open: .* for another name"):
        sealer().unseal("other", sealed)


def test_no_change_goes_unnoticed() -> None:
    sealed = sealer().seal("name", b"value")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(ValueError, match="the sealed value name"):
            sealer().unseal("name", bytes(changed))
    for length in range(len(sealed)):
        with pytest.raises(ValueError, match="the sealed value name"):
            sealer().unseal("name", sealed[:length])


def test_a_later_version_is_told_from_damage() -> None:
    sealed = b"\x02" + sealer().seal("name", b"value")[len(VERSION) :]
    with pytest.raises(ValueError, match=re.escape("is of version 02, known is 01; a newer program")):
        sealer().unseal("name", sealed)


def test_while_a_secret_is_exchanged_values_of_both_open_everywhere() -> None:
    before, after = sealer(SECRET, ANOTHER), sealer(ANOTHER, SECRET)
    for one, other in ((before, after), (after, before)):
        assert other.unseal("name", one.seal("name", b"value")) == b"value"


def test_a_value_is_sealed_anew_once_by_the_first_secret() -> None:
    after = sealer(ANOTHER, SECRET)
    renewed = after.renewed("name", sealer().seal("name", b"value"))
    assert renewed is not None
    assert after.renewed("name", renewed) is None
    assert sealer(ANOTHER).unseal("name", renewed) == b"value"
