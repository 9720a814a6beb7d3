"""Limits that cannot work are refused when they are set."""

from __future__ import annotations

from dataclasses import fields

import pytest

from openred_central.micro_engine.limits import EngineLimits

NUMBERS = [field.name for field in fields(EngineLimits) if field.name != "exempt_networks"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1])
def test_limit_must_be_above_zero(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value}, allowed is anything above 0"):
        EngineLimits(**{name: value})


def test_one_address_cannot_have_more_connections_than_all() -> None:
    assert EngineLimits(connections_max=5, connections_per_address_max=5).connections_max == 5
    with pytest.raises(ValueError, match="connections_per_address_max is 6, allowed is at most"):
        EngineLimits(connections_max=5, connections_per_address_max=6)
