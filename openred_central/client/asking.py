"""One request, sent again where another proof, a corrected clock or a pause can help."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from .. import __version__
from ..micro_engine.wire.messages import JSON_TYPE
from .answers import Answer, BadAnswer, ClientError
from .connections import Connections
from .errors import ForeignAnswer, ProblemError, RetryLater, problem
from .identity import Headers, Identity, ProofLevel

WAIT_S_MAX = 10.0
# A server that always says "now" must not cause a busy loop.
_PAUSE_S_MIN = 1.0
# A margin after the next whole second of the directory, which reports its time in milliseconds.
_AFTER_SECOND_S = 0.02
_NOT_MODIFIED = 304
_EVENT_STREAM = "text/event-stream"
# The directory sends something every 15 s.
_SILENCE_S_MAX = 60.0
_MAY_HAVE_TAKEN_EFFECT = "outcome_unknown"
_WRONG_TIME = ("signature_expired", "signature_early")
_WRONG_SESSION = ("session_expired", "session_revoked", "session_syntax", "bad_session")

# The number of the last change that an answer told, with the name of the run that counts: a directory of
# several processes waits with the answer to a request until it knows that change.
_SEQ = "OpenRed-Seq"
_SEQ_FIELD = _SEQ.lower()
_SEQ_TEXT = re.compile(r"([0-9a-f]{1,32})-([0-9]{1,15})")

# Authority, path without query, and body → the headers that prove a request.
Prove = Callable[[str, str, bytes], Headers]


def ask_for(identity: Identity, level: ProofLevel, method: str) -> Prove:
    """Return the function that proves a request of that `method` at that level."""
    return partial(identity.headers, level, method)


class Asker:
    """The sender of requests of `identity` over `connections`.

    It waits by `sleep`, at most `wait_s_max` seconds in all, where the server would accept a request later.
    """

    def __init__(
        self,
        connections: Connections,
        identity: Identity,
        sleep: Callable[[float], Awaitable[object]],
        wait_s_max: float,
    ) -> None:
        self._connections = connections
        self._identity = identity
        self._sleep = sleep
        self._wait_s_max = wait_s_max
        self._seq = ""

    async def ask(
        self,
        method: str,
        target: str,
        said: dict[str, Any] | None,
        prove: Prove,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        """Return the document that answers a request, and keep what it grants. Raises as `fetch`."""
        answer = await self.fetch(method, target, said, prove, repeatable=repeatable)
        try:
            document = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise BadAnswer(f"{self._connections.address.url} does not answer as a directory does")
        self._identity.take(document)
        return document

    async def fetch(
        self,
        method: str,
        target: str,
        said: dict[str, Any] | None,
        prove: Prove,
        *,
        repeatable: bool = True,
    ) -> Answer:
        """Return the answer to a request, of status 2xx or 304. `said` becomes its JSON body.

        `prove` makes its proof; `repeatable` as in `Connections.ask`. After an unknown outcome only a
        repeatable request is sent again. Raises `ProblemError`, `RetryLater`, `ClockError`,
        `ConnectionFailed` and `BadAnswer`.
        """
        try:
            body = b"" if said is None else orjson.dumps(said)
        except TypeError as error:
            raise ClientError(f"this cannot be sent as JSON: {error}") from None
        build = partial(self._request, method, target, body, prove)
        # Each cause is fixed once: a second time it would recur for ever.
        fixed: set[str] = set()
        waited_s = 0.0
        while True:
            answer = await self._connections.ask(build, repeatable=repeatable)
            self._seq = later_seq(self._seq, answer.headers.get(_SEQ_FIELD, ""))
            if answer.status < 300 or answer.status == _NOT_MODIFIED:
                return answer
            refused = self._refusal(answer)
            if isinstance(refused, ForeignAnswer):
                raise refused
            if isinstance(refused, RetryLater):
                if refused.error == _MAY_HAVE_TAKEN_EFFECT and not repeatable:
                    raise refused
                pause_s = max(refused.retry_after_s, _PAUSE_S_MIN)
                waited_s += pause_s
                if waited_s > self._wait_s_max:
                    raise refused
                await self._sleep(pause_s)
            elif not await self._fix(refused, fixed):
                raise refused

    def follow(self, target: str, last_id: str) -> AsyncGenerator[bytes, None]:
        """Return the pieces of a stream of events, behind the event `last_id`, which may be empty.

        Iterating raises `ProblemError`, `RetryLater`, `BadAnswer`, and `ConnectionFailed` at the end.
        """
        headers = [("Last-Event-ID", last_id)] if last_id else []
        build = partial(self._request, "GET", target, b"", lambda *_: headers, accept=_EVENT_STREAM)
        return self._connections.stream(build, self._refusal, _SILENCE_S_MAX)

    def _refusal(self, answer: Answer) -> ProblemError | ForeignAnswer:
        """Return the error in an answer, with the address of a foreign one."""
        refused = problem(answer, self._identity.now_s())
        if isinstance(refused, ForeignAnswer):
            return ForeignAnswer(refused.status, f"{self._connections.address.url}: {refused}")
        return refused

    async def _fix(self, refused: ProblemError, fixed: set[str]) -> bool:
        """Fix the cause for which a request was `refused`. Return whether it may succeed now."""
        if refused.status != 401 or refused.reason in fixed:
            return False
        fixed.add(refused.reason)
        if refused.reason in _WRONG_SESSION:
            self._identity.end_session()
            return True
        if refused.reason == "proof_required" and self._identity.key is None and self._identity.claim:
            self._identity.claims_life = True
            return True
        if refused.reason not in _WRONG_TIME or (server_time_s := _time_of(refused)) is None:
            return False
        self._identity.correct(server_time_s)
        if refused.reason == "signature_expired":
            # A server refuses signatures from before its start, and signatures have whole seconds.
            now_s = self._identity.signing_s()
            await self._sleep(math.floor(now_s) + 1 - now_s + _AFTER_SECOND_S)
        return True

    def _request(self, method: str, target: str, body: bytes, prove: Prove, accept: str = JSON_TYPE) -> bytes:
        address = self._connections.address
        headers = [
            ("Host", address.authority),
            ("User-Agent", f"openred-central/{__version__}"),
            ("Accept", accept),
            *prove(address.signed_authority, target.partition("?")[0], body),
        ]
        if self._seq:
            headers.append((_SEQ, self._seq))
        if body:
            headers.append(("Content-Type", JSON_TYPE))
        if body or method != "GET":
            headers.append(("Content-Length", str(len(body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        try:
            return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body
        except UnicodeEncodeError as error:
            raise ClientError(f"the claim has characters that a header cannot have: {error.reason}") from None


def later_seq(known: str, told: str) -> str:
    """Return the later number of a change; `told` counts if it is of another run than the `known` one."""
    now, before = _SEQ_TEXT.fullmatch(told), _SEQ_TEXT.fullmatch(known)
    if now is None or (before is not None and before[1] == now[1] and int(before[2]) >= int(now[2])):
        return known
    return told


def _time_of(refused: ProblemError) -> float | None:
    """Return the time that the directory reports, in seconds since the Unix epoch, or None."""
    try:
        moment = datetime.fromisoformat(str(refused.document.get("server_time")))
    except ValueError:
        return None
    # Without an offset from UTC the time is ambiguous.
    return moment.timestamp() if moment.tzinfo else None
