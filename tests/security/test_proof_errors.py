"""The error of a failed proof says the same to machines and to people."""

from __future__ import annotations

import pytest

from openred_central.security.proof_errors import REASONS, ProofError


@pytest.mark.parametrize("code", REASONS)
def test_each_reason_has_its_status(code: str) -> None:
    error = ProofError(code, "Sign anew.")
    assert (error.code, error.status, error.message) == (code, REASONS[code], "Sign anew.")
    assert str(error) == f"{code}: Sign anew."


def test_a_reason_is_the_fault_of_the_caller() -> None:
    assert set(REASONS.values()) == {400, 401, 429}


def test_there_are_no_other_reasons() -> None:
    with pytest.raises(KeyError):
        ProofError("because", "I said so.")
