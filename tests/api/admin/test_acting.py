"""Actions of operators on nodes and on the server."""

from __future__ import annotations

from typing import Any

import pytest

from openred_central.api.admin.acting import METRICS_TYPE
from openred_central.storage.store import StoreState
from tests.support.world import DAY_S, assert_problem

from .helpers import Office


@pytest.fixture
def office() -> Office:
    made = Office()
    made.world.register()
    return made


def shown(office: Office) -> Any:
    return office.call("GET", "/admin/nodes/node-1").document


def test_a_silent_node_is_woken(office: Office) -> None:
    office.world.wait(300 * DAY_S)
    assert shown(office)["state"] == "coma"
    reply = office.call("POST", "/admin/nodes/node-1/wake")
    assert reply.status == 200
    assert reply.document == {"status": "woken", "node_id": "node-1", "state": "active", "durable": True}
    assert shown(office)["state"] == "active"


def test_a_held_node_keeps_its_state_until_released(office: Office) -> None:
    assert office.call("POST", "/admin/nodes/node-1/hold").document["status"] == "held"
    assert shown(office)["held"] is True
    office.world.wait(1_000 * DAY_S)
    assert shown(office)["state"] == "active"
    assert office.call("POST", "/admin/nodes/node-1/release").document["status"] == "released"
    office.world.wait(1.0)
    assert (shown(office)["state"], shown(office)["held"]) == ("pending_1st", False)
    assert_problem(office.call("POST", "/admin/nodes/node-1/release"), 409, "node_not_held")


def test_a_purged_node_leaves_a_tombstone(office: Office) -> None:
    reply = office.call("POST", "/admin/nodes/node-1/purge")
    assert reply.document == {"status": "purged", "node_id": "node-1", "state": "dead", "durable": True}
    assert_problem(office.world.call("POST", "/heartbeat/node-1"), 410, "node_dead")


def test_no_node_is_purged_without_a_store(office: Office) -> None:
    office.world.store_state = StoreState.DETACHED
    assert_problem(office.call("POST", "/admin/nodes/node-1/purge"), 503, "store_unavailable")
    assert shown(office)["state"] == "active"


@pytest.mark.parametrize("action", ["wake", "hold", "purge"])
def test_a_change_not_on_disk_yet_is_202(office: Office, action: str) -> None:
    office.world.durable = False
    reply = office.call("POST", f"/admin/nodes/node-1/{action}")
    assert (reply.status, reply.document["durable"]) == (202, False)
    assert office.world.saved_changes[-1] == office.world.directory.saving.last_change


@pytest.mark.parametrize("action", ["wake", "hold", "release", "purge"])
def test_an_unknown_node_is_404(office: Office, action: str) -> None:
    assert_problem(office.call("POST", f"/admin/nodes/nobody/{action}"), 404, "node_not_found")


def test_a_node_that_left_is_not_woken(office: Office) -> None:
    claim = office.world.claim_of(node_id="node-2")
    office.world.call("DELETE", "/nodes/node-2", claim=claim)
    assert_problem(office.call("POST", "/admin/nodes/node-2/wake"), 409, "node_left")


def test_a_snapshot_is_taken(office: Office) -> None:
    assert office.call("POST", "/admin/snapshot").document == {"status": "taken", "nodes": 1}
    assert office.snapshots == 1


def test_an_operator_releases_a_hold_for_mass_silence() -> None:
    office = Office()
    assert office.call("POST", "/admin/mass-silence/release").document == {"status": "not_held"}
    for number in range(200):
        office.world.register(node_id=f"node-{number}")
    office.world.wait(181 * DAY_S)
    silence = office.world.directory.expiry.silence
    assert silence.hold is not None
    assert office.call("POST", "/admin/mass-silence/release").document == {"status": "released"}
    assert silence.hold is None


def test_metrics_have_the_type_of_prometheus(office: Office) -> None:
    response = office.ask("GET", "/metrics")
    assert (response.status, response.content_type, response.body) == (200, METRICS_TYPE, b"figure 1\n")


def test_keys_are_rotated_and_revoked_on_an_operator_s_word() -> None:
    office = Office()
    assert office.call("POST", "/admin/keys/rotate").document["status"] == "rotating"
    assert office.rotations == 1
    reply = office.call("POST", f"/admin/keys/{'k' * 43}/revoke")
    assert (reply.status, reply.document["status"], office.revoked) == (200, "revoked", ["k" * 43])


def test_an_instance_that_is_away_is_forgotten_once() -> None:
    office = Office()
    reply = office.call("POST", "/admin/instances/two/forget")
    assert (reply.status, reply.document["status"], reply.document["instance"]) == (200, "forgotten", "two")
    reply = office.call("POST", "/admin/instances/two/forget")
    assert (reply.status, reply.document["error"]) == (404, "instance_not_found")
