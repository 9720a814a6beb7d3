"""Deadlines wait a moment for a follower that is away, and burials for a day."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cluster.followers import GRACE_S, SESSIONS_S, Absent, Followers

DAY_S = 86_400.0
T0 = 1_000.0


class Leader:
    """The followers of a leader named a, and how often there was something to save."""

    def __init__(self) -> None:
        self.changes = 0
        self.followers = Followers("run-a", "a", missing_s_max=DAY_S, changed=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def follow(self, run: str, name: str, at_s: float = T0) -> None:
        self.followers.joined(run, name)
        self.followers.heard(run, at_s, at_s)


@pytest.fixture
def leader() -> Leader:
    """A leader with one follower, which has delivered all up to `T0`."""
    leader = Leader()
    leader.follow("run-b", "b")
    return leader


def test_leader_alone_waits_for_nobody() -> None:
    followers = Leader().followers
    assert followers.horizon_s(T0) == T0
    assert followers.may_bury(T0)


def test_follower_holds_the_horizon_from_its_first_delivery_on() -> None:
    leader = Leader()
    assert leader.followers.joined("run-b", "b") is None
    assert leader.followers.horizon_s(T0 + 5) == T0 + 5
    leader.followers.heard("run-b", T0 + 3, T0 + 5)
    assert leader.followers.horizon_s(T0 + 6) == T0 + 3
    leader.followers.heard("run-b", T0 + 7, T0 + 7)
    assert leader.followers.horizon_s(T0 + 6) == T0 + 6


@pytest.mark.parametrize("has_link", [True, False])
def test_silent_follower_holds_deadlines_first_and_then_burials(leader: Leader, has_link: bool) -> None:
    followers = leader.followers
    if not has_link:
        followers.parted("run-b", has_drained=False)
    assert followers.horizon_s(T0 + GRACE_S) == T0
    assert followers.may_bury(T0 + GRACE_S), "nothing beyond the horizon is buried anyway"
    later_s = T0 + GRACE_S + 1
    assert followers.horizon_s(later_s) == later_s
    assert not followers.may_bury(later_s)
    assert followers.missing(later_s) == [Absent("b", T0)]
    assert not followers.may_bury(T0 + DAY_S)
    followers.horizon_s(T0 + DAY_S + GRACE_S + 1)
    assert followers.may_bury(T0 + DAY_S + GRACE_S + 1)
    assert followers.missing(T0 + DAY_S + GRACE_S + 1) == []


def test_time_in_which_nobody_attends_does_not_count(leader: Leader) -> None:
    leader.followers.heard("run-b", T0, T0)
    assert leader.followers.horizon_s(T0) == T0
    assert leader.followers.may_bury(T0)


def test_follower_that_is_back_delivers_all_before_it_holds_nothing_up(leader: Leader) -> None:
    followers = leader.followers
    followers.parted("run-b", has_drained=False)
    back_s = T0 + 100
    assert followers.joined("run-b", "b") == T0
    assert not followers.may_bury(back_s), "its former signs of life are still to come"
    followers.heard("run-b", back_s, back_s)
    assert followers.may_bury(back_s)
    assert followers.horizon_s(back_s + 1) == back_s


def test_nobody_waits_for_a_follower_that_said_goodbye(leader: Leader) -> None:
    leader.followers.parted("run-b", has_drained=True)
    assert leader.followers.horizon_s(T0 + 50) == T0 + 50
    assert leader.followers.may_bury(T0 + 50)


def test_nobody_waits_for_a_process_whose_name_a_newer_one_serves(leader: Leader) -> None:
    followers = leader.followers
    followers.parted("run-b", has_drained=False)
    followers.joined("run-b2", "b")
    assert followers.may_bury(T0 + 50)
    assert followers.horizon_s(T0 + 50) == T0 + 50


def test_two_live_followers_of_one_name_both_count(leader: Leader) -> None:
    followers = leader.followers
    leader.follow("run-b2", "b", T0 + 5)
    assert followers.horizon_s(T0 + 6) == T0
    followers.parted("run-b", has_drained=False)
    assert followers.horizon_s(T0 + 6) == T0 + 5


def test_two_that_live_with_one_name_are_told_of_once_and_both_are_waited_for(leader: Leader) -> None:
    followers = leader.followers
    leader.follow("run-b2", "b", T0 + 5)
    assert not followers.heard("run-b2", T0 + 20, T0 + 20)
    assert followers.heard("run-b", T0 + 21, T0 + 21)
    assert not followers.heard("run-b", T0 + 22, T0 + 22)
    for run in ("run-b", "run-b2"):
        followers.parted(run, has_drained=False)
        assert not followers.all_linked(T0 + 23), "it may take a session for valid"
        assert not followers.may_bury(T0 + 60)
        followers.joined(run, "b")
    followers.parted("run-b", has_drained=True)
    assert followers.all_linked(T0 + 23)


def test_last_words_of_a_process_come_late_and_make_no_twin(leader: Leader) -> None:
    followers = leader.followers
    leader.follow("run-b2", "b", T0 + 5)
    assert not followers.heard("run-b", T0 + 4, T0 + 30)
    followers.parted("run-b", has_drained=False)
    assert followers.all_linked(T0 + 30)


def test_who_holds_sessions_is_waited_for_longer_than_who_holds_up_burials() -> None:
    followers = Followers("run-a", "a", missing_s_max=30.0, changed=lambda: None)
    followers.joined("run-b", "b")
    followers.heard("run-b", T0, T0)
    followers.parted("run-b", has_drained=False)
    for now_s in (T0 + 40, T0 + 100, T0 + SESSIONS_S):
        followers.horizon_s(now_s)
        assert followers.may_bury(now_s) is (now_s > T0 + 45)
        assert not followers.all_linked(now_s)
    assert followers.all_linked(T0 + SESSIONS_S + 1)


def test_operator_forgets_only_what_is_away(leader: Leader) -> None:
    followers = leader.followers
    assert not followers.forget("b")
    followers.parted("run-b", has_drained=False)
    assert not followers.forget("c")
    assert followers.forget("b")
    assert followers.may_bury(T0 + 50)


def test_next_leader_waits_for_those_the_former_one_knew(leader: Leader) -> None:
    leader.follow("run-c", "c")
    following = Followers("run-c", "c", missing_s_max=DAY_S, changed=lambda: None)
    following.restore(leader.followers.packed(), T0 + 5)
    assert following.horizon_s(T0 + 6) == T0 + 5 - GRACE_S
    for run, name in (("run-a", "a"), ("run-b", "b")):
        following.joined(run, name)
        following.heard(run, T0 + 6, T0 + 6)
    assert following.horizon_s(T0 + 6) == T0 + 6
    following.parted("run-b", has_drained=False)
    assert not following.may_bury(T0 + 50), "neither a nor b delivers"
    assert [each.name for each in following.missing(T0 + 50)] == ["a", "b"]


def test_missing_follower_stays_missing_over_a_change_of_leader(leader: Leader) -> None:
    now_s = T0 + 1_000
    leader.followers.horizon_s(now_s)
    following = Followers("run-c", "c", missing_s_max=DAY_S, changed=lambda: None)
    following.restore(leader.followers.packed(), now_s)
    assert following.missing(now_s) == [Absent("b", T0)]


def test_former_leader_that_stopped_in_good_order_is_not_waited_for(leader: Leader) -> None:
    leader.followers.parted("run-b", has_drained=True)
    leader.followers.end()
    following = Followers("run-c", "c", missing_s_max=DAY_S, changed=lambda: None)
    following.restore(leader.followers.packed(), T0)
    assert following.horizon_s(T0 + 1) == T0 + 1


def test_restarted_instance_does_not_wait_for_its_former_run(leader: Leader) -> None:
    following = Followers("run-b2", "b", missing_s_max=DAY_S, changed=lambda: None)
    following.restore(leader.followers.packed(), T0)
    assert [each.name for each in following.missing(T0 + 50)] == ["a"]


def test_all_that_the_next_leader_needs_is_saved_when_it_changes(leader: Leader) -> None:
    saved = leader.followers.packed()
    steps = [
        (T0 + 1, lambda: leader.follow("run-c", "c")),
        (T0 + 50, lambda: None),
        (T0 + 51, lambda: leader.followers.heard("run-b", T0 + 51, T0 + 51)),
        (T0 + 52, lambda: leader.followers.parted("run-b", has_drained=True)),
        (T0 + DAY_S + 100, lambda: None),
        (T0 + DAY_S + 101, leader.followers.end),
    ]
    for now_s, step in steps:
        changes = leader.changes
        step()
        leader.followers.horizon_s(now_s)
        assert leader.followers.packed() != saved
        assert leader.changes > changes
        saved = leader.followers.packed()


@given(st.lists(st.tuples(st.sampled_from("bcd"), st.integers(0, 40), st.sampled_from("hpjdf")), max_size=40))
def test_nobody_is_buried_before_all_is_delivered_that_may_be_alive(
    events: list[tuple[str, int, str]],
) -> None:
    """Up to the horizon all is here, or somebody is missing and nobody is buried."""
    leader, now_s = Leader(), T0
    through: dict[str, float] = {}
    for name, passed_s, event in events:
        now_s += passed_s
        followers, run = leader.followers, f"run-{name}"
        if event in "jh":
            followers.joined(run, name)
        if event == "h":
            followers.heard(run, now_s - 0.5, now_s)
            through[name] = max(through.get(name, 0.0), now_s - 0.5)
        elif event == "p":
            followers.parted(run, has_drained=False)
        elif event == "d":
            followers.parted(run, has_drained=True)
            through.pop(name, None)
        elif event == "f" and followers.forget(name):
            through.pop(name, None)
        horizon_s = followers.horizon_s(now_s)
        if followers.may_bury(now_s):
            assert all(horizon_s <= through_s for through_s in through.values())
