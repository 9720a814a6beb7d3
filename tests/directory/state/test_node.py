"""The record of a node, and the forms in which it is stored."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import (
    DISCOVERABLE,
    HISTORY_ENTRIES_MAX,
    KEYED,
    LEFT,
    NodeEndpoint,
    Profile,
    append_entry,
    decode_history,
    hash_id,
    history_entry,
    is_discoverable,
    key_fingerprint,
    key_fingerprints,
    pack,
    pack_all,
    packed_profile,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
endpoints = st.builds(NodeEndpoint, texts, st.integers(1, 65_535))
profiles = st.builds(
    Profile,
    address=texts,
    port=st.integers(1, 65_535),
    public_key=texts,
    addresses=st.lists(endpoints, max_size=8).map(tuple),
    metadata=st.dictionaries(
        texts, st.recursive(st.none() | st.booleans() | texts, lambda inner: st.lists(inner, max_size=3))
    ),
)


@given(profiles)
def test_a_profile_survives_being_stored(profile: Profile) -> None:
    assert Profile.decode(profile.encode()) == profile


def test_equal_profiles_are_stored_equally() -> None:
    one = Profile("192.0.2.1", 1, "key", metadata={"a": 1, "b": {"c": 2, "d": 3}})
    other = Profile("192.0.2.1", 1, "key", metadata={"b": {"d": 3, "c": 2}, "a": 1})
    assert one.encode() == other.encode()


def test_keys_and_ids_are_named_by_hashes_that_never_change() -> None:
    """A store written today must be read by the version after next."""
    assert key_fingerprint("", 0) == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    # A key is named by its bytes, here those of an Ed25519 key, all zero; other text by itself.
    text = "A" * 43 + "="
    assert key_fingerprint(text, KEYED) == "ciq9EumaU2fzda65ZyqOB3EuA8Kt0W-o1pFNHPou_gw"
    assert key_fingerprint(text, 0) != key_fingerprint(text, KEYED)
    keys = [(text, KEYED), ("", 0), (text, 0)]
    assert key_fingerprints(keys) == [key_fingerprint(*key) for key in keys]
    assert hash_id("node-1") == "jLt5qMATDD3f8cvcmg3qDg"
    assert hash_id("node-1") != hash_id("node-2")


@pytest.mark.parametrize(
    ("flags", "found"),
    [(DISCOVERABLE, True), (0, False), (LEFT, False), (DISCOVERABLE | LEFT, False)],
)
def test_a_hidden_node_or_one_that_left_is_not_discoverable(flags: int, found: bool) -> None:
    assert is_discoverable(flags) is found


def entry_of(number: int) -> str:
    return history_entry(number + 0.25, State.ACTIVE, State.PENDING_FIRST_CHECK, "deadline")


def test_the_history_has_time_states_and_reason() -> None:
    (entry,) = decode_history(append_entry("", entry_of(5)))
    assert entry == (5.25, State.ACTIVE, State.PENDING_FIRST_CHECK, "deadline")
    assert decode_history("") == []


def test_the_history_keeps_the_last_sixteen_transitions_in_order() -> None:
    history = ""
    for number in range(40):
        history = append_entry(history, entry_of(number))
        entries = [entry.at for entry in decode_history(history)]
        first = max(0, number + 1 - HISTORY_ENTRIES_MAX)
        assert entries == [earlier + 0.25 for earlier in range(first, number + 1)]
    assert HISTORY_ENTRIES_MAX == 16


PROFILE_TEXTS = st.text(max_size=9) | st.sampled_from(['"', "\\", '",[],{', '",1,"', "ключ"])


@given(
    PROFILE_TEXTS,
    PROFILE_TEXTS,
    st.lists(st.builds(NodeEndpoint, PROFILE_TEXTS, st.integers(0, 9)), max_size=2).map(tuple),
    st.dictionaries(PROFILE_TEXTS, PROFILE_TEXTS | st.lists(PROFILE_TEXTS), max_size=2),
)
def test_any_profile_is_packed_without_loss(
    address: str, key: str, more: tuple[NodeEndpoint, ...], metadata: dict[str, Any]
) -> None:
    encoded = Profile(address, 9_000, key, more, metadata).encode()
    packed = pack("é".encode(), encoded)
    node_id, told_address, port, told_key, last = packed.split(b"\0")
    assert (node_id.decode(), packed_profile(packed)) == ("é", encoded)
    if port:
        assert (told_address.decode(), port, told_key.decode(), more) == (address, b"9000", key, ())
        assert orjson.loads(b"{%b}" % last) == metadata
    else:
        assert (told_address, told_key, last) == (b"", b"", encoded)


@given(st.binary(max_size=40).filter(lambda text: b"\0" not in text) | st.text('["a,1]{}\\ ').map(str.encode))
@example(b'["a",,"k",[],{}]')
@example(b'["a",1,"k",[],{}')
@example(b'["a" , 1 ,"k",[],{}]')
def test_even_a_damaged_profile_is_packed_without_loss(profile: bytes) -> None:
    packed = pack(b"node", profile)
    assert packed.count(b"\0") == 4
    assert packed_profile(packed) == profile


USUAL = b'["192.0.2.1",1,"key",[],{"a":"b"}]'


@given(st.lists(st.binary(max_size=9) | st.just(USUAL), min_size=1))
@example([USUAL, b'["192.0.2.2",65535,"",[],{}]'])
@example([USUAL, b'["\\",1,"key",[],{}]'])
@example([USUAL, b'["",1,"\\",[],{}]'])
@example([USUAL, b'{"",1,"",[],{}]'])
@example([USUAL, b'["",,"",[],{}]'])
@example([USUAL, b'["",,,"",[],{}]'])
@example([USUAL, b'["" ,1,"",[],{}]'])
@example([USUAL, b'["",1 ,"",[],{}]'])
@example([USUAL, b'["",1,"",[[]],{}]'])
@example([USUAL, b'["",1,"",[],{}'])
@example([USUAL, b'["",1'])
def test_many_profiles_are_packed_as_each_one_is(encoded: list[bytes]) -> None:
    node_ids = [b"%d" % place for place in range(len(encoded))]
    assert pack_all(node_ids, encoded) == list(map(pack, node_ids, encoded))
