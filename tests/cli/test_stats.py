"""`stats` shows figures."""

from __future__ import annotations

from openred_central.cli.stats import show

from .desk import PLAIN


def test_figures_are_named_by_their_path() -> None:
    figures = {"a": {"b": 1, "c": [{"d": None}], "e": [1, 2]}, "f": False}
    assert show(figures, PLAIN) == "a.b\t1\na.c.0.d\t-\na.e\t1,2\nf\tno"
