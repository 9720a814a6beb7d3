"""What the operating system knows of this process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openred_central.reporting import process
from openred_central.reporting.process import process_figures


def test_the_figures_are_those_of_this_process() -> None:
    before = process_figures()
    assert before.resident_bytes is not None
    assert before.resident_bytes > 1 << 20
    assert before.processor_s > 0
    assert before.descriptors_open is not None
    assert before.descriptors_max >= before.descriptors_open
    reading, writing = os.pipe()
    try:
        assert process_figures().descriptors_open == before.descriptors_open + 2
    finally:
        os.close(reading)
        os.close(writing)


def test_a_system_without_proc_leaves_them_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "_STATM", tmp_path / "none")
    figures = process_figures()
    assert (figures.resident_bytes, figures.descriptors_open) == (None, None)
    assert figures.processor_s > 0
