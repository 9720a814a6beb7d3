"""A server loads a database with nodes that sign."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.population import node_id
from benchmarks.signers import ED25519, RSA
from benchmarks.suite.databases import Databases
from openred_central.directory.directory import Directory
from openred_central.directory.state.node import Profile
from openred_central.storage.loading import load
from openred_central.storage.sqlite.sqlite import SqliteStore
from tests.support.clock import VirtualClock
from tests.support.options import directory_options, lifecycle_options, mass_silence_options


def test_server_loads_nodes_that_sign_with_their_keys(tmp_path: Path) -> None:
    databases = Databases(tmp_path)
    store = SqliteStore(databases.path_with_signers(30, 20))
    store.open()
    found = Directory(
        directory_options(), lifecycle_options(), mass_silence_options(), random.Random(1).random
    )
    # Loading checks every record.
    load(found, store, VirtualClock(), tick_s=1.0)
    store.close()
    assert len(found) == 70
    assert not found.is_bound(node_id(29))
    registry = found.nodes.registry
    for kind in (ED25519, RSA):
        name = databases.signers.node_id(kind, 19)
        assert found.is_bound(name)
        slot = registry.slot_of(name)
        assert slot is not None
        key = databases.signers.key(kind, 19).public_text
        assert Profile.decode(registry.profile(slot)).public_key == key
