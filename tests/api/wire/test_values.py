"""Every kind of value: accepted up to its limits, refused beyond them."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.wire import values
from openred_central.api.wire.fields import Wrong
from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.directory.state.node import NodeEndpoint

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
# Values that are nearly valid, so that the search does not end at the first letter.
NEARLY = st.one_of(
    JSON,
    st.text(alphabet="abcXYZ019.:-_[]%/ ,\u00e4\n", max_size=24),
    st.ip_addresses().map(str),
    st.sampled_from([state.wire for state in State]),
    st.lists(st.text(alphabet="abc.-_9 ", max_size=5), max_size=40),
    st.dictionaries(st.sampled_from(["address", "port", "x"]), JSON, max_size=3),
    st.lists(st.fixed_dictionaries({"address": JSON, "port": JSON}), max_size=10),
)
READERS: dict[str, Callable[[Any], Any]] = {
    name: getattr(values, name)
    for name in (
        *("node_id", "address", "port", "public_key", "services", "service_query", "region", "metadata"),
        *("merge_patch", "addresses", "flag", "time", "max_results", "states", "node_ids"),
    )
}

WRONG: dict[str, list[Any]] = {
    "node_id": [
        *("", "a" * 129, "-a", ".a", "a b", "a/b", "a\n", "ä", "a\0", "<b>"),
        None,
        7,
        True,
        ["a"],
        {},
    ],
    "address": [
        *("", ".", "256.0.0.1", "192.0.2", "192.0.2.1.", "1.2.3.0x4", "0x7f000001", "0x", "2130706433"),
        *("[2001:db8::1]", "192.0.2.1:8000", "192.0.2.0/24", "http://example.org", "example..org"),
        *("-a.example", "a-.example", "a" * 64 + ".example", ".".join(["a" * 49] * 5) + ".abcdef"),
        *("exa mple.org", "example.org\n", "bücher.example", "fe80::1%eth0", "fe80::1%" + "a" * 60_000),
        *("fe80::1%<script>alert(1)</script>", 3_232_235_777, None, True, ["192.0.2.1"]),
    ],
    "public_key": ["", "ä" * 2_048 + "a", "a" * 4_097, "a\0b", "a\x1bb", "a\x7f", None, 7, ["k"]],
    "services": [
        *(["relay", name] for name in ("", "A", "a b", "a,b", "ä", "a\n", "a/b", None, 7, ["a"], {"a": 1})),
        *(None, "relay", {"relay": 1}, 7, True, ["a" * 65]),
    ],
    "region": ["EU", "a" * 65, 0, False, [], {}],
    "addresses": [
        *(None, {}, "192.0.2.1", ["192.0.2.1"], [{"address": "192.0.2.1"}], [{"port": 80}], [None], [[]]),
    ],
    "flag": [1, 0, "true", None, []],
    "max_results": ["", "0", "101", "-1", "+1", "1.0", "1e1", " 1", "1_0", "٣", "9" * 5_000, 5],
    "states": ["asleep", "absent", "active coma", "active,,x", 1, None],
}


def nested(depth: int) -> dict[str, Any]:
    """Return an object of `depth` nested containers, lists among them."""
    inner: Any = {} if depth % 2 else []
    for level in range(depth - 1, 0, -1):
        inner = {"a": inner} if level % 2 else [inner]
    assert isinstance(inner, dict)
    return inner


def refused(read: Callable[[Any], Any], value: Any) -> str:
    with pytest.raises(Wrong) as raised:
        read(value)
    return str(raised.value)


@given(value=NEARLY)
def test_any_json_value_is_checked_or_wrong(value: Any) -> None:
    for read in READERS.values():
        with contextlib.suppress(Wrong):
            read(value)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_deeply_nested_values_are_refused(read: Callable[[Any], Any]) -> None:
    for text in (b"[" * 1_000 + b"]" * 1_000, b'{"a":' * 1_000 + b"1" + b"}" * 1_000):
        assert refused(read, orjson.loads(text))


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, wrong in WRONG.items() for value in wrong]
)
def test_a_wrong_value_is_refused(name: str, value: Any) -> None:
    refused(READERS[name], value)


@pytest.mark.parametrize("value", ["a", "7", "node-1", "k-AbC_1.2:3", "a" * 128])
def test_a_node_id_is_kept_as_sent(value: str) -> None:
    assert values.node_id(value) == value


@pytest.mark.parametrize(
    ("value", "usual"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("223.255.255.255", "223.255.255.255"),
        ("169.253.0.1", "169.253.0.1"),
        ("fd00::1", "fd00::1"),
        ("Example.ORG", "example.org"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_service.example.org.", "_service.example.org."),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5) + ".ab", ".".join(["a" * 49] * 5) + ".ab"),
        ("0x.example", "0x.example"),
    ],
)
def test_an_address_is_taken_in_its_usual_form(value: str, usual: str) -> None:
    assert values.address(value) == usual


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("0.0.0.0", "an unspecified"),
        ("0.1.2.3", "an unspecified"),
        ("::", "an unspecified"),
        ("::ffff:0.0.0.0", "an unspecified"),
        ("224.0.0.1", "a multicast"),
        ("239.255.255.255", "a multicast"),
        ("ff02::1", "a multicast"),
        ("169.254.169.254", "a link-local"),
        ("::ffff:169.254.169.254", "a link-local"),
        ("fe80::1", "a link-local"),
        ("255.255.255.255", "a broadcast or reserved"),
        ("240.0.0.1", "a broadcast or reserved"),
    ],
)
def test_unreachable_addresses_are_refused(value: str, kind: str) -> None:
    told = f"is {kind} address, at which no peer finds the node; send one that peers can reach"
    assert refused(values.address, value) == told
    assert refused(values.addresses, [{"address": value, "port": 1}]) == f"[0] {told}"


@given(st.ip_addresses(v=4))
def test_ipv4_addresses_of_hosts_are_accepted(found: ipaddress.IPv4Address) -> None:
    first = int(found) >> 24
    no_host = first == 0 or first >= 224 or int(found) >> 16 == 169 << 8 | 254
    for text in (str(found), f"::ffff:{found}"):
        if no_host:
            refused(values.address, text)
        else:
            assert values.address(text) == str(found)


@given(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){2,4}", fullmatch=True) | st.ip_addresses(v=4).map(str))
def test_a_mistyped_ipv4_address_is_no_name(text: str) -> None:
    try:
        usual = str(ipaddress.IPv4Address(text))
    except ValueError:
        refused(values.address, text)
    else:
        with contextlib.suppress(Wrong):
            assert values.address(text) == usual


def test_a_whole_number_is_one_however_json_writes_it() -> None:
    assert type(values.port(orjson.loads("8e1"))) is int
    assert values.port(orjson.loads("80.0")) == 80


@pytest.mark.parametrize("value", [0, -1, 65_536, 70_000, True, False, "80", 80.5, None, [80], 1e30])
def test_invalid_ports_are_refused(value: Any) -> None:
    assert refused(values.port, value) == "has to be a whole number from 1 to 65535"


@pytest.mark.parametrize(
    "value", ["k", "ssh-ed25519 AAAA me@here", "-----BEGIN\r\nabc\n-----END", "ä" * 2_048]
)
def test_a_public_key_is_kept_as_sent(value: str) -> None:
    assert values.public_key(value) == value


def test_services_are_sorted_and_each_kept_once() -> None:
    assert values.services(["relay", "a.b-c_9", "relay"]) == "a.b-c_9,relay"
    assert values.services([]) == ""


def test_there_may_be_32_services_and_no_33rd() -> None:
    names = [f"s{number}" for number in range(33)]
    assert values.services(names[:32]).count(",") == 31
    assert refused(values.services, names) == "has to be a list of at most 32 names"


def test_a_service_name_has_64_characters_at_most() -> None:
    assert values.services(["a" * 64]) == "a" * 64


def test_a_wrong_service_name_is_shown_unless_long() -> None:
    assert "'No' is not one" in refused(values.services, ["No"])
    assert len(refused(values.services, ["a" * 60_000])) < 200


def test_services_of_a_query_are_joined_by_commas() -> None:
    assert values.service_query("relay,storage") == {"relay", "storage"}
    assert values.service_query("") == frozenset()
    assert values.service_query(",relay,") == {"relay"}
    refused(values.service_query, "relay,No")
    refused(values.service_query, ",".join(f"s{number}" for number in range(33)))


@pytest.mark.parametrize(("value", "region"), [("eu-west", "eu-west"), ("", ""), (None, "")])
def test_a_region_is_a_name_or_none(value: Any, region: str) -> None:
    assert values.region(value) == region


def test_metadata_may_be_four_deep_and_no_deeper() -> None:
    assert values.metadata(nested(4)) == nested(4)
    assert refused(values.metadata, nested(5)) == "may be nested at most 4 deep"


def test_metadata_may_be_4_kib_of_json_and_no_more() -> None:
    value = {"a": "x" * (4_096 - len('{"a":""}'))}
    assert len(orjson.dumps(value)) == 4_096
    assert values.metadata(value) == value
    assert refused(values.metadata, {"a": value["a"] + "x"}) == "may be at most 4096 bytes of JSON"


@pytest.mark.parametrize("read", [values.metadata, values.merge_patch])
@pytest.mark.parametrize("value", [None, [], "a", 1, True])
def test_metadata_and_its_patches_are_objects(read: Callable[[Any], Any], value: Any) -> None:
    assert refused(read, value) == "has to be an object"


def test_a_patch_may_be_as_deep_as_metadata() -> None:
    assert values.merge_patch(nested(4)) == nested(4)
    assert refused(values.merge_patch, nested(5)) == "may be nested at most 4 deep"


def test_there_may_be_eight_more_endpoints_and_no_ninth() -> None:
    more = [{"address": f"192.0.2.{number}", "port": 80, "later": 1} for number in range(9)]
    assert values.addresses(more[:8])[7] == NodeEndpoint("192.0.2.7", 80)
    assert values.addresses([]) == ()
    assert refused(values.addresses, more) == "has to be a list of at most 8 endpoints"


def test_a_wrong_endpoint_is_named_by_its_place() -> None:
    good = {"address": "192.0.2.1", "port": 80}
    assert refused(values.addresses, [good, {**good, "port": 0}]).startswith("[1] has to be a whole number")
    assert refused(values.addresses, [{**good, "address": "a b"}]).startswith("[0] has to be an IPv4")


def test_a_time_is_rfc_3339() -> None:
    assert values.time("1970-01-01T00:01:00Z") == 60.0
    for value in ("1970-01-01", "", 60, None, True, ["1970-01-01T00:01:00Z"]):
        refused(values.time, value)


@pytest.mark.parametrize(("value", "count"), [("1", 1), ("50", 50), ("100", 100), ("007", 7)])
def test_max_results_is_read_from_text(value: str, count: int) -> None:
    assert values.max_results(value) == count


def test_states_are_read_in_any_case() -> None:
    assert values.states("ACTIVE,Pending_1st,coma") == {State.ACTIVE, State.PENDING_FIRST_CHECK, State.COMA}
    assert values.states(",".join(state.wire for state in LIVE_STATES)) == frozenset(LIVE_STATES)
    assert values.states("") == frozenset()


def test_ids_are_read_in_order_and_once_each() -> None:
    ids = [f"n{number}" for number in range(101)]
    assert values.node_ids(["b", "a", "b"]) == ["b", "a"]
    assert values.node_ids(ids[:100]) == ids[:100]
    for value in (ids, [], None, "a", ["a", None], ["a b"]):
        refused(values.node_ids, value)
