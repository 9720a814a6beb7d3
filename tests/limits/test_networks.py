"""The network of an address is found as `ipaddress` finds it, however many networks there are."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.limits.networks import Networks, parse_network

# Few different bits, so that networks overlap and addresses lie in them.
_V4 = st.integers(0, 15).map(lambda bits: (10 << 24) | bits << 4)
_V6 = st.integers(0, 15).map(lambda bits: (0x20010DB8 << 96) | bits << 60)
NETWORKS = st.one_of(
    st.builds(
        lambda bits, length: ipaddress.IPv4Network((bits, length), strict=False), _V4, st.integers(0, 32)
    ),
    st.builds(
        lambda bits, length: ipaddress.IPv6Network((bits, length), strict=False), _V6, st.integers(0, 128)
    ),
)
ADDRESSES = st.one_of(
    *(_V4.map(ipaddress.IPv4Address), _V6.map(ipaddress.IPv6Address)),
    *(st.ip_addresses(v=4), st.ip_addresses(v=6)),
)


def expected(networks: set[str], address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    around = [network for network in map(ipaddress.ip_network, networks) if address in network]
    return str(max(around, key=lambda network: network.prefixlen)) if around else None


@given(st.lists(st.tuples(NETWORKS, st.booleans()), max_size=12), st.lists(ADDRESSES, min_size=1, max_size=8))
def test_the_smallest_network_around_an_address_is_found(
    changes: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, bool]],
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> None:
    networks, known = Networks(), set[str]()
    for network, stays in changes:
        text = str(parse_network(str(network)))
        networks.add(text)
        known.add(text)
        for address in addresses:
            assert networks.find(str(address)) == expected(known, address)
        if not stays:
            networks.discard(text)
            known.discard(text)
    for address in addresses:
        assert networks.find(str(address)) == expected(known, address)
        if address.version == 4:
            assert networks.find(f"::ffff:{address}") == expected(known, address)
    assert set(networks.texts) == known


@pytest.mark.parametrize(
    ("given", "usual"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:DB8:0:0::/48", "2001:db8::/48"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_a_network_has_one_usual_text(given: str, usual: str) -> None:
    assert str(parse_network(given)) == usual


@pytest.mark.parametrize(
    "text",
    # With a zone, a network would have more than one text.
    [
        "192.0.2.1/24",
        "192.0.2.0/33",
        "example.com",
        "",
        "192.0.2.0/24 ",
        "fe80::1%eth0",
        "::ffff:192.0.2.7%1",
    ],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the texts are those of `ipaddress`)
        parse_network(text)


def test_only_the_usual_text_is_added() -> None:
    with pytest.raises(ValueError, match="is not the usual text"):
        Networks().add("::ffff:192.0.2.0/120")


def test_text_that_is_no_address_is_in_no_network() -> None:
    networks = Networks()
    networks.add("0.0.0.0/0")
    assert [networks.find(text) for text in ("", "instance", "node.example", "192.0.2.1")] == [
        *(None, None, None, "0.0.0.0/0")
    ]
