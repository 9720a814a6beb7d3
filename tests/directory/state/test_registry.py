"""Records in columns: what goes in comes out, under the right name, in the right shard."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.directory.lifecycle import LIVE_STATES, State
from openred_central.directory.state.columns import DIGEST_MASK, record_digest
from openred_central.directory.state.node import (
    DISCOVERABLE,
    HELD,
    LEFT,
    Profile,
    Record,
    is_discoverable,
    text_bytes,
)
from openred_central.directory.state.registry import Registry, shard_of
from openred_central.directory.state.service_sets import set_bytes
from openred_central.errors import InternalBug
from tests.support.building import columns_of, record
from tests.support.records import SignOfLife, signs_on


def digests(registry: Registry) -> list[int]:
    """The digest of each shard, from its records."""
    return [
        sum(record_digest(registry.record(slot)) for _, slot in registry.slots_in_shard(shard)) & DIGEST_MASK
        for shard in range(registry.shards_count)
    ]


def test_a_record_comes_out_as_it_went_in() -> None:
    registry = Registry(4)
    whole = record(0, away_from_s=1.0, away_until_s=9.0, history="1.000,active,coma,left", state=State.COMA)
    registry.insert(whole)
    assert registry.record(0) == whole
    assert registry.slot_of("node") == 0
    assert registry.slot_of("other") is None
    assert registry.away_s(0) == (1.0, 9.0)
    registry.insert(record(1, node_id="gone"))
    registry.remove(1)
    assert signs_on([registry.pages(range(1))]) == [SignOfLife(0, 2.5, 3.5, 60.0)], "slot 1 is free"
    assert (registry.pages(range(1)).slots, registry.pages(range(1, 2)).slots) == (range(2), range(200, 200))
    assert (len(registry), registry.state_counts[State.COMA]) == (1, 1)


def test_a_node_lies_in_one_shard_however_it_came() -> None:
    inserted, restored = Registry(64), Registry(64)
    nodes = [record(slot, f"node-{slot}") for slot in range(200)]
    for node in nodes:
        inserted.insert(node)
    restored.restore(columns_of(nodes))
    for registry in (inserted, restored):
        for shard in range(64):
            assert {shard_of(node_id, 64) for node_id, _ in registry.slots_in_shard(shard)} <= {shard}


def test_ids_cannot_be_chosen_for_one_shard() -> None:
    """Nor ids that have a checksum in common, in all shards that one can ask for."""
    chosen = [name for number in range(128_000) if crc32((name := f"n-{number}").encode()) % 64 == 0]
    for shards in (2, 64, 4_096):
        sizes = Counter(shard_of(node_id, shards) for node_id in chosen)
        assert max(sizes.values()) < 2 * len(chosen) / shards + 100


def test_the_ids_of_one_shard_differ_where_their_dictionary_looks() -> None:
    in_one = [name for number in range(6_400) if shard_of(name := f"n-{number}", 64) == 0]
    lower_bits = Counter(hash(node_id) & 63 for node_id in in_one)
    assert max(lower_bits.values()) < len(in_one) / 2


def test_another_process_has_other_shards() -> None:
    code = (
        "from openred_central.directory.state.registry import shard_of; "
        "print([shard_of(f'n-{number}', 64) for number in range(64)])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=60
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 2


def test_a_registry_leads_to_each_node_from_its_shard() -> None:
    registry = Registry(64)
    registry.insert(record(0))
    assert [shard for shard in range(64) if list(registry.slots_in_shard(shard))] == [shard_of("node", 64)]


def test_a_replaced_record_leaves_nothing_behind() -> None:
    registry = Registry(4)
    registry.insert(record(0, away_from_s=1.0, away_until_s=9.0, history="1.000,active,coma,left"))
    registry.replace(record(0, revision=8, services="", region=""))
    assert registry.record(0) == record(0, revision=8, services="", region="")
    assert len(registry.sets) == 1
    assert registry.shard_digests == digests(registry)


def test_a_freed_slot_is_used_again_and_remembers_nothing() -> None:
    registry = Registry(4)
    registry.insert(record(0, "a", history="1.000,active,coma,left", away_from_s=1.0, away_until_s=2.0))
    registry.insert(record(1, "b"))
    registry.remove(0)
    assert registry.is_free(0)
    assert (len(registry), registry.slots_count, registry.next_slot()) == (1, 2, 0)
    registry.insert(record(0, "c"))
    assert registry.record(0) == record(0, "c")
    assert registry.slot_of("a") is None


def test_records_are_restored_to_their_slots() -> None:
    registry = Registry(4)
    registry.restore(columns_of([record(1, "b")]))
    registry.restore(columns_of([record(4, "e")]))
    assert [registry.is_free(slot) for slot in range(6)] == [True, False, True, True, False, True]
    assert len(registry) == 2
    for _ in range(3):
        registry.insert(record(registry.next_slot(), f"new-{registry.next_slot()}"))
    assert (len(registry), registry.slots_count) == (5, 5)


def test_records_that_do_not_fit_are_our_bug() -> None:
    registry = Registry(4)
    registry.restore(columns_of([record(2, "c")]))
    with pytest.raises(InternalBug, match="slot 2"):
        registry.restore(columns_of([record(2, "d")]))
    with pytest.raises(InternalBug, match="'c'"):
        registry.put(record(9, "c"))
    with pytest.raises(InternalBug, match="slot 3"):
        registry.insert(record(3, "d"))
    with pytest.raises(InternalBug, match="'c'"):
        registry.insert(record(registry.next_slot(), "c"))
    with pytest.raises(InternalBug, match="slot 2"):
        registry.replace(record(2, "d"))
    for use in (registry.node_id, registry.record, registry.remove):
        with pytest.raises(InternalBug, match="slot 0 is free"):
            use(0)


def test_only_the_first_record_of_an_id_is_restored() -> None:
    registry = Registry(4)
    assert registry.restore(columns_of([record(0, "a"), record(2, "b"), record(3, "a")])) == [record(3, "a")]
    assert registry.restore(columns_of([record(5, "b")])) == [record(5, "b")]
    assert registry.restore(columns_of([record(6, "c"), record(7, "a")])) == [record(7, "a")]
    assert registry.taken_slots() == [0, 2, 6]
    assert registry.shard_digests == digests(registry)
    assert registry.state_counts[State.ACTIVE] == len(registry) == registry.ids_count == 3


def test_a_record_needs_a_free_slot() -> None:
    registry = Registry(4)
    for slot, name in ((3, "d"), (1, "b"), (0, "a")):
        registry.put(record(slot, name))
    assert registry.taken_slots() == [0, 1, 3]
    assert registry.record(1) == record(1, "b")
    assert (len(registry), registry.next_slot()) == (3, 2)


def test_a_barred_slot_is_given_to_no_node() -> None:
    registry = Registry(4)
    registry.restore(columns_of([record(0, "a"), record(3, "d")]))
    # Between nodes, behind the last one, further on, and where no slot is.
    registry.bar([1, 4, 5, 8, 4_294_967_290, -7])
    assert (len(registry), registry.taken_slots()) == (2, [0, 3])
    given = []
    for number in range(6):
        given.append(registry.next_slot())
        registry.insert(record(given[-1], f"new-{number}"))
    assert given == [2, 6, 7, 9, 10, 11]
    assert len(registry) == 8
    assert all(registry.is_free(slot) for slot in (1, 4, 5, 8))
    registry.remove(6)
    registry.bar([6])
    assert registry.next_slot() == 12
    assert registry.taken_slots() == [0, 2, 3, 7, 9, 10, 11]


def test_digests_do_not_depend_on_the_order_of_records(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(60)]
    found = []
    for _ in range(2):
        registry = Registry(4)
        chance.shuffle(names)
        for name in names:
            registry.insert(record(registry.next_slot(), name))
        for name in chance.sample(names, 20):
            registry.replace(record(registry.slot_of(name) or 0, name, revision=99))
            registry.replace(record(registry.slot_of(name) or 0, name))
        found.append(list(registry.shard_digests))
        assert registry.shard_digests == digests(registry)
    assert found[0] == found[1]
    for name in names:
        registry.remove(registry.slot_of(name) or 0)
    assert registry.shard_digests == [0] * 4
    assert registry.state_counts == [0] * len(State)


def test_a_change_of_state_is_counted_and_kept() -> None:
    registry = Registry(4)
    registry.insert(record(0))
    registry.set_state(0, State.RETRY_2W, 12.0, "history")
    assert (registry.state(0), registry.since_s[0], registry.histories[0]) == (
        State.RETRY_2W,
        12.0,
        "history",
    )
    assert (registry.state_counts[State.ACTIVE], registry.state_counts[State.RETRY_2W]) == (0, 1)


def test_the_longest_absence_shows_in_record_and_digest() -> None:
    registry = Registry(4)
    registry.insert(record(0))
    registry.set_longest(0, 9, 12)
    assert registry.record(0) == record(0, longest=9, revision=12)
    assert registry.shard_digests == digests(registry)
    registry.remove(0)
    assert (registry.longest[0], registry.shard_digests) == (0, [0] * 4)


def test_restored_records_are_what_inserted_ones_would_be(seed: int) -> None:
    chance = random.Random(seed)
    records = [
        record(
            slot,
            f"näme-{slot}",
            state=chance.choice(LIVE_STATES),
            flags=chance.choice((0, DISCOVERABLE, DISCOVERABLE | LEFT)),
            last_seen_s=chance.uniform(0.0, 1e9),
            revision=chance.randrange(1_000),
            services=chance.choice(("", "chat", "chat,mail")),
            away_until_s=chance.choice((0.0, 9.5)),
            history=chance.choice(("", "1.000,active,coma,left")),
            longest=chance.choice((0, 0, 9, 255)),
        )
        for slot in sorted(chance.sample(range(200), 120))
    ]
    restored, inserted = Registry(4), Registry(4)
    for first in range(0, 120, 50):
        restored.restore(columns_of(records[first : first + 50]))
    for one in range(records[-1].slot + 1):
        inserted.insert(record(one, f"other-{one}"))
    for one in range(records[-1].slot + 1):
        inserted.remove(one)
    for one in records:
        inserted.put(one)
    assert [restored.record(one.slot) for one in records] == records
    for registry in (restored, inserted):
        assert registry.taken_slots() == [one.slot for one in records]
        assert registry.discoverable_slots() == [one.slot for one in records if is_discoverable(one.flags)]
        assert set(registry.node_ids()) == {one.node_id for one in records}
        assert registry.ids_count == len(registry) == 120
    assert restored.shard_digests == inserted.shard_digests == digests(restored)
    assert restored.state_counts == inserted.state_counts
    assert restored.states == inserted.states
    assert restored.longest == inserted.longest
    for one in records:
        assert restored.slot_of(one.node_id) == one.slot
        restored.remove(one.slot)
    assert restored.shard_digests == [0] * 4
    assert len(restored.sets) == 0


def test_an_id_or_history_that_is_not_utf_8_is_not_restored() -> None:
    for changed in ({"node_id": [b"\xff"]}, {"history": [b"\xff"]}, {"region": [b"\xff"]}):
        with pytest.raises(UnicodeDecodeError):
            Registry(4).restore(columns_of([record(0)])._replace(**changed))


def test_texts_of_many_are_those_of_each() -> None:
    registry = Registry(4)
    profiles = [
        Profile("192.0.2.1", 1, "k"),
        Profile("é", 2, '"'),
        Profile("b", 3, "ключ", metadata={"é": '"'}),
    ]
    for slot, (node_id, profile) in enumerate(zip("abé", profiles, strict=True)):
        registry.insert(record(slot, node_id, profile=profile.encode()))
        assert (registry.node_id(slot), registry.profile(slot)) == (node_id, profile.encode())
    assert registry.packed_columns([]) == [[], [], [], [], []]
    for slots in ([2], [2, 0], [1, 1, 0]):
        columns = registry.packed_columns(slots)
        assert columns[0] == [registry.node_id(slot) for slot in slots]
        for place, slot in enumerate(slots):
            texts = [column[place] for column in columns]
            assert "\0".join(texts).encode() == registry.texts[slot]


def test_many_records_are_those_of_each(seed: int) -> None:
    chance = random.Random(seed)
    registry = Registry(4)
    for slot in range(60):
        services, away_until_s = chance.choice(("", "chat", "chat,mail")), chance.choice((0.0, 9.5))
        generation, next_key = chance.choice([(0, ""), (0, ""), (2, "key")])
        registry.insert(
            record(
                slot,
                f"n{slot}",
                state=chance.choice(LIVE_STATES),
                services=services,
                region=chance.choice(("", "eu")),
                since_s=chance.random(),
                profile=b"[%d]" % slot,
                away_from_s=away_until_s and 1.5,
                away_until_s=away_until_s,
                history=f"{slot}",
                generation=generation,
                next_key=next_key,
                longest=chance.choice((0, 9)),
            )
        )
    slots = chance.sample(range(60), 40)
    assert registry.records(slots) == [registry.record(slot) for slot in slots]
    assert all(type(each) is Record for each in registry.records(slots))
    assert registry.records([]) == []


def test_flags_of_many_are_looked_at_together() -> None:
    registry = Registry(4)
    for slot, flags in enumerate((0, DISCOVERABLE, DISCOVERABLE | LEFT, DISCOVERABLE | HELD)):
        registry.insert(record(slot, f"n{slot}", flags=flags))
    assert registry.discoverable([3, 2, 1, 0]) == bytes([1, 0, 1, 0])
    assert registry.any_held([0, 3])
    assert not registry.any_held([0, 1, 2])
    assert not registry.any_held([])


texts = st.text("abc", max_size=8)
names = st.sampled_from(["", "a", "a,b", "a,b,c"])
said = st.fixed_dictionaries(
    {
        "services": names,
        "region": texts,
        "profile": texts.map(str.encode),
        "history": texts,
        "next_key": texts,
    }
)


def counted(registry: Registry) -> int:
    """Add up the bytes of all nodes anew."""
    records = [registry.record(slot) for slot in registry.taken_slots()]
    alone = sum(text_bytes(one.node_id, one.profile, one.history, one.next_key) for one in records)
    return alone + sum(set_bytes(*one) for one in {(one.services, one.region) for one in records})


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["say", "remove", "move", "move all"]), said)))
def test_bytes_held_are_known_before_and_after_every_step(
    steps: list[tuple[int, str, dict[str, Any]]],
) -> None:
    registry = Registry(4)
    for number, step, fields in steps:
        slot = registry.slot_of(f"n-{number}")
        if step == "say":
            place = registry.next_slot() if slot is None else slot
            one = record(place, f"n-{number}", **fields)
            expected = registry.bytes_held + registry.bytes_added(one)
            (registry.insert if slot is None else registry.replace)(one)
            assert registry.bytes_held == expected
        elif slot is None:
            continue
        elif step == "remove":
            registry.remove(slot)
        elif step == "move":
            registry.set_state(slot, State.COMA, 1.0, fields["history"])
        else:
            registry.set_states([slot], registry.state(slot), State.COMA, [1.0], [fields["history"]])
        assert registry.bytes_held == counted(registry)
    taken = registry.taken_slots()
    if taken:
        restored = Registry(2)
        restored.restore(columns_of([registry.record(slot) for slot in taken]))
        assert restored.bytes_held == registry.bytes_held


def test_a_replica_fills_any_slot_and_gives_none() -> None:
    registry = Registry(4)
    registry.fill(record(3, "d"))
    registry.fill(record(1, "b"))
    assert (len(registry), registry.slots_count, registry.taken_slots()) == (2, 4, [1, 3])
    registry.clear(3)
    assert (len(registry), registry.slot_of("d"), registry.is_free(3)) == (1, None, True)
    registry.fill(record(3, "e"))
    assert registry.record(3) == record(3, "e")
    assert list(registry.free_slots) == []
    for taken in (record(3, "f"), record(0, "b")):
        with pytest.raises(InternalBug, match="cannot fill"):
            registry.fill(taken)
    assert len(registry) == 2
