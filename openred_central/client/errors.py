"""What can go wrong for a client: nobody answers, what answers is no directory, or the directory refuses."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from .answers import Answer, BadAnswer, ClientError

__all__ = [
    "BadAnswer",
    "ClientError",
    "ClockError",
    "ConnectionFailed",
    "ProblemError",
    "RetryLater",
    "problem",
]


class ConnectionFailed(ClientError):
    """Nobody answers, or not in time. The message says where, and what to look at."""


class ClockError(ClientError):
    """The directory's time and ours are too far apart for a client to believe it and sign by it.

    `ahead_s` is how many seconds the directory says to be ahead of us. The message says what to do.
    """

    def __init__(self, ahead_s: float, ahead_s_max: float) -> None:
        self.ahead_s = ahead_s
        where = "ahead of" if ahead_s > 0 else "behind"
        super().__init__(
            f"the directory says that its clock is {abs(ahead_s):,.0f} s {where} this machine's; requests "
            f"are signed by its time up to {ahead_s_max:,.0f} s. Set the clock of this machine; where it "
            "is right, tell who runs the directory"
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
        self.message = _text(document, "message") or f"The server answered {status}, and does not say why."
        self.suggestion = _text(document, "suggestion")
        fields = document.get("fields")
        self.fields = (
            {str(name): str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}
        )
        super().__init__(f"{status} {self.error}: {self.message}")


class RetryLater(ProblemError):
    """The same for what may be taken in `retry_after_s` seconds, which is longer than the client waits."""

    def __init__(self, status: int, document: Mapping[str, object], retry_after_s: float) -> None:
        super().__init__(status, document)
        self.retry_after_s = retry_after_s


def problem(answer: Answer) -> ProblemError:
    """The error that an answer of status 400 and above tells; `RetryLater` where it says when to return.

    It may come from something else than a directory, such as a proxy before it.
    """
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    # Seconds only: a date (RFC 9110 §10.2.3) would need our clock to be right.
    retry_after = answer.headers.get("retry-after", "")
    if answer.status in (429, 503) and retry_after.isascii() and retry_after.isdigit():
        return RetryLater(answer.status, document, float(retry_after[:9]))
    return ProblemError(answer.status, document)


def _text(document: Mapping[str, object], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""
