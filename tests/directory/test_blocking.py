"""Blocks are stored before anybody is told, and come back from a store with what they cover."""

from __future__ import annotations

import pytest

from openred_central.directory import blocking
from openred_central.directory.directory import Directory
from openred_central.directory.discovery import Query
from openred_central.directory.lifecycle import LIVE_STATES
from openred_central.directory.state.blocks import Block, Blocks, Kind, name_of, pack
from openred_central.errors import CallerError
from tests.support.building import (
    DictStore,
    at,
    expect_consistent,
    make_directory,
    register,
    restarted,
    save_all,
)

BLOCK = Block(Kind.ID, "a", "spam", 1.0, None)


def judge(directory: Directory) -> int:
    *_, changed = directory.blocking.judging()
    return changed


def discoverable(directory: Directory) -> int:
    found = directory.discover(Query(frozenset(), LIVE_STATES, 10), at(0.0)).step()
    assert found is not None
    return found.total


def test_the_next_batch_has_a_block_that_callers_wait_for() -> None:
    directory = make_directory()
    # Nothing but the vitals, which are of a moment ago.
    directory.saving.take_changes(10, at(0.0), flush=False)
    directory.blocking.add(BLOCK)
    batch = directory.saving.take_changes(10, at(0.0), flush=False)
    assert batch is not None
    assert (list(batch.kept), batch.last_change) == (
        [("block/id/a", pack(BLOCK))],
        directory.saving.last_change,
    )
    directory.saving.put_back(batch)
    directory.blocking.remove(Kind.ID, "a")
    batch = directory.saving.take_changes(10, at(0.0), flush=False)
    assert batch is not None
    assert list(batch.kept) == [("block/id/a", None)]


def test_blocks_outlive_a_restart() -> None:
    directory, store = make_directory(), DictStore()
    register(directory, "a", at(0.0))
    register(directory, "b", at(0.0))
    directory.blocking.add(BLOCK)
    directory.blocking.add(Block(Kind.NETWORK, "192.0.2.0/24", "", 2.0, 1e9))
    assert judge(directory) == 2
    save_all(directory, store, at(0.0))
    again = restarted(store)
    assert list(again.blocking.blocks) == list(directory.blocking.blocks)
    assert discoverable(again) == 0
    assert judge(again) == 0
    again.blocking.remove(Kind.NETWORK, "192.0.2.0/24")
    assert (judge(again), discoverable(again)) == (1, 1)
    save_all(again, store, at(0.0))
    assert list(restarted(store).blocking.blocks) == [BLOCK]
    expect_consistent(again, at(0.0))


def test_a_store_that_lost_blocks_gets_them_again() -> None:
    directory = make_directory()
    directory.blocking.add(BLOCK)
    save_all(directory, DictStore(), at(0.0))
    store = DictStore()
    directory.blocking.store_all(store.load_kept())
    save_all(directory, store, at(0.0))
    assert dict(store.load_kept()) == {"block/id/a": pack(BLOCK)}


def test_a_store_that_has_blocks_of_before_loses_them() -> None:
    directory, store = make_directory(), DictStore()
    directory.blocking.add(BLOCK)
    save_all(directory, store, at(0.0))
    directory.blocking.remove(Kind.ID, "a")
    # The end is stored in a state that the store has lost since.
    save_all(directory, DictStore(), at(0.0))
    directory.blocking.store_all([*store.load_kept(), ("block/id", b"damaged"), ("patience", b"")])
    save_all(directory, store, at(0.0))
    assert dict(store.load_kept()) == {}


def test_many_nodes_are_judged_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openred_central.directory.blocking.SLICE_RECORDS", 3)
    directory = make_directory()
    for number in range(10):
        register(directory, f"node-{number}", at(0.0))
    directory.blocking.add(Block(Kind.NETWORK, "0.0.0.0/0", "", 0.0, None))
    assert list(directory.blocking.judging()) == [3, 6, 9, 10]
    # Nodes may be gone before their turn.
    directory.blocking.remove(Kind.NETWORK, "0.0.0.0/0")
    judging = directory.blocking.judging()
    next(judging)
    directory.forget("node-9", at(0.0))
    assert [*judging][-1] == 9


def test_a_block_of_an_id_concerns_no_other_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openred_central.directory.blocking.SLICE_RECORDS", 1)
    directory = make_directory()
    for node_id in "abc":
        register(directory, node_id, at(0.0))
    directory.blocking.add(Block(Kind.NETWORK, "198.51.100.0/24", "", 0.0, None))
    for change in (directory.blocking.add, lambda block: directory.blocking.remove(Kind.ID, block.subject)):
        change(BLOCK)
        # As much work in a directory of any size.
        assert list(directory.blocking.judging(BLOCK)) == [1, 1]
    assert list(directory.blocking.judging(BLOCK._replace(subject="unknown"))) == [0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block/colour/red", pack(BLOCK)),
        ("block/network/192.0.2.1/24", pack(BLOCK)),
        ("block/network/192.0.2.1", pack(BLOCK)),
        ("block/id", pack(BLOCK)),
        ("block/id/a", b"{}"),
        ("block/id/a", b"not JSON"),
        ("block/id/a", pack(BLOCK._replace(reason="x" * 201))),
        ("block/id/a", pack(BLOCK._replace(made_at="then"))),  # type: ignore[arg-type]
        ("block/id/a", pack(BLOCK._replace(ends_at=True))),
    ],
)
def test_a_damaged_block_is_left_out_with_its_name(name: str, value: bytes) -> None:
    directory = make_directory()
    (fault,) = directory.restore_kept([(name, value), ("block/id/b", pack(BLOCK))])
    assert name in fault
    assert [block.subject for block in directory.blocking.blocks] == ["b"]


def test_all_blocks_of_a_store_hold_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "BLOCKS_MAX", 1)
    directory = make_directory()
    assert directory.restore_kept([(f"block/id/{name}", pack(BLOCK)) for name in "ab"]) == []
    assert [block.subject for block in directory.blocking.blocks] == ["a", "b"]
    with pytest.raises(CallerError) as caught:
        directory.blocking.add(BLOCK._replace(subject="c"))
    assert caught.value.code == "blocks_full"


def test_a_block_comes_back_from_its_name_and_value() -> None:
    known = Blocks()
    for block in (BLOCK, Block(Kind.NETWORK, "2001:db8::/32", "ä", 1.5, 2.5)):
        known.take(name_of(block), pack(block))
        assert known.get(block.kind, block.subject) == block
        known.take(name_of(block), None)
    assert (len(known), known.of_address("2001:db8::1")) == (0, None)
