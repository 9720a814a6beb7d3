"""How good chances are: their errors, and how long they count."""

from __future__ import annotations

import pytest

from openred_central.directory.empathy.calibration import HALVED_AFTER, Calibration, Quality


def test_without_samples_nothing_is_known() -> None:
    assert Calibration(2).quality() == Quality(0.0, None, None)


def test_errors_of_one_class_do_not_make_up_for_those_of_another() -> None:
    calibration = Calibration(2)
    for number in range(100):
        calibration.add(number % 2, 0.75, happened=number % 4 != 0)
    samples, brier, error = calibration.quality()
    assert (samples, calibration.samples) == (100, 100)
    assert brier == pytest.approx(0.75 * 0.25)
    # All of one class happened, and half of the other: three quarters in all, as was said.
    assert error == pytest.approx(0.25)


def test_wrong_chances_are_found_out() -> None:
    calibration = Calibration(1)
    for chance in (0.0, 1.0):
        for _ in range(10):
            calibration.add(0, chance, happened=chance == 0.0)
    assert calibration.quality() == Quality(20.0, 1.0, 1.0)


def test_old_samples_count_less() -> None:
    calibration = Calibration(1)
    for _ in range(HALVED_AFTER):
        calibration.add(0, 0.5, happened=False)
    assert calibration.quality().samples == HALVED_AFTER / 2
    for _ in range(HALVED_AFTER // 2):
        calibration.add(0, 0.5, happened=True)
    assert calibration.quality().error == 0.0
    assert calibration.samples == 1.5 * HALVED_AFTER
