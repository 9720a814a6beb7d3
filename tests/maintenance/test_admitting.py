"""Each line of an import is held to the rules of the API."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from openred_central.directory.state.blocks import Block, Kind, pack
from openred_central.directory.state.changes import Vitals
from openred_central.directory.state.node import KEYED, NodeEndpoint, Profile, hash_id
from openred_central.maintenance.admitting import admit
from openred_central.maintenance.portable import Item, LineError, Secret
from openred_central.security.tokens.revocations import TOKENS_MAX
from tests.support.maintenance import VITALS
from tests.support.records import record, tombstone

BLOCK = pack(Block(Kind.ID, "a", "spam", 1.0, None))

POINT = base64.b64encode(bytes(range(32))).decode()
SMALL_ORDER = base64.b64encode(bytes(32)).decode()


def profile(**changed: Any) -> bytes:
    return Profile("192.0.2.1", 80, "key")._replace(**changed).encode()


@pytest.mark.parametrize(
    "item",
    [
        VITALS,
        Secret("claim_key", bytes(32)),
        Secret("revocations", b"a" * 22 + bytes(8)),
        tombstone(hash_id("a")),
        record(1),
        record(1, services="", region="", history="1.000,absent,active,registered", state=1),
        record(1, flags=KEYED, profile=profile(public_key=POINT)),
        record(1, profile=profile(public_key='any "text"', addresses=(NodeEndpoint("node.example", 1),))),
        record(1, away_from_s=5.0, away_until_s=1e9, generation=5, next_key="k" * 43),
        record(1, last_seen_s=VITALS.attended_s),
    ],
)
def test_every_record_of_a_directory_is_admitted(item: Item) -> None:
    admit(item, VITALS)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"node_id": 'a","x":"y'}, "node node_id has to be 1 to 128 of"),
        ({"node_id": "a\nb"}, "node node_id has to be"),
        ({"node_id": ""}, "node node_id has to be"),
        ({"node_id": "x" * 129}, "node node_id has to be"),
        ({"services": 'a"b'}, "node services has to consist of names"),
        (
            {"services": ",".join(f"s{number:02d}" for number in range(33))},
            "node services has to be a list of",
        ),
        ({"region": "EU"}, "node region has to consist"),
        ({"next_key": "zzz"}, "node next_key has to be"),
        ({"last_seen_s": -1e12}, "node last_seen_s is -1000000000000.0, allowed is 0 to 1000"),
        ({"since_s": -1e12}, "node since_s is -1000000000000.0"),
        ({"since_s": 1_000.5}, "node since_s is 1000.5, the directory is at 1000.0"),
        ({"away_from_s": -1.0}, "node away_from_s is -1.0"),
        ({"away_until_s": 1e12}, "node away_until_s is 1000000000000.0"),
        ({"usual_gap_s": -5.0}, "node usual_gap_s is -5.0"),
        ({"usual_gap_s": 1e12}, "node usual_gap_s is 1000000000000.0"),
        ({"registered_at": -1e12}, "node registered_at is -1000000000000.0"),
        ({"last_seen_at": 1e12}, "node last_seen_at is 1000000000000.0"),
        ({"generation": 2**63 - 1}, "node generation is 9223372036854775807"),
        ({"revision": 1_001}, "revision is 1001, the directory is at 1000"),
        ({"profile": profile(address='1.2.3.4","x":"')}, "node profile.address has to be"),
        ({"profile": profile(port=0)}, "node profile.port has to be"),
        ({"profile": profile(public_key="a\0")}, "node profile.public_key has to be"),
        ({"profile": profile(public_key="x" * 5_000)}, "node profile.public_key has to be"),
        ({"profile": profile(addresses=(NodeEndpoint("a b", 1),))}, "node profile.addresses [0]"),
        (
            {"profile": profile(metadata={"a": {"a": {"a": {"a": {}}}}})},
            "node profile.metadata may be nested",
        ),
        ({"profile": profile(metadata={"a": "x" * 5_000})}, "node profile.metadata may be at most"),
        ({"flags": KEYED}, "node profile.public_key is marked as a key: The key is neither"),
        ({"flags": KEYED, "profile": profile(public_key=SMALL_ORDER)}, "a point of small order"),
        (
            {"history": ";".join(["1.000,active,coma,left"] * 17)},
            "node history has 17 entries, allowed are 16",
        ),
        ({"history": "-1.000,active,coma,left"}, "node history[0].at is -1.0"),
        ({"history": '1.000,active,coma,le"ft'}, "node history[0].reason is"),
    ],
)
def test_a_node_that_the_api_would_not_take_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(LineError) as caught:
        admit(record(1, **change), VITALS)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (Vitals(1e12, 10, 0.0), "vitals attended_s is 1000000000000.0, allowed is 0 to"),
        (Vitals(-1.0, 10, 0.0), "vitals attended_s is -1.0"),
        (Vitals(1.0, 2**63 - 1, 0.0), "vitals revision is 9223372036854775807"),
        (Vitals(1.0, 10, -0.5), "vitals transitions_per_h is -0.5"),
        (Secret("claim_key", b"abc"), "secret claim_key has 3 bytes, allowed are exactly 32"),
        (Secret("revocations", b"abc"), "secret revocations cannot be read: 3 bytes are no revocations"),
        (Secret("revocations", b"\xff" * 30), "secret revocations cannot be read: b'\\xff"),
        (
            Secret(
                "revocations",
                b"".join(b"%022d" % one + b"\0\0\0\0\0\0\xf0\x3f" for one in range(TOKENS_MAX + 1)),
            ),
            "secret revocations cannot be read: 65537 tokens are revoked",
        ),
        (Secret("runs", b"abc"), "secret name is 'runs', allowed is claim_key, revocations or the name of"),
        (Secret("block/id/a", b"abc"), "secret block/id/a cannot be read"),
        (Secret("block/network/192.0.2.1/24", BLOCK), "192.0.2.1/24 has host bits set"),
        (Secret("block/colour/red", BLOCK), "secret block/colour/red cannot be read"),
        (tombstone("a", died_s=1_001.0), "tombstone died_s is 1001.0"),
        (
            tombstone("a")._replace(reason="sad"),
            "tombstone reason is 'sad', allowed is deadline or forgotten",
        ),
        (tombstone("a")._replace(next_key="zzz"), "tombstone next_key has to be"),
        (tombstone("a")._replace(died_at=-1.0), "tombstone died_at is -1.0"),
        (tombstone("a")._replace(revision=1_001), "revision is 1001"),
    ],
)
def test_every_broken_rule_is_refused(item: Item, told: str) -> None:
    with pytest.raises(LineError) as caught:
        admit(item, VITALS)
    assert told in str(caught.value)


def test_nodes_and_tombstones_need_vitals_before_them() -> None:
    for item in (record(1), tombstone("a")):
        with pytest.raises(LineError, match="the vitals are missing"):
            admit(item, None)
    admit(Secret("claim_key", bytes(32)), None)
