"""Scores, clients and replays of predictions are right, and a seed repeats them."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import main
from benchmarks.prediction import fit
from benchmarks.prediction.baselines import BASELINES, Curve, Heard
from benchmarks.prediction.replay import Options, Question, Replay
from benchmarks.prediction.scoring import Answers
from benchmarks.prediction.traces import Span
from openred_central.clock import Now
from openred_central.directory.empathy import on_time
from openred_central.directory.lifecycle import DAY_S
from openred_central.simulation.clients import Client, Kind
from openred_central.simulation.population import MIXES, MONDAY_S, generated

HOUR_S = 3_600.0


def answers(*pairs: tuple[float, bool]) -> Answers:
    given = Answers()
    for chance, happened in pairs:
        given.add(chance, happened)
    return given


def test_scores_are_those_of_the_books() -> None:
    scores = answers((0.9, True), (0.8, False), (0.3, False), (0.1, False)).scores()
    assert scores.brier == pytest.approx((0.01 + 0.64 + 0.09 + 0.01) / 4)
    assert scores.log_loss == pytest.approx(
        -(math.log(0.9) + math.log(0.2) + math.log(0.7) + math.log(0.9)) / 4
    )
    assert scores.auc == 1.0
    assert scores.calibration_error == pytest.approx((0.1 + 0.8 + 0.3 + 0.1) / 4)
    assert [each.answers for each in scores.bins] == [0, 1, 0, 1, 0, 0, 0, 0, 1, 1]


def test_equal_chances_have_no_order() -> None:
    assert answers((0.5, True), (0.5, False), (0.5, True)).scores().auc == 0.5
    assert math.isnan(answers((0.5, True)).scores().auc)
    assert answers((1.0, True), (0.0, False)).scores().brier == 0


def test_base_rate_knows_the_share_alone() -> None:
    base = answers((1.0, True), (1.0, False), (1.0, False), (1.0, False)).base().scores()
    assert base.brier == pytest.approx(0.25 * 0.75)
    assert base.calibration_error == 0


def signs(kind: Kind, up: list[Span], advice_s: float, *, ignores: bool = False) -> list[tuple[float, bool]]:
    client = Client(kind, up, HOUR_S, ignores, Random(1))
    found, following = [], client.first()
    while following is not None:
        found.append(tuple(following))
        following = client.next(following.at, advice_s)
    return found


UP = [(0.0, 10_000.0), (50_000.0, 60_000.0)]


def test_client_follows_the_advice_while_it_is_up() -> None:
    times = [at for at, _ in signs(Kind.OFFLINE, [(0.0, 10_000.0)], 3_000.0)]
    assert [later - former for former, later in pairwise(times)] == pytest.approx([3_000.0] * 3)


def test_client_tries_again_within_the_longest_back_off() -> None:
    times = [at for at, _ in signs(Kind.OFFLINE, UP, 8_000.0)]
    assert 50_000 <= times[2] <= 50_600


def test_client_that_slept_notices_within_a_minute() -> None:
    times = [at for at, _ in signs(Kind.SUSPENDING, UP, 8_000.0)]
    assert 50_000 <= times[2] <= 50_060


def test_stalling_client_waits_the_rest_of_its_pause() -> None:
    times = [at for at, _ in signs(Kind.STALLING, UP, 8_000.0)]
    assert times[2] - 50_000 == pytest.approx(8_000 - (10_000 - times[1]))


def test_booting_client_registers_at_each_start() -> None:
    found = signs(Kind.BOOTING, UP, 90_000.0)
    assert [registers for _, registers in found] == [True, True]
    assert 50_000 <= found[1][0] <= 50_030


def test_client_that_ignores_the_advice_has_a_pause_of_its_own() -> None:
    times = [at for at, _ in signs(Kind.OFFLINE, [(0.0, 30 * HOUR_S)], 5.0, ignores=True)]
    gaps = {round(later - former, 6) for former, later in pairwise(times)}
    assert len(gaps) == 1
    assert HOUR_S / 2 <= gaps.pop() <= 1.5 * HOUR_S


@pytest.mark.parametrize("mix", MIXES)
def test_populations_repeat_with_their_seed(mix: str) -> None:
    length_s = 60 * DAY_S
    nodes = generated(mix, 60, length_s, Random(3))
    assert nodes == generated(mix, 60, length_s, Random(3))
    assert {node.kind for node in nodes} <= {name.removesuffix("_m") for name in MIXES[mix]}
    for node in nodes:
        times = [time for span in node.up for time in span]
        assert times == sorted(times)
        assert MONDAY_S <= times[0] <= times[-1] <= MONDAY_S + length_s
        assert all(start < end for start, end in node.up)


def test_curve_finds_a_constant_hazard() -> None:
    curve, chance = Curve(), Random(1)
    for _ in range(4_000):
        late_s = chance.expovariate(1 / DAY_S)
        # In pieces, as a directory sees them.
        curve.expose(0.0, late_s / 3, returned=False)
        curve.expose(late_s / 3, late_s, returned=True)
    curve.renew(0.0)
    for late_s in (600.0, 40_000.0, 2 * DAY_S):
        assert curve.back(late_s, DAY_S) == pytest.approx(1 - math.exp(-1), abs=0.05)


def test_baselines_are_chances() -> None:
    heard = Heard(0.0, 4_000.0, HOUR_S)
    for number in range(1, 40):
        now_s = heard.last_s + HOUR_S * (1 + number % 3)
        heard.again(now_s, now_s + 4_000)
    for silent_s in (0.0, 100.0, 5_000.0, 1e6, 1e9):
        now_s = heard.last_s + silent_s
        for baseline in BASELINES:
            assert 0 <= baseline.chance(heard, now_s) <= 1, baseline.name
            for horizon_s in (HOUR_S, 180 * DAY_S):
                assert 0 <= baseline.back_within(heard, now_s, horizon_s) <= 1, baseline.name


def examples(count: int, weights: fit.Weights) -> list[fit.Example]:
    chance = Random(5)
    made = []
    for user in range(count):
        features = (1.0, chance.gauss(0, 1), chance.gauss(0, 1), chance.gauss(0, 1), chance.random())
        obeys = chance.random() < 0.7
        made.append(fit.Example(user, obeys, features, chance.random() < weights.chance(obeys, features)))
    return made


def test_fit_finds_the_weights_that_made_the_answers() -> None:
    true = fit.Weights((0.2, 1.0, 0.5, -0.8, 1.5), (-1.0, 0.5, 0.1, 0.0, 1.5))
    found = fit.fit(examples(6_000, true))
    for mine, theirs in zip((*found.obeys, *found.ignores), (*true.obeys, *true.ignores), strict=True):
        assert mine == pytest.approx(theirs, abs=0.3)
    assert found.obeys[-1] == found.ignores[-1]


def test_weight_of_fresh_signs_is_never_negative() -> None:
    true = fit.Weights((0.2, 1.0, 0.5, -0.8, -2.0), (-1.0, 0.5, 0.1, 0.0, -2.0))
    assert fit.fit(examples(2_000, true)).obeys[-1] == 0


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["benchmarks", "prediction", *arguments])
    return main()


def test_seed_repeats_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--mix", "hours", "--nodes", "20", "--moments", "60", "--pace", "1d")
    for name in ("a", "b"):
        files = (f"--json={tmp_path / name}.json", f"--chart={tmp_path / name}.svg")
        assert command(monkeypatch, *small, *files) == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    (case,) = json.loads((tmp_path / "a.json").read_bytes())["cases"]
    assert case["nodes"] == 20
    assert 0 < case["scores"]["now"]["base rate"]["brier"] < 0.26
    ElementTree.parse(tmp_path / "a.svg")
    assert "first contacted answers" in capsys.readouterr().out


def test_trace_is_replayed_and_its_bad_lines_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "sessions.txt"
    day = " ".join(["36000000 50400000"] * 7)
    lines = [f"user-{number} 1 {week * 604_800_000} 0 {day}" for number in range(8) for week in (0, 1, 4)]
    trace.write_text("\n".join([*lines, *["a bad line"] * 9]) + "\n", encoding="utf-8")
    assert command(monkeypatch, "--trace", str(trace), "--moments", "30", "--pace", "1h") == 0
    printed = capsys.readouterr()
    assert "8 nodes, 9 lines skipped" in printed.out
    assert "line 25 " in printed.err


def test_trace_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "--trace", str(tmp_path / "none")) == 2
    (tmp_path / "empty").touch()
    assert command(monkeypatch, "--trace", str(tmp_path / "empty"), "--format", "avt") == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 2
    assert all(line.startswith("error: ") for line in printed)


def test_features_are_those_of_the_directory() -> None:
    nodes = generated("hours", 12, 21 * DAY_S, Random(1))
    replay = Replay(nodes, Options(pace_s=HOUR_S, moments=20), 1)
    habits = replay.directory.nodes.habits
    compared = 0

    def ask(now: Now, questions: list[Question]) -> None:
        nonlocal compared
        for _, slot, *_ in questions:
            features, obeys = fit.features_of(replay.directory, slot, now)
            weights = on_time.FOLLOWS if obeys else on_time.IGNORES
            told = on_time.steady_odds(habits, slot, int(now.wall_s // HOUR_S) % 24, obeys=obeys)
            assert sum(map(float.__mul__, weights, features)) == pytest.approx(told)
            compared += 1

    replay.run(ask)
    assert compared
