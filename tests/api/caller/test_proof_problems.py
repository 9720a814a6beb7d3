"""Whoever does not show who he is, is told what was wrong and which proof would do."""

from __future__ import annotations

import pytest

from openred_central.api.caller.limiting import QUOTA_EXCEEDED
from openred_central.api.caller.proof_problems import (
    key_is_text,
    name_of_another_key,
    no_key,
    not_the_claim,
    refused,
)
from openred_central.clock import Now
from openred_central.micro_engine.wire.messages import Request
from openred_central.security.refusals import REASONS, ProofError
from openred_central.security.signatures import WITH_BODY, WITHOUT_BODY

NOW = Now(0.0, 1_800_000_000.0, 0.0)
REQUEST = Request("POST", "/heartbeat/node-1")


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_told_with_the_time_here(reason: str) -> None:
    error = refused(REQUEST, ProofError(reason, "It was so and so."), NOW)
    assert error.status == REASONS[reason]
    document = error.problem()
    assert document["detail"] == "It was so and so."
    assert (document["reason"], document["server_time"]) == (reason, "2027-01-15T08:00:00.000Z")
    assert document["suggestion"]


def test_who_has_to_wait_is_told_how_long() -> None:
    error = refused(REQUEST, ProofError("too_many_proofs", "Wait."), NOW)
    assert dict(error.headers) == {"Retry-After": "60"}
    document = error.problem()
    assert (document["type"], document["violated-policies"]) == (QUOTA_EXCEEDED, ["proofs"])


@pytest.mark.parametrize(("body", "components"), [(b"", WITHOUT_BODY), (b"{}", WITH_BODY)])
def test_a_401_tells_what_to_sign(body: bytes, components: str) -> None:
    request = Request("POST", "/register", body=body)
    error = refused(request, ProofError("proof_required", "Nothing proves who sent it."), NOW)
    assert (error.status, error.code) == (401, "proof_required")
    headers = dict(error.headers)
    assert headers["Accept-Signature"].startswith(f"sig1={components};created")
    assert headers["WWW-Authenticate"] == "OpenRed, Claim"


def test_what_only_a_claim_could_prove_asks_for_the_claim() -> None:
    error = key_is_text()
    assert (error.status, dict(error.headers)) == (401, {"WWW-Authenticate": "Claim"})
    assert not_the_claim().status == 403


def test_a_registration_that_is_signed_needs_a_key_that_fits() -> None:
    assert no_key().problem()["fields"] == {"public_key": "is not a key"}
    error = name_of_another_key("k-other", "k-own")
    assert (error.status, error.code) == (409, "node_id_taken")
    assert "k-other" in error.message
    assert "k-own" in error.problem()["suggestion"]
