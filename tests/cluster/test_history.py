"""The judges themselves: each finds what it is there to find."""

from __future__ import annotations

from math import inf

from tests.support.history import (
    GONE,
    Beat,
    Change,
    History,
    Outcome,
    Shown,
    Sight,
    backwards,
    disordered,
    failed_beats,
    gap_s,
    granted,
    longest_silence_s,
    lost,
    outcome_of,
    outrun,
    stood_s,
    unheard,
)

THERE = Shown("active", "key", 1)
MOVED = Shown("active", "key", 2)


def change(
    after: Shown,
    status: int | None,
    error: str | None = None,
    *,
    at_s: float = 0.0,
    seq: int = 0,
    may: bool = True,
) -> Change:
    return Change("n", "change", after, "a", at_s, at_s + 0.5, status, error, f"run-{seq}", may)


def of(*changes: Change) -> History:
    history = History()
    history.changes += changes
    return history


def test_an_answer_says_whether_a_change_was_made() -> None:
    assert outcome_of(201, None) is Outcome.DONE
    assert outcome_of(503, "outcome_unknown") is Outcome.UNKNOWN
    assert outcome_of(None, None) is Outcome.UNKNOWN
    assert outcome_of(503, "no_leader") is Outcome.REFUSED
    assert outcome_of(409, "node_exists") is Outcome.REFUSED


def test_an_acknowledged_change_that_is_not_there_is_lost() -> None:
    history = of(change(THERE, 201), change(MOVED, 200))
    assert not lost(history, {"n": MOVED}, "b")
    assert lost(history, {"n": THERE}, "b")
    assert lost(history, {}, "b")


def test_a_change_of_unknown_outcome_may_be_there_and_one_that_was_refused_may_not() -> None:
    doubtful = of(change(THERE, 201), change(MOVED, 503, "outcome_unknown"))
    assert not lost(doubtful, {"n": THERE}, "b")
    assert not lost(doubtful, {"n": MOVED}, "b")
    refused = of(change(THERE, 201), change(MOVED, 503, "no_leader"))
    assert lost(refused, {"n": MOVED}, "b")
    assert not lost(of(change(THERE, 503, "no_leader")), {}, "b")


def test_a_departed_node_must_not_be_back() -> None:
    history = of(change(THERE, 201), change(GONE, 200))
    assert not lost(history, {}, "b")
    assert lost(history, {"n": THERE}, "b")


def test_a_former_key_that_changes_something_is_found() -> None:
    assert granted(of(change(THERE, 200, may=False)))
    assert not granted(of(change(THERE, 403, may=False)))
    assert granted(of(change(THERE, 409)))
    assert not granted(of(change(THERE, 503, "no_leader")))


def test_numbers_of_commits_follow_the_order_of_changes() -> None:
    first, later = change(THERE, 201, at_s=0.0, seq=7), change(MOVED, 200, at_s=1.0, seq=6)
    assert disordered(of(first, later))
    beside = later._replace(sent_s=0.2)
    assert not disordered(of(first, beside))


def sight(at_s: float, term: int = 1, holder: str = "x", seq: int = 0, attended_s: float = 0.0) -> Sight:
    return Sight(at_s, "line", term, holder, 0, seq, attended_s)


def test_a_row_that_goes_back_is_found() -> None:
    assert not backwards([sight(0), sight(1, term=2, holder="y", seq=1, attended_s=1.0)])
    assert backwards([sight(0, term=2), sight(1, term=1)])
    assert backwards([sight(0, seq=2), sight(1, seq=1)])
    assert backwards([sight(0, attended_s=2.0), sight(1, attended_s=1.0)])
    assert backwards([sight(0, holder="x"), sight(1, holder=""), sight(2, holder="y")])


def test_time_that_outruns_the_clock_is_found() -> None:
    assert not outrun([sight(0), sight(1, attended_s=1.0), sight(11, attended_s=11.0)])
    assert outrun([sight(0), sight(1, attended_s=1.0), sight(11, attended_s=16.0)])
    # The first row may be old.
    assert not outrun([sight(0), sight(1, attended_s=9.0), sight(2, attended_s=10.0)])
    assert not outrun([sight(0), sight(9)])
    assert not outrun([])


def test_time_stands_while_the_clock_goes_on() -> None:
    assert stood_s([sight(0), sight(1, attended_s=9.0), sight(10, attended_s=13.0)]) == 6.0
    assert stood_s([sight(0), sight(3)]) == 3.0
    assert stood_s([sight(0)]) == stood_s([]) == 0.0


def test_a_heartbeat_that_was_forgotten_or_failed_is_found() -> None:
    history = History()
    history.beats.append(Beat("n", "a", 0.0, 0.1, 100.0, 200))
    assert not unheard(history, {"n": 99.9})
    assert unheard(history, {"n": 98.0})
    assert not unheard(history, {"n": 98.0}, forgiven_s=2.0)
    assert not failed_beats(history)
    history.beats.append(Beat("n", "b", 0.0, 0.1, 100.0, 503))
    assert failed_beats(history)
    assert not failed_beats(history, but=["b"])


def test_the_longest_silence_is_between_heartbeats_that_were_taken() -> None:
    history = History()
    for sent_s, status in ((0.0, 200), (1.0, 503), (3.0, 200), (4.0, 200)):
        history.beats.append(Beat("n", "a", sent_s, sent_s + 0.5, 100.0, status))
    assert longest_silence_s(history, "n") == 3.5
    assert longest_silence_s(history, "m") == inf


def test_the_gap_ends_with_the_first_change_that_began_after_it() -> None:
    assert gap_s(of(change(THERE, 201, at_s=0.0), change(THERE, 201, at_s=3.0)), 1.0) == 2.5
