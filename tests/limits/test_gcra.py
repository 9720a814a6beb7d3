"""Rate limits are exact to the request and bounded in memory; refused requests are not charged."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.limits.gcra import UNUSED_S, NodeLimit, Policy, Table, Verdict, charge

TEN = Policy("register", 10, 60, 10)
HEARTBEAT = Policy("heartbeat", 1, 60, 2)
STEP_S = Fraction(1, 1024)


class Bucket:
    """A naive model: a bucket of `burst` tokens that fills at the pace, in exact arithmetic."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.tokens = Fraction(policy.burst)
        self.at_s = Fraction(0)

    def take(self, now_s: Fraction) -> Verdict:
        policy, pace = self.policy, Fraction(self.policy.limit, self.policy.window_s)
        self.tokens = min(Fraction(policy.burst), self.tokens + (now_s - self.at_s) * pace)
        self.at_s = now_s
        allowed = self.tokens >= 1
        retry_after_s = 0 if allowed else (1 - self.tokens) / pace
        self.tokens -= allowed
        reset_s = (policy.burst - self.tokens) / pace
        return Verdict(allowed, int(self.tokens), float(reset_s), float(retry_after_s))


POLICIES = st.builds(
    Policy,
    st.just("any"),
    st.integers(1, 300),
    st.integers(1, 3_600),
    st.integers(1, 300),
)
# Steps of 1/1024 s: where a request comes exactly in time, it does so in both arithmetics.
GAPS = st.lists(st.integers(0, 200_000), max_size=60)


@given(policy=POLICIES, start=st.integers(0, 10_000_000), gaps=GAPS)
def test_it_is_a_bucket_of_tokens_in_one_float(policy: Policy, start: int, gaps: list[int]) -> None:
    bucket, tat_s, at = Bucket(policy), UNUSED_S, start
    for gap in gaps:
        at += gap
        expected = bucket.take(at * STEP_S)
        tat_s, verdict = charge(tat_s, policy, float(at * STEP_S))
        # Requests are never at the edge by less than a step over the number of tokens, 3e-6 s.
        assert verdict.allowed == expected.allowed
        assert verdict.remaining == expected.remaining
        assert verdict.reset_s == pytest.approx(expected.reset_s, abs=1e-5)
        assert verdict.retry_after_s == pytest.approx(expected.retry_after_s, abs=1e-5)


def test_ten_at_once_and_then_one_every_six_seconds() -> None:
    tat_s, left = UNUSED_S, []
    for _ in range(10):
        tat_s, verdict = charge(tat_s, TEN, 1_000.0)
        assert verdict.allowed
        left.append((verdict.remaining, verdict.reset_s))
    assert left[0] == (9, 6.0)
    assert left[-1] == (0, 60.0)
    assert charge(tat_s, TEN, 1_000.0) == (tat_s, Verdict(False, 0, 60.0, 6.0))
    assert charge(tat_s, TEN, 1_005.9)[1].retry_after_s == pytest.approx(0.1)
    assert charge(tat_s, TEN, 1_006.0)[1].allowed


def test_retries_do_not_prolong_the_wait() -> None:
    tat_s = UNUSED_S
    for _ in range(1_000):
        tat_s, _ = charge(tat_s, TEN, 5.0)
    assert charge(tat_s, TEN, 11.0)[1].allowed


@given(policy=POLICIES, uptime_s=st.floats(0, 1e9), taken=st.integers(0, 400))
def test_retry_at_the_given_time_is_allowed(policy: Policy, uptime_s: float, taken: int) -> None:
    tat_s = UNUSED_S
    for _ in range(taken):
        tat_s, verdict = charge(tat_s, policy, uptime_s)
    _, verdict = charge(tat_s, policy, uptime_s)
    assert charge(tat_s, policy, uptime_s + verdict.retry_after_s)[1].allowed


@pytest.mark.parametrize(
    ("name", "limit", "window_s", "burst"),
    [("", 1, 1, 1), ('a"b', 1, 1, 1), ("ä", 1, 1, 1), ("a", 0, 1, 1), ("a", 1, 0, 1), ("a", 1, 1, 0)],
)
def test_a_policy_that_makes_no_sense_is_refused(name: str, limit: int, window_s: int, burst: int) -> None:
    with pytest.raises(ValueError, match=r"name|allowed"):
        Policy(name, limit, window_s, burst)


def test_policy_has_an_interval_and_can_be_widened() -> None:
    assert TEN.interval_s == 6.0
    assert TEN.times(8) == Policy("register", 80, 60, 80)


def test_a_million_addresses_keep_no_more_than_the_table_holds() -> None:
    table = Table()
    for number in range(1_000_000):
        table.charge([(number.to_bytes(4, "big"), TEN)], number * 1e-6)
    assert len(table) == 65_536


def test_least_recently_used_key_is_evicted_even_if_refused() -> None:
    table, one = Table(3), Policy("one", 1, 60, 1)
    for key in (b"a", b"b", b"c"):
        assert table.charge([(key, one)], 0.0).allowed
    for key in (b"b", b"a"):
        assert not table.charge([(key, one)], 1.0).allowed
    assert len(table) == 3
    for key in (b"d", b"e"):
        assert table.charge([(key, one)], 1.0).allowed
    # Gave way: c, and then b.
    assert not table.charge([(b"a", one)], 2.0).allowed
    assert table.charge([(b"b", one)], 2.0).allowed


def test_all_keys_are_charged_or_none() -> None:
    table, narrow, wide = Table(), Policy("p", 1, 60, 1), Policy("p", 3, 60, 3)
    both = [(b"site", narrow), (b"net", wide)]
    assert table.charge(both, 0.0) == Verdict(True, 0, 60.0, 0.0)
    for _ in range(100):
        assert not table.charge(both, 0.0).allowed
    # The network has paid for one request, not for those that its site was refused.
    for site in (b"2", b"3"):
        assert table.charge([(site, narrow), (b"net", wide)], 0.0).allowed
    assert not table.charge([(b"4", narrow), (b"net", wide)], 0.0).allowed
    # Nor has a site paid for what its network was refused.
    assert table.look([(b"4", narrow)], 0.0).allowed


def test_looking_takes_nothing(seed: int) -> None:
    table, random_ = Table(), random.Random(seed)
    for _ in range(200):
        key, now_s = random_.choice([b"a", b"b"]), random_.random()
        seen = table.look([(key, TEN)], now_s)
        assert seen == table.look([(key, TEN)], now_s) == table.charge([(key, TEN)], now_s)


def test_each_node_has_its_own() -> None:
    limit = NodeLimit(HEARTBEAT)
    for slot in (5, 0, 3):
        assert [limit.charge(slot, 1.0, 10.0).allowed for _ in range(3)] == [True, True, False]
    assert limit.charge(3, 1.0, 70.0).allowed


def test_other_nodes_displace_no_node() -> None:
    limit = NodeLimit(HEARTBEAT)
    for _ in range(2):
        limit.charge(0, 1.0, 0.0)
    for slot in range(1, 100_000):
        limit.charge(slot, 1.0, 0.0)
    assert not limit.charge(0, 1.0, 0.0).allowed
    assert len(limit) == 100_000


def test_new_node_in_a_used_slot_has_a_full_budget() -> None:
    limit = NodeLimit(HEARTBEAT)
    for _ in range(3):
        limit.charge(7, 100.0, 0.0)
    assert limit.charge(7, 200.0, 0.0).remaining == 1
    # Slots in between that were never charged belong to nobody yet.
    assert limit.charge(6, 100.0, 0.0).remaining == 1
