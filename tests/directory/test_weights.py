"""The bytes that are counted of the texts of nodes."""

from __future__ import annotations

import pytest

from openred_central.directory.weights import (
    SET_BYTES_PER_CHARACTER,
    SET_BYTES_PER_NAME,
    set_bytes,
    text_bytes,
)


def test_of_a_record_all_that_a_node_may_make_longer_counts() -> None:
    assert text_bytes("node", b"[1]", "1.000,active,coma,left", "k" * 43) == 4 + 3 + 22 + 43


@pytest.mark.parametrize(
    ("services", "region", "characters", "names"),
    [("", "", 0, 0), ("", "eu", 2, 0), ("chat", "", 4, 1), ("chat,mail", "eu", 11, 2)],
)
def test_of_a_set_each_character_and_each_name_counts(
    services: str, region: str, characters: int, names: int
) -> None:
    assert set_bytes(services, region) == SET_BYTES_PER_CHARACTER * characters + SET_BYTES_PER_NAME * names
