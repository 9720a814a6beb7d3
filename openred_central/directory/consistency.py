"""The invariants of the directory, stated once, for tests after every step and for operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..clock import Now
from .directory import Directory
from .life.expiry import POSTPONE_S
from .lifecycle import DEADLINE_STEP_S, LIVE_STATES
from .soundness import ROUNDING_S
from .state.columns import DIGEST_MASK, record_digest
from .state.node import hash_id
from .state.registry import shard_of
from .state.service_sets import set_bytes


def check(directory: Directory, now: Now) -> list[str]:
    """Return one sentence for each invariant that does not hold; an empty list if all is well."""
    shards = range(directory.nodes.registry.shards_count)
    problems = [problem for shard in shards for problem in _check_shard(directory, shard, now)]
    return [*problems, *_check_sums(directory), *_check_index(directory)]


def check_restored(directory: Directory, now: Now) -> list[str]:
    """Check a directory that was just restored, as `check` does but much faster if all is well.

    The columns show values that only a damaged store holds: states, times, living nodes with a tombstone. The
    restore saw that ids come once and slots in order. Digests, deadlines and the service index were computed
    from these very records, so only their numbers are compared. If anything is wrong, `check` says what.
    """
    nodes = directory.nodes
    registry = nodes.registry
    living = len(registry)
    live_states = sum(map(registry.states.tobytes().count, map(int, LIVE_STATES)))
    sound = (
        [living] * 4 == [live_states, sum(registry.state_counts), len(nodes.deadlines), registry.ids_count]
        and max(registry.last_seen_s, default=0.0) <= now.attended_s + ROUNDING_S
        and not nodes.tombstones.name_any(registry.node_ids())
        and len(nodes.index) == len(registry.discoverable_slots())
    )
    return [] if sound else check(directory, now)


def _check_shard(directory: Directory, shard: int, now: Now) -> Iterator[str]:
    nodes = directory.nodes
    registry = nodes.registry
    for node_id, slot in registry.slots_in_shard(shard):
        held = None if registry.is_free(slot) else registry.node_id(slot)
        if held != node_id:
            yield f"{node_id!r} leads to slot {slot}, which holds {held!r}"
            continue
        if shard_of(node_id, registry.shards_count) != shard:
            yield f"{node_id!r} lies in shard {shard}, which is not its own"
        if registry.state(slot) not in LIVE_STATES:
            yield f"{node_id!r} is registered in state {registry.state(slot).name}"
        if registry.last_seen_s[slot] > now.attended_s + ROUNDING_S:
            yield f"{node_id!r} was last seen {registry.last_seen_s[slot] - now.attended_s:.3f} s from now"
        if not nodes.is_replica:
            yield from _check_deadline(directory, node_id, slot, now)
        if len(nodes.tombstones) and nodes.tombstones.get(hash_id(node_id)) is not None:
            yield f"{node_id!r} is registered and has a tombstone"
    slots = (slot for node_id, slot in registry.slots_in_shard(shard) if not registry.is_free(slot))
    total = sum(record_digest(registry.record(slot)) for slot in slots) & DIGEST_MASK
    if total != registry.shard_digests[shard]:
        yield f"the digest of shard {shard} is not that of its records"


def _check_deadline(directory: Directory, node_id: str, slot: int, now: Now) -> Iterator[str]:
    nodes, expiry = directory.nodes, directory.expiry
    armed_s = nodes.deadlines.armed_s(slot)
    if slot in expiry.set_aside or slot in expiry.waiting:
        if armed_s is not None:
            yield f"{node_id!r} waits and has a deadline as well"
    elif armed_s is None:
        yield f"{node_id!r} has no deadline"
    elif slot in expiry.asked or slot in expiry.postponed:
        if armed_s > now.attended_s + POSTPONE_S + DEADLINE_STEP_S:
            yield f"{node_id!r} is to be asked, and looked at only in {armed_s - now.attended_s:.3f} s"
    elif armed_s > nodes.deadline_s(slot):
        yield f"{node_id!r} is looked at {armed_s - nodes.deadline_s(slot):.3f} s after its deadline"


def _check_sums(directory: Directory) -> Iterator[str]:
    nodes = directory.nodes
    registry = nodes.registry
    states = Counter(
        registry.state(slot)
        for shard in range(registry.shards_count)
        for _, slot in registry.slots_in_shard(shard)
    )
    for state in LIVE_STATES:
        if states[state] != registry.state_counts[state]:
            yield f"{states[state]} nodes are {state.name}, {registry.state_counts[state]} are counted"
    if sum(registry.state_counts) != len(registry):
        yield f"the counts per state sum to {sum(registry.state_counts)}, {len(registry)} are registered"
    if states.total() != len(registry):
        yield f"the shards hold {states.total()} nodes, {len(registry)} are registered"
    taken = [slot for slot in range(registry.slots_count) if not registry.is_free(slot)]
    sets = {(one.services, one.region) for one in map(registry.service_set, taken)}
    held = sum(map(registry.text_bytes, taken)) + sum(set_bytes(*one) for one in sets)
    if held != registry.bytes_held:
        yield f"the records of all nodes take {held} bytes, {registry.bytes_held} are counted"
    live = nodes.deadlines.live_slots()
    if len(live) != len(nodes.deadlines):
        yield f"{len(live)} deadlines are live, {len(nodes.deadlines)} are counted"
    if live and nodes.is_replica:
        yield "a replica has deadlines, though nothing ends there by itself"
    for slot in live:
        if registry.is_free(slot):
            yield f"the free slot {slot} has a deadline"


def _check_index(directory: Directory) -> Iterator[str]:
    nodes = directory.nodes
    registry = nodes.registry
    indexed = Counter(nodes.index.members())
    expected = {
        (slot, registry.state(slot))
        for shard in range(registry.shards_count)
        for _, slot in registry.slots_in_shard(shard)
        if nodes.is_indexed(slot)
    }
    differing = set(indexed) ^ expected
    if differing:
        yield f"the service index and the discoverable nodes differ in {len(differing)} places"
    if any(count > 1 for count in indexed.values()):
        yield "the service index holds a node twice"
