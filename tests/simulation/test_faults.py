"""Faults follow from the seed, and each kind from nothing else."""

from __future__ import annotations

from openred_central.simulation.faults import LONG_S, LONG_SHARE_MAX, Fault, Kind, schedule
from openred_central.simulation.population import YEAR_S

LENGTH_S = 5 * YEAR_S


def of(kind: Kind, faults: list[Fault]) -> list[Fault]:
    return [fault for fault in faults if fault.kind is kind]


def test_faults_of_a_kind_do_not_depend_on_other_kinds(seed: int) -> None:
    everything = schedule(set(Kind), LENGTH_S, seed)
    for kind in Kind:
        assert schedule({kind}, LENGTH_S, seed) == of(kind, everything)
    assert schedule(set(), LENGTH_S, seed) == []
    assert schedule(set(Kind), LENGTH_S, seed + 1) != everything


def test_faults_come_in_order_and_long_ones_fit(seed: int) -> None:
    for length_s in (LENGTH_S, YEAR_S / 10):
        faults = schedule(set(Kind), length_s, seed)
        assert [fault.start_s for fault in faults] == sorted(fault.start_s for fault in faults)
        for kind, long_s in LONG_S.items():
            lasts_s = max(fault.length_s for fault in of(kind, faults))
            assert lasts_s >= min(long_s, LONG_SHARE_MAX * length_s)
        forward, back = of(Kind.JUMPS, faults)
        assert forward.jump_s == -back.jump_s > 0
