"""The last commits of a run are found again by number and tag, with how long ago each was the last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openred_central.storage.postgres.history import REMEMBERED_S, History

# Steps of time, and whether the number rises.
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.5, 1.0, 30.0, 400.0]), st.booleans()), min_size=1, max_size=40
)


@given(STEPS)
def test_each_commit_of_the_last_minutes_is_found(steps: list[tuple[float, bool]]) -> None:
    history, made, now_s, seq = History(), [], 0.0, 0
    for tag, (step_s, rises) in enumerate(steps):
        now_s += step_s
        seq += rises
        history.add(seq, tag, now_s)
        made.append((seq, tag, now_s))
    followed = [made_s for _, _, made_s in made[1:]] + [now_s]
    for (number, tag, _), followed_s in zip(made, followed, strict=True):
        found_s, exact_s = history.ago_s(number, tag, now_s), now_s - followed_s
        assert history.ago_s(number, tag + 1_000, now_s) is None, "another tag at the same number"
        if exact_s <= REMEMBERED_S:
            assert found_s is not None
            assert exact_s <= found_s <= exact_s + 1


def test_commits_of_long_ago_are_forgotten() -> None:
    history = History()
    for number in range(3):
        history.add(number, number, number * REMEMBERED_S)
    now_s = 2.5 * REMEMBERED_S
    assert history.ago_s(2, 2, now_s) == 0.0
    assert history.ago_s(1, 1, now_s) == 0.5 * REMEMBERED_S
    assert history.ago_s(0, 0, now_s) is not None, "it was the last one until a commit that is remembered"
    history.add(3, 3, now_s)
    assert history.ago_s(0, 0, now_s) is None
