"""The origin of a request, which a client cannot choose by the headers it writes."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.limits.origins import (
    FORWARDED,
    HOPS_MAX,
    INSTANCE,
    PAIRS_MAX,
    X_FORWARDED_FOR,
    Origin,
    Origins,
    forwarded_hops,
    hop_address,
    is_at,
    may_be_at,
    x_forwarded_for_hops,
)

PROXIES = ("10.0.0.0/8", "fd00::/8")
CLIENT = "203.0.113.9"


def seen(
    peer: str, *, trusted: tuple[str, ...] = PROXIES, header: str = "x-forwarded-for", **fields: str
) -> str:
    """Return the address that a request counts as; names of headers have ``_`` for ``-``."""
    given_fields = {name.replace("_", "-"): value for name, value in fields.items()}
    return Origins(trusted, (), header).of(peer, given_fields.get).address


@pytest.mark.parametrize(
    ("peer", "told", "address"),
    [
        # A spoofed header from a peer that is no proxy.
        (CLIENT, "192.0.2.1", CLIENT),
        (CLIENT, "10.0.0.1", CLIENT),
        # One proxy, and what the client wrote to the left of it.
        ("10.0.0.1", CLIENT, CLIENT),
        ("10.0.0.1", f"192.0.2.1, {CLIENT}", CLIENT),
        ("10.0.0.1", f"10.0.0.7, {CLIENT}", CLIENT),
        # Three hops: the client, an outer proxy and an inner one, all but the first trusted.
        ("10.0.0.1", f"198.51.100.1, {CLIENT}, 10.0.0.3, 10.0.0.2", CLIENT),
        ("10.0.0.1", "fd00::1, 10.0.0.2", "fd00::1"),
        # A foreign proxy in between is as far as can be believed.
        ("10.0.0.1", f"{CLIENT}, 192.0.2.77, 10.0.0.2", "192.0.2.77"),
        ("fd00::5", "2001:db8::1", "2001:db8::1"),
        # Forms.
        ("10.0.0.1", f"{CLIENT}:4711", CLIENT),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", " [2001:DB8:0::1]\t", "2001:db8::1"),
        ("10.0.0.1", f"::ffff:{CLIENT}", CLIENT),
        ("10.0.0.1", "::ffff:cb00:7109", CLIENT),
        ("::ffff:10.0.0.1", CLIENT, CLIENT),
        # Invalid hops: the last trusted hop counts.
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", f"{CLIENT}, unknown", "10.0.0.1"),
        ("10.0.0.1", f"{CLIENT}, junk, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", f"{CLIENT},", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.256", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.09", "10.0.0.1"),
        ("10.0.0.1", "fe80::1%eth0", "10.0.0.1"),
        ("10.0.0.1", f"[{CLIENT}", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9:port", "10.0.0.1"),
        ("10.0.0.1", "٢٠٣.0.113.9", "10.0.0.1"),
        ("10.0.0.1", f"{CLIENT}, {' ' * 80}{CLIENT}", "10.0.0.1"),
    ],
)
def test_right_most_untrusted_address_is_the_client(peer: str, told: str, address: str) -> None:
    assert seen(peer, x_forwarded_for=told) == address


def test_without_trusted_proxies_nothing_is_believed() -> None:
    assert seen("10.0.0.1", trusted=(), x_forwarded_for=CLIENT, forwarded=f"for={CLIENT}") == "10.0.0.1"


def test_only_the_header_of_the_proxies_is_read() -> None:
    fields = {"x_forwarded_for": CLIENT, "forwarded": "for=192.0.2.1"}
    assert seen("10.0.0.1", **fields) == CLIENT
    assert seen("10.0.0.1", header=FORWARDED, **fields) == "192.0.2.1"
    assert seen("10.0.0.1", forwarded="for=192.0.2.1") == "10.0.0.1"


def test_unix_socket_peer_is_trusted_if_unix_is_named() -> None:
    assert seen("", trusted=("unix",), x_forwarded_for=CLIENT) == CLIENT
    assert seen("", trusted=("unix",)) == ""
    assert seen("", x_forwarded_for=CLIENT) == ""
    assert seen("10.0.0.1", trusted=("unix",), x_forwarded_for=CLIENT) == "10.0.0.1"


def test_no_more_hops_are_followed_than_anybody_has() -> None:
    hops = [CLIENT, *(f"10.0.0.{number}" for number in range(1, HOPS_MAX + 1))]
    assert seen("10.0.0.99", x_forwarded_for=",".join(hops)) == "10.0.0.1"
    assert seen("10.0.0.99", x_forwarded_for=",".join([CLIENT, *hops[2:]])) == CLIENT


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
        ('For="[2001:db8:cafe::17]:4711"', ["[2001:db8:cafe::17]:4711"]),
        ("for=192.0.2.43, for=198.51.100.17", ["192.0.2.43", "198.51.100.17"]),
        ('for="_gazonk"', ["_gazonk"]),
        ("for=[2001:db8::1]:80", ["[2001:db8::1]:80"]),
        (r'for="192\.0.2.1";host="a, for=\"b\""', ["192.0.2.1"]),
        ("proto=https", [""]),
        ("for=192.0.2.1;for=192.0.2.2", [""]),
        ("for=192.0.2.1, ", ["192.0.2.1", ""]),
        # An open quote of the client would hide the pair of the proxy.
        ('for="192.0.2.1, for=203.0.113.9', []),
        ('for="192.0.2.1, for="[2001:db8::1]"', []),
        ("for = 192.0.2.1", []),
        ("proto=https;" * (PAIRS_MAX - 1) + "for=192.0.2.1", ["192.0.2.1"]),
        ("proto=https;" * PAIRS_MAX + "for=192.0.2.1", []),
        ("," * PAIRS_MAX, []),
        ("for=192.0.2.1 for=192.0.2.2", []),
    ],
)
def test_the_elements_of_forwarded(value: str, hops: list[str]) -> None:
    assert forwarded_hops(value) == hops


FIELD_TEXT = st.text(st.sampled_from('for=;,"\\ \t[]:.%0129afx_') | st.characters(max_codepoint=255))


@given(told=FIELD_TEXT, header=st.sampled_from(["x-forwarded-for", FORWARDED]))
def test_any_header_gives_an_address(told: str, header: str) -> None:
    origin = Origins(("10.0.0.0/8",), (), header).of("10.0.0.1", lambda name: told)
    ipaddress.ip_address(origin.address)


@given(junk=FIELD_TEXT, header=st.sampled_from(["x-forwarded-for", FORWARDED]))
def test_client_cannot_pose_as_another_client(junk: str, header: str) -> None:
    added = f"for={CLIENT}" if header == FORWARDED else CLIENT
    # The proxy adds its hop behind what was there; at worst the proxy is taken for the client.
    assert seen("10.0.0.1", header=header, **{header.replace("-", "_"): f"{junk}, {added}"}) in (
        CLIENT,
        "10.0.0.1",
    )


@given(address=st.ip_addresses())
def test_every_address_is_read_as_a_hop(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    plain = getattr(address, "ipv4_mapped", None) or address
    if getattr(address, "scope_id", None) is None:
        assert hop_address(str(address)) == str(plain)
        assert hop_address(f"[{address}]:1" if address.version == 6 else f"{address}:1") == str(plain)
    assert x_forwarded_for_hops(f"{address},b") == [str(address), "b"]


def test_an_ipv6_client_counts_as_its_64_and_its_48() -> None:
    of = Origins().of
    origin = of("2001:db8:1:2:3:4:5:6", {}.get)
    packed = ipaddress.ip_address("2001:db8:1:2::").packed
    assert origin == Origin("2001:db8:1:2:3:4:5:6", (packed[:8], packed[:6]), False, packed[:7])
    assert of("2001:db8:1:2::9", {}.get).keys == origin.keys
    assert of("2001:db8:1:3::9", {}.get).keys[1] == origin.keys[1]
    assert of("2001:db8:1:3::9", {}.get).keys[0] != origin.keys[0]


def test_ipv4_mapped_address_counts_as_ipv4() -> None:
    of = Origins(exempt_networks=("192.0.2.0/24",)).of
    assert of("::ffff:192.0.2.1", {}.get) == of("192.0.2.1", {}.get)
    assert of("::ffff:192.0.2.1", {}.get).exempt


def test_exemption_goes_by_the_client_not_by_the_proxy() -> None:
    of = Origins(("10.0.0.0/8",), ("10.0.0.0/8", "192.0.2.0/24")).of
    assert of("10.0.0.1", {}.get).exempt
    assert of("10.0.0.1", {"x-forwarded-for": "192.0.2.1"}.get).exempt
    assert not of("10.0.0.1", {"x-forwarded-for": CLIENT}.get).exempt
    assert not of(CLIENT, {"x-forwarded-for": "192.0.2.1"}.get).exempt


def test_nodes_are_counted_for_the_24_and_the_56() -> None:
    of = Origins().of
    assert of("203.0.113.9", {}.get).network == bytes([203, 0, 113])
    assert of("2001:db8:1:2ff::1", {}.get).network == bytes.fromhex("20010db8000102")
    assert of("", {}.get).network is None


def test_networks_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="proxy"):
        Origins(("proxy",))
    with pytest.raises(ValueError, match="unix"):
        Origins((), ("unix",))


@pytest.mark.parametrize("origins", [Origins(), Origins(("10.0.0.0/8", "unix"), header=FORWARDED)])
def test_an_instance_tells_the_client_of_what_it_handed_on(origins: Origins) -> None:
    told = {X_FORWARDED_FOR: "198.51.100.7", FORWARDED: "for=192.0.2.1"}
    assert origins.of(INSTANCE, told.get) == Origins().of("198.51.100.7", {}.get)
    # It was asked at its Unix socket.
    assert origins.of(INSTANCE, {}.get) == Origins().of("", {}.get)


def test_nobody_else_is_believed_who_the_client_is() -> None:
    told = {X_FORWARDED_FOR: "198.51.100.7"}
    for peer in ("", "192.0.2.1", "::1"):
        assert Origins().of(peer, told.get).address == peer


@pytest.mark.parametrize(
    ("origin", "address", "possible"),
    [
        ("198.51.100.7", "198.51.100.200", True),
        ("198.51.100.7", "198.51.101.7", False),
        ("198.51.100.7", "2001:db8::1", False),
        ("2001:db8::1", "2001:db8:0:ff::2", True),
        ("2001:db8::1", "2001:db8:0:100::2", False),
        ("2001:db8::1", "198.51.100.7", False),
        ("198.51.100.7", "::ffff:198.51.100.9", True),
        ("198.51.100.7", "node.example", True),
        ("", "192.0.2.1", True),
    ],
)
def test_caller_may_be_in_its_own_network(origin: str, address: str, possible: bool) -> None:
    assert may_be_at(Origins().of(origin, {}.get), address) is possible


@pytest.mark.parametrize(
    ("origin", "address", "there"),
    [
        ("198.51.100.7", "198.51.100.7", True),
        ("198.51.100.7", "::ffff:198.51.100.7", True),
        ("198.51.100.7", "::ffff:c633:6407", True),
        ("198.51.100.7", "::198.51.100.7", False),
        ("198.51.100.7", "198.51.100.8", False),
        ("2001:db8::1", "2001:DB8:0::1", True),
        ("2001:db8::1", "2001:db8::2", False),
        ("198.51.100.7", "node.example", False),
        ("", "", False),
        ("", "192.0.2.1", False),
    ],
)
def test_caller_is_at_its_own_address(origin: str, address: str, there: bool) -> None:
    assert is_at(Origins().of(origin, {}.get), address) is there
