"""Errors of a client: no answer, an answer of something else than a directory, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime

import orjson

from ..micro_engine.wire.messages import PROBLEM_TYPE
from ..security.refusals import VerificationError
from .answers import Answer, BadAnswer, ClientError

# The beginnings of the types of a directory's problems: its own types, and those of RFC 9457 §4.2.
_OWN_PROBLEMS = ("urn:openred:problem:", "https://iana.org/assignments/http-problem-types#")


class ConnectionFailed(ClientError):
    """There is no answer in time. The message names the address, and what to look at."""


class ForeignAnswer(BadAnswer):
    """An HTTP answer that is not the directory's own, such as that of a proxy before it.

    `status` is that of HTTP. It says nothing about the node; the directory may answer the same request later.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Untrusted(ClientError, VerificationError):
    """A key set, a token or the proof of a peer is not accepted.

    `reason` is the stable name of what is wrong, such as ``expired``; `message` explains it to a person.
    """


@contextmanager
def untrusted() -> Iterator[None]:
    """Raise each `VerificationError` of the body as `Untrusted`."""
    try:
        yield
    except VerificationError as error:
        raise Untrusted(error.reason, error.message) from None


class ClockError(ClientError):
    """The directory's time is too far from ours for a client to sign by it.

    `ahead_s` is how many seconds the directory reports to be ahead of us. The message says what to do.
    """

    def __init__(self, ahead_s: float, ahead_s_max: float) -> None:
        self.ahead_s = ahead_s
        where = "ahead of" if ahead_s > 0 else "behind"
        super().__init__(
            f"the directory reports its clock {abs(ahead_s):,.0f} s {where} this machine's; the limit is "
            f"{ahead_s_max:,.0f} s. Set the clock of this machine; if it is right, report the fault to "
            "the operator of the directory"
        )


class ProblemError(ClientError):
    """The directory refuses a request, and says why.

    `status` is that of HTTP, `error` the stable name such as ``node_not_found``, `reason` why a proof is not
    accepted (empty otherwise), `message` what was wrong, `suggestion` what to do, `fields` the name of each
    wrong field → what is wrong with it, and `document` all that was answered.
    """

    def __init__(self, status: int, document: Mapping[str, object]) -> None:
        self.status = status
        self.document = document
        self.error = _text(document, "error") or f"http_{status}"
        self.reason = _text(document, "reason")
        self.message = _text(document, "message") or f"The server answered {status} and gave no reason."
        self.suggestion = _text(document, "suggestion")
        fields = document.get("fields")
        self.fields = (
            {str(name): str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}
        )
        super().__init__(f"{status} {self.error}: {self.message}")


class RetryLater(ProblemError):
    """A `ProblemError` for a request that may succeed in `retry_after_s` seconds."""

    def __init__(self, status: int, document: Mapping[str, object], retry_after_s: float) -> None:
        super().__init__(status, document)
        self.retry_after_s = retry_after_s


def problem(answer: Answer, now_s: float) -> ProblemError | ForeignAnswer:
    """Return the error in an answer of status 300 and above; `RetryLater` where it says when to return.

    `now_s` is our wall time in seconds, for a date to return at. The directory answers with a problem
    document (RFC 9457) of one of its types. All else counts as a proxy's, of which only the time to return
    is believed.
    """
    document = _own_document(answer)
    retry_after_s = _retry_after_s(answer.headers, now_s)
    if answer.status in (429, 503) and retry_after_s is not None:
        return RetryLater(answer.status, document or {}, retry_after_s)
    if document is not None:
        return ProblemError(answer.status, document)
    where = answer.headers.get("location", "")
    if 300 <= answer.status < 400 and where:
        message = f"the answer is {answer.status}, and leads to {where[:200]!a}: give the directory's URL"
    else:
        message = f"the answer is {answer.status}, and not of a directory: it may come from a proxy before it"
    return ForeignAnswer(answer.status, message)


def _own_document(answer: Answer) -> dict[str, object] | None:
    """Return the problem document of the directory itself, or None."""
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status < 400 or content_type != PROBLEM_TYPE:
        return None
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or not _text(document, "error"):
        return None
    return document if _text(document, "type").startswith(_OWN_PROBLEMS) else None


def _retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds to wait, by ``Retry-After`` in either of its forms (RFC 9110 §10.2.3), or None.

    A date is relative to that of the answer, or else to our own time `now_s`.
    """
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    then_s = _date_s(text)
    if then_s is None:
        return None
    answered_s = _date_s(headers.get("date", ""))
    return max(0.0, then_s - (now_s if answered_s is None else answered_s))


def _date_s(text: str) -> float | None:
    """Return an HTTP date in its preferred form (RFC 9110 §5.6.7) as Unix seconds, or None."""
    try:
        moment: datetime = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    return moment.timestamp() if moment.tzinfo else None


def _text(document: Mapping[str, object], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""
