"""An operator decides on the database of a cluster that went back, and learns what is lost."""

from __future__ import annotations

from openred_central.directory.losing import Losses
from openred_central.errors import CallerError
from tests.support.building import DictStore, at, make_directory, register, save_all
from tests.support.world import assert_problem

from .helpers import Office


def test_a_database_of_long_ago_is_accepted_once() -> None:
    office = Office()
    assert office.call("POST", "/admin/cluster/accept-database").document["status"] == "accepted"
    assert office.call("POST", "/admin/cluster/accept-database").document["status"] == "not_refused"


def test_lost_changes_are_listed_and_counted() -> None:
    office = Office()
    assert office.call("GET", "/admin/cluster/lost").document == {"changes": [], "total": 0}
    former = make_directory()
    register(former, "node", at(0.0))
    save_all(former, DictStore(), at(0.0))
    assert office.losses.note(former.nodes, make_directory().nodes) == 1
    assert office.call("GET", "/admin/cluster/lost").document == {
        "changes": [{"node_id": "node", "loss": "gone"}],
        "total": 1,
    }


def test_losses_are_named_up_to_a_limit_and_all_of_them_counted() -> None:
    losses, former = Losses(), make_directory()
    for number in range(1_001):
        register(former, f"node-{number}", at(0.0))
    save_all(former, DictStore(), at(0.0))
    losses.note(former.nodes, make_directory().nodes)
    assert (len(losses.named), losses.total) == (1_000, 1_001)


def test_a_server_in_no_cluster_says_so() -> None:
    office = Office(alone=True)
    assert_problem(office.call("POST", "/admin/cluster/accept-database"), 409, "no_cluster")
    assert_problem(office.call("GET", "/admin/cluster/lost"), 409, "no_cluster")


def test_an_instance_that_follows_may_be_asked_as_well() -> None:
    def refusal() -> CallerError:
        return CallerError(409, "not_the_leader", "It follows.", suggestion="Ask the leader.")

    office = Office(refusal=refusal)
    assert_problem(office.call("POST", "/admin/snapshot"), 409, "not_the_leader")
    assert office.call("POST", "/admin/cluster/accept-database").document["status"] == "accepted"
    assert office.call("GET", "/admin/cluster/lost").status == 200
