"""Patience for a machine that has much else to do: only tests of time-outs have short ones."""

from __future__ import annotations

import pytest

from openred_central.storage.postgres import connecting, store, writing

PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "HOST_TIMEOUT_S", PATIENCE_S)
    for module in (store, writing):
        monkeypatch.setattr(module, "RENEW_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(writing, "WRITE_TIMEOUT_S", PATIENCE_S)
