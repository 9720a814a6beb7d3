"""When very many fall silent at once: what is believed, what is held, and how a hold ends."""

from __future__ import annotations

import gc
from itertools import count

import pytest

from openred_central.directory.life.mass_silence import NAME_PARTS, MassSilence
from tests.support.building import DAY_S, HOUR_S, at, reachable
from tests.support.options import mass_silence_options

NODES = 10_000
# Slots that no test names.
NUMBERS = count(1_000)


def advance(silence: MassSilence, attempts: int, now_s: float, *, nodes: int = NODES, asked: int = 0) -> int:
    """How many of `attempts` nodes, others each time, are let through."""
    for done in range(attempts):
        slot = next(NUMBERS)
        if not silence.may_advance(slot, nodes, asked, at(now_s)):
            return done
        silence.advanced([slot], now_s)
    return attempts


@pytest.mark.parametrize(
    ("nodes", "believed"),
    [
        # Five percent, and never fewer than a hundred are suspicious.
        (10_000, 500),
        (10_019, 500),
        (2_000, 100),
        (1_000, 99),
        (50, 99),
    ],
)
def test_more_than_five_percent_within_an_hour_are_not_believed(nodes: int, believed: int) -> None:
    silence = MassSilence(mass_silence_options())
    assert advance(silence, 1_000, 0.0, nodes=nodes) == believed
    assert silence.hold is not None
    assert f"{believed} of {nodes} nodes fell silent" in silence.hold.reason
    assert (silence.hold.since_at, silence.hold.since_monotonic_s) == (at(0.0).wall_s, at(0.0).monotonic_s)


def test_an_hour_later_the_same_may_fall_silent_again() -> None:
    silence = MassSilence(mass_silence_options())
    assert advance(silence, 500, 0.0) == 500
    assert advance(silence, 500, HOUR_S + 60.0) == 500
    assert silence.hold is None
    assert silence.recent == 500


def test_within_the_hour_they_are_added_up() -> None:
    silence = MassSilence(mass_silence_options())
    assert advance(silence, 300, 0.0) == 300
    assert advance(silence, 300, HOUR_S - 61.0) == 200


def test_churn_that_the_history_expects_is_not_held() -> None:
    """Four times what is usual is believed, however large a share that is."""
    silence = MassSilence(mass_silence_options())
    silence.usual_per_h = 400.0
    assert advance(silence, 1_600, 0.0) == 1_600
    assert advance(silence, 1, 0.0) == 0


def test_the_usual_rate_is_learned_and_forgotten() -> None:
    silence = MassSilence(mass_silence_options())
    for hour in range(24 * 14):
        assert advance(silence, 400, hour * HOUR_S) == 400
    assert 300.0 < silence.usual_per_h < 400.0
    assert silence.threshold(NODES) > 1_200.0
    advance(silence, 1, 24 * 60 * HOUR_S)
    assert silence.usual_per_h < 10.0


def test_a_share_of_one_never_holds() -> None:
    silence = MassSilence(mass_silence_options(share=1.0))
    assert advance(silence, 5_000, 0.0, nodes=10) == 5_000


def test_pending_probes_keep_their_places_without_a_hold() -> None:
    silence = MassSilence(mass_silence_options())
    assert advance(silence, 600, 0.0, asked=200) == 300
    assert silence.hold is None
    assert advance(silence, 600, 0.0, asked=0) == 200
    assert silence.hold is not None


def test_a_node_counts_once_within_the_hour() -> None:
    silence = MassSilence(mass_silence_options())
    for passes in range(6):
        for number in range(500):
            assert silence.may_advance(number, NODES, 0, at(passes * 600.0))
            silence.advanced([number], passes * 600.0)
        assert silence.recent == 500
    # It counts from its last state on.
    assert not silence.may_advance(999, NODES, 0, at(50 * 60.0 + HOUR_S - 60.0))
    assert silence.counts(0)


def test_a_node_counts_for_an_hour_after_its_last_state() -> None:
    silence = MassSilence(mass_silence_options())
    silence.advanced([0], 0.0)
    silence.advanced([0], 1_800.0)
    silence.may_advance(1, NODES, 0, at(HOUR_S + 60.0))
    assert (silence.counts(0), silence.recent) == (True, 1)
    silence.may_advance(1, NODES, 0, at(1_800.0 + HOUR_S))
    assert (silence.counts(0), silence.recent) == (False, 0)


def test_a_heard_node_no_longer_counts_as_silent() -> None:
    silence = MassSilence(mass_silence_options())
    for number in range(500):
        silence.advanced([number], float(number))
    for _ in range(3):
        silence.returned(7)
        silence.returned(70)
        silence.returned(900)
    assert silence.recent == 498
    assert advance(silence, 10, 500.0) == 2


def held(silence: MassSilence) -> MassSilence:
    advance(silence, NODES, 0.0)
    assert silence.hold is not None
    return silence


def test_a_hold_ends_at_half_of_the_believed_number() -> None:
    silence = MassSilence(mass_silence_options())
    silence.advanced(range(500), 0.0)
    assert not silence.may_advance(999, NODES, 0, at(0.0))
    silence.reconsider(1_000, NODES, 0.0, at(10.0).monotonic_s)
    for number in range(400):
        silence.returned(number)
    # 500 advanced and 400 of them came back: with 150 that wait, 250 are silent, half of what is believed.
    silence.reconsider(151, NODES, 0.0, at(10.0).monotonic_s)
    assert silence.hold is not None
    silence.reconsider(150, NODES, 0.0, at(10.0).monotonic_s)
    assert silence.hold is None


def test_a_hold_ends_after_its_longest_time() -> None:
    silence = held(MassSilence(mass_silence_options()))
    silence.reconsider(5_000, NODES, 0.0, at(DAY_S - 1).monotonic_s)
    assert not silence.releasing
    silence.reconsider(5_000, NODES, 0.0, at(DAY_S).monotonic_s)
    assert silence.releasing


def test_after_a_hold_at_least_one_node_moves_on() -> None:
    for nodes, share in ((19, 2), (3, 1)):
        silence = held(MassSilence(mass_silence_options()))
        silence.release(0.0)
        assert advance(silence, 100, 0.0, nodes=nodes) == share


def test_once_the_backlog_is_done_silence_is_judged_afresh() -> None:
    silence = held(MassSilence(mass_silence_options()))
    silence.release(0.0)
    advance(silence, 1_000, 0.0)
    silence.caught_up()
    assert (silence.releasing, silence.recent) == (False, 0)
    assert advance(silence, NODES, 1.0) == 500


def test_nothing_is_reconsidered_where_nothing_is_held() -> None:
    silence = MassSilence(mass_silence_options())
    silence.reconsider(0, NODES, 0.0, 1e9)
    assert not silence.releasing


def test_a_dead_node_is_counted_by_name_not_by_slot() -> None:
    silence = MassSilence(mass_silence_options())
    silence.advanced([0, 1], 0.0)
    silence.died(0, "a")
    assert (silence.recent, silence.counts(0), silence.counts(1)) == (2, False, True)
    silence.advanced([0], 60.0)
    assert silence.recent == 3
    for _ in range(2):
        silence.began_anew("a")
        silence.began_anew("never there")
    assert (silence.recent, silence.counts(0)) == (2, True)


def test_a_dead_node_counts_for_an_hour() -> None:
    silence = MassSilence(mass_silence_options())
    silence.advanced([0], 0.0)
    silence.died(0, "a")
    silence.may_advance(1, NODES, 0, at(HOUR_S))
    silence.began_anew("a")
    assert silence.recent == 0


def test_a_finished_backlog_resets_the_count() -> None:
    silence = MassSilence(mass_silence_options())
    silence.advanced(range(500), 0.0)
    silence.release(0.0)
    silence.caught_up()
    silence.advanced([1], 0.0)
    assert (silence.recent, sum(map(silence.counts, range(500)))) == (1, 1)


def test_as_many_are_believed_together_as_one_by_one() -> None:
    silence = MassSilence(mass_silence_options())
    assert not silence.believes(501, NODES, at(0.0))
    assert silence.hold is None
    assert silence.believes(500, NODES, at(0.0))
    silence.advanced(range(500), 0.0)
    assert not silence.believes(1, NODES, at(0.0))
    assert silence.believes(500, NODES, at(HOUR_S))
    silence = held(MassSilence(mass_silence_options()))
    assert not silence.believes(0, NODES, at(HOUR_S))
    silence.release(0.0)
    assert not silence.believes(0, NODES, at(HOUR_S))


def test_the_names_of_many_dead_hold_up_nothing() -> None:
    silence = MassSilence(mass_silence_options(share=1.0))
    silence.advanced(range(64_000), 1.0)
    for slot in range(64_000):
        silence.died(slot, f"n{slot}")
    names = [
        one
        for one in reachable(silence)
        if isinstance(one, dict) and str(next(iter(one), "")).startswith("n")
    ]
    assert sum(map(len, names)) == 64_000
    assert max(map(len, names)) < 3 * 64_000 / NAME_PARTS
    assert not any(map(gc.is_tracked, names))
    silence.began_anew("n7")
    assert silence.recent == 63_999


def test_a_hold_goes_on_in_the_process_that_takes_over() -> None:
    options = mass_silence_options(hold_s_max=HOUR_S)
    former, present = MassSilence(options), MassSilence(options)
    advance(former, 501, 0.0)
    assert former.hold is not None
    assert present.told_hold(0.0) is None
    # Ten minutes passed there; the clocks of both machines have nothing in common.
    present.resume(former.told_hold(at(600.0).monotonic_s), 5_000.0)
    assert present.hold is not None
    assert present.hold.reason == former.hold.reason
    assert not present.may_advance(1, NODES, 0, at(600.0))
    # Nobody was found to wait so far, which does not say that all came back.
    present.reconsider(0, NODES, 0.0, 5_001.0)
    assert present.hold is not None
    present.reconsider(NODES, NODES, 0.0, 5_000.0 + HOUR_S - 600.0 - 1.0)
    assert present.hold is not None
    present.reconsider(NODES, NODES, 0.0, 5_000.0 + HOUR_S - 600.0)
    assert present.hold is None
