"""What a refusal tells, whoever it comes from."""

from __future__ import annotations

import pytest

from openred_central.client.answers import Answer
from openred_central.client.errors import ProblemError, RetryLater, problem


def test_a_problem_document_is_told_in_full() -> None:
    body = (
        b'{"error":"bad_request","message":"No.","suggestion":"Do.","fields":{"port":"is none"},"reason":"r"}'
    )
    refused = problem(Answer(400, {}, body, keep_alive=True))
    assert (refused.status, refused.error, refused.reason) == (400, "bad_request", "r")
    assert (refused.message, refused.suggestion, refused.fields) == ("No.", "Do.", {"port": "is none"})
    assert str(refused) == "400 bad_request: No."


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[1]", b'{"error":1,"fields":"x"}'])
def test_a_proxy_that_knows_no_problem_documents_is_understood_as_well(body: bytes) -> None:
    refused = problem(Answer(502, {}, body, keep_alive=True))
    assert type(refused) is ProblemError
    assert (refused.error, refused.fields) == ("http_502", {})
    assert "502" in refused.message


@pytest.mark.parametrize(
    ("status", "retry_after", "expected_s"),
    [
        (429, "7", 7.0),
        (503, "0", 0.0),
        (429, "soon", None),
        (429, "", None),
        (400, "7", None),
        (429, "²", None),
    ],
)
def test_when_to_return_is_told_where_the_server_says_it(
    status: int, retry_after: str, expected_s: float | None
) -> None:
    refused = problem(Answer(status, {"retry-after": retry_after}, b"{}", keep_alive=True))
    assert (refused.retry_after_s if isinstance(refused, RetryLater) else None) == expected_s
