"""The caps on connections."""

from __future__ import annotations

from operator import lt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.micro_engine.gate import IPV6_PREFIXES, Gate, GateKey, plain_address


def entered(gate: Gate, address: str) -> bool:
    return gate.enter(gate.key(address))


def test_no_more_connections_than_the_cap_come_in() -> None:
    gate = Gate(2, 2)
    assert [entered(gate, f"192.0.2.{last}") for last in (1, 2, 3)] == [True, True, False]


def test_one_address_cannot_take_the_places_of_others() -> None:
    gate = Gate(10, 2)
    assert [entered(gate, "192.0.2.1") for _ in range(3)] == [True, True, False]
    assert entered(gate, "192.0.2.2")


def test_closed_connection_makes_room() -> None:
    gate = Gate(1, 1)
    assert entered(gate, "192.0.2.1")
    gate.leave(gate.key("192.0.2.1"))
    assert entered(gate, "192.0.2.1")


def test_ipv6_client_is_counted_by_its_64_bit_network() -> None:
    gate = Gate(10, 2)
    assert entered(gate, "2001:db8::1")
    assert entered(gate, "2001:db8::ffff:1")
    assert not entered(gate, "2001:db8:0:0:abcd::2")
    assert entered(gate, "2001:db8:0:1::1")


def test_ipv6_household_and_site_have_higher_caps() -> None:
    gate = Gate(100, 2)
    # Each from another /64 of one /56, then of the other /56s of one /48.
    assert [entered(gate, f"2001:db8:0:{number:x}::1") for number in range(9)] == [True] * 8 + [False]
    others = [entered(gate, f"2001:db8:0:{number:x}00::1") for number in range(1, 10)]
    assert others == [True] * 8 + [False]
    assert entered(gate, "2001:db8:1::1")
    assert entered(gate, "192.0.2.1")
    gate.leave(gate.key("2001:db8:0:0::1"))
    assert entered(gate, "2001:db8:0:8::1")


def test_exempt_networks_are_counted_in_all_only() -> None:
    gate = Gate(3, 1, ("10.0.0.0/8", "fd00::/8"))
    assert [entered(gate, "10.1.2.3"), entered(gate, "10.1.2.3"), entered(gate, "fd00::1")] == [True] * 3
    assert not entered(gate, "10.1.2.3")


def test_unix_socket_is_counted_in_all_only() -> None:
    gate = Gate(2, 1)
    assert [entered(gate, "") for _ in range(3)] == [True, True, False]


def test_malformed_network_is_refused() -> None:
    with pytest.raises(ValueError, match="proxy"):
        Gate(1, 1, ("proxy",))


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:1", "::ffff:1"),
    ],
)
def test_address_has_one_spelling(address: str, plain: str) -> None:
    assert plain_address(address) == plain


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::2", "10.0.0.1", ""])


@given(st.lists(st.tuples(st.booleans(), ADDRESSES)))
def test_counts_stay_true(steps: list[tuple[bool, str]]) -> None:
    gate = Gate(4, 2, ("10.0.0.0/8",))
    inside: list[GateKey] = []
    for comes, address in steps:
        key = gate.key(address)
        if comes:
            caps = [2 * IPV6_PREFIXES[len(part)] if isinstance(part, bytes) else 2 for part in key]
            counts = [sum(part in other for other in inside) for part in key]
            assert gate.enter(key) == (len(inside) < 4 and all(map(lt, counts, caps)))
            inside += [key] * (gate.open - len(inside))
        elif key in inside:
            inside.remove(key)
            gate.leave(key)
        assert gate.open == len(inside)
