"""No method that changes records does so without the lead; a method that nobody sorted in here fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openred_central.directory.directory import Directory
from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import hash_id
from openred_central.errors import CallerError
from tests.support.building import (
    SHORT_LIFE,
    at,
    make_directory,
    record_of,
    register,
    registration,
    run_until,
    state_of,
)

NOW = at(20.0)
# Methods that only read, or that serve the start or a replica.
READERS = {
    *("advice_s", "amended", "discover", "first_gap_s", "heartbeat_due_at", "is_bound", "is_crowded"),
    *("not_found", "open_slot", "require_lead", "restore_kept", "slot", "take_shared", "visible_slot"),
}
MUTATORS: dict[str, Callable[[Directory], object]] = {
    "add": lambda directory: directory.add(
        record_of(directory, "silent")._replace(node_id="b", slot=2), hash_id("b"), NOW
    ),
    "amend": lambda directory: directory.amend(record_of(directory, "silent")._replace(region="eu")),
    "bind": lambda directory: directory.bind(0),
    "change_key": lambda directory: directory.change_key(0, "key", ""),
    "forget": lambda directory: directory.forget("silent", NOW),
    "heartbeat": lambda directory: directory.heartbeat(0, NOW),
    "hold": lambda directory: directory.hold("silent", NOW),
    "leave": lambda directory: directory.leave("silent", NOW),
    "register": lambda directory: directory.register(registration("new"), proved=True, now=NOW),
    "release": lambda directory: directory.release("held", NOW),
    "revoke_all": lambda directory: directory.revoke_all(0),
    "wake": lambda directory: directory.wake("silent", NOW),
}


def without_lead() -> Directory:
    """Return a directory of a node that fell silent and one that is held."""
    directory = make_directory(life=SHORT_LIFE)
    register(directory, "silent", at(1.0))
    register(directory, "held", at(1.0))
    directory.hold("held", at(1.0))
    run_until(directory, at(12.0))
    assert state_of(directory, "silent") is not State.ACTIVE
    directory.saving.take_changes(100, at(12.0))
    directory.nodes.transitions.take()
    directory.nodes.is_replica = True
    return directory


def test_every_public_method_is_known_to_read_or_to_change() -> None:
    public = {name for name in vars(Directory) if not name.startswith("_")}
    assert public == READERS | MUTATORS.keys()


@pytest.mark.parametrize("name", MUTATORS)
def test_nothing_changes_without_the_lead(name: str) -> None:
    directory = without_lead()
    registry, last = directory.nodes.registry, directory.nodes.changes.last
    before = registry.records(registry.taken_slots())
    with pytest.raises(CallerError, match="503 no_leader") as raised:
        MUTATORS[name](directory)
    assert raised.value.headers == (("Retry-After", "1"),)
    assert registry.records(registry.taken_slots()) == before
    assert directory.nodes.changes.last == last
    assert not len(directory.nodes.changes)
    assert not directory.nodes.transitions.take()
    directory.nodes.is_replica = False
    MUTATORS[name](directory)
    assert len(directory.nodes.changes), "with the lead, it does change something"


def test_active_nodes_are_heard_without_the_lead() -> None:
    directory = without_lead()
    slot = directory.slot("held", NOW)
    assert directory.heartbeat(slot, at(1_000.0)) is State.ACTIVE
    assert directory.nodes.registry.last_seen_s[slot] == 1_000.0
    assert not directory.saving.pending_records
