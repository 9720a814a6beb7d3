"""The nodes of all benchmarks are equal as registrations and as records."""

from __future__ import annotations

import random
from base64 import b64decode
from pathlib import Path

from benchmarks import population
from openred_central.directory.directory import Directory
from openred_central.directory.lifecycle import State
from openred_central.directory.state.node import KEYED, Profile
from openred_central.security.node_keys import load_node_key
from openred_central.storage.loading import load
from tests.support.clock import VirtualClock
from tests.support.options import directory_options, lifecycle_options, mass_silence_options


def directory() -> Directory:
    return Directory(
        directory_options(), lifecycle_options(), mass_silence_options(), random.Random(1).random
    )


def test_node_has_the_documented_size() -> None:
    node = population.document(1_234)
    assert len(node["node_id"]) == 15
    assert len(b64decode(node["public_key"], validate=True)) == 32
    assert all(load_node_key(population.public_key(number)).kind == "ed25519" for number in range(200))
    assert (len(node["services"]), len(node["metadata"])) == (2, 2)


def test_server_loads_a_database_of_nodes(tmp_path: Path) -> None:
    store = population.filled(tmp_path / "nodes.db", population.records(7_000))
    found = directory()
    # Loading checks every record.
    attended = load(found, store, VirtualClock(), tick_s=1.0)
    store.close()
    assert len(found) == 7_000
    assert attended.now().attended_s == population.ATTENDED_S
    # No deadline falls into a measurement.
    assert found.expiry.next_s() > population.ATTENDED_S + 86_400


def test_all_nodes_can_be_silent_since_one_moment() -> None:
    (records,) = population.records(3, 900.0)
    assert {record.last_seen_s for record in records} == {900.0}


def test_all_nodes_can_be_in_coma_since_one_moment() -> None:
    (records,) = population.records(3, 900.0, State.COMA)
    assert {(record.state, record.since_s) for record in records} == {(State.COMA, 900.0)}


def test_record_equals_registration() -> None:
    record, node = population.record(20), population.document(20)
    assert record.node_id == node["node_id"]
    assert record.services.split(",") == node["services"] == ["index", "storage"]
    # A server keeps a key in its canonical form, with a flag.
    assert Profile.decode(record.profile).public_key == load_node_key(node["public_key"]).text
    assert record.flags & KEYED
