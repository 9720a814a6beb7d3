"""A refusal says what it is, and whose word."""

from __future__ import annotations

import pytest

from openred_central.client.answers import Answer
from openred_central.client.errors import (
    ClientError,
    ForeignAnswer,
    ProblemError,
    RetryLater,
    Untrusted,
    problem,
    untrusted,
)
from openred_central.security.refusals import VerificationError

NOW_S = 1_800_000_000.0
NOW = "Fri, 15 Jan 2027 08:00:00 GMT"
OWN = b'{"type":"urn:openred:problem:bad_request","error":"bad_request"}'
PROBLEM = {"content-type": "application/problem+json; charset=utf-8"}


def refused(
    status: int, body: bytes = OWN, headers: dict[str, str] = PROBLEM
) -> ProblemError | ForeignAnswer:
    return problem(Answer(status, headers, body, keep_alive=True), NOW_S)


def test_problem_document_is_kept_in_full() -> None:
    told = refused(
        400,
        OWN[:-1] + b',"message":"No.","suggestion":"Do.","fields":{"port":"is none"},"reason":"r"}',
    )
    assert isinstance(told, ProblemError)
    assert (told.status, told.error, told.reason) == (400, "bad_request", "r")
    assert (told.message, told.suggestion, told.fields) == ("No.", "Do.", {"port": "is none"})
    assert str(told) == "400 bad_request: No."


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 410, 421, 429, 500, 502, 503])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", PROBLEM),
        (b"<html>Bad gateway</html>", {"content-type": "text/html"}),
        (b"[1]", PROBLEM),
        (b'{"error":1,"fields":"x"}', PROBLEM),
        (b'{"error":"node_not_found"}', PROBLEM),
        (b'{"type":"about:blank","error":"node_not_found"}', PROBLEM),
        (OWN, {"content-type": "application/json"}),
        (OWN, {}),
        (OWN[:-1], PROBLEM),
    ],
)
def test_other_problem_documents_are_foreign(status: int, body: bytes, headers: dict[str, str]) -> None:
    told = refused(status, body, headers)
    assert type(told) is ForeignAnswer
    assert told.status == status
    assert str(status) in str(told)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_what_leads_elsewhere_is_said_where_and_not_followed(status: int) -> None:
    told = refused(status, b"", {"location": "https://else\x1bwhere/"})
    assert type(told) is ForeignAnswer
    assert r"leads to 'https://else\x1bwhere/'" in str(told)


@pytest.mark.parametrize(
    "type_", ["urn:openred:problem:x", "https://iana.org/assignments/http-problem-types#q"]
)
def test_a_directory_has_two_kinds_of_problem_types(type_: str) -> None:
    assert type(refused(404, b'{"type":"%b","error":"x"}' % type_.encode())) is ProblemError


@pytest.mark.parametrize(
    ("status", "headers", "expected_s"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (503, {"retry-after": "0"}, 0.0),
        (429, {"retry-after": "soon"}, None),
        (429, {}, None),
        (400, {"retry-after": "7"}, None),
        (429, {"retry-after": "²"}, None),
        (503, {"retry-after": "Fri, 15 Jan 2027 08:01:00 GMT"}, 60.0),
        (503, {"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        # The clock of what answers is an hour slow.
        (
            503,
            {"retry-after": "Fri, 15 Jan 2027 07:01:00 GMT", "date": "Fri, 15 Jan 2027 07:00:00 GMT"},
            60.0,
        ),
        (503, {"retry-after": NOW, "date": "yesterday"}, 0.0),
        (503, {"retry-after": "Fri, 15 Jan 2027 08:01:00"}, None),
        (503, {"retry-after": "Fri, 99 Jan 2027 08:01:00 GMT"}, None),
        (503, {"retry-after": "Fri, 15 Jan 99999 08:01:00 GMT"}, None),
    ],
)
@pytest.mark.parametrize("body", [OWN, b"<html>"])
def test_retry_after_is_read_in_both_forms(
    status: int, headers: dict[str, str], expected_s: float | None, body: bytes
) -> None:
    told = refused(status, body, PROBLEM | headers)
    assert (told.retry_after_s if isinstance(told, RetryLater) else None) == expected_s


def test_untrusted_is_a_client_error_with_the_original_reason() -> None:
    with pytest.raises(Untrusted, match="too old") as caught, untrusted():
        raise VerificationError("expired", "too old")
    assert isinstance(caught.value, ClientError)
    assert isinstance(caught.value, VerificationError)
    assert (caught.value.reason, caught.value.message) == ("expired", "too old")
