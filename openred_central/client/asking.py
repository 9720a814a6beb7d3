"""One request, sent until it is answered for good: with another proof, by a corrected clock, or later."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from .. import __version__
from .answers import Answer, BadAnswer
from .connections import Connections
from .errors import ClientError, ForeignAnswer, ProblemError, RetryLater, problem
from .identity import Headers, Identity, Proof

WAIT_S_MAX = 10.0
# A server that always says "now" is not asked without end.
_PAUSE_S_MIN = 1.0
# How much later than the next whole second of the directory, whose times are told to the millisecond.
_AFTER_SECOND_S = 0.02
_NOT_MODIFIED = 304
_WRONG_TIME = ("signature_expired", "signature_early")
_WRONG_SESSION = ("session_expired", "session_revoked", "session_syntax", "bad_session")

# Authority, path without query, and body → the header fields that prove a request.
Prove = Callable[[str, str, bytes], Headers]


def ask_for(identity: Identity, proof: Proof, method: str) -> Prove:
    """What proves a request of that `method` as far as `proof` asks for."""
    return partial(identity.headers, proof, method)


class Asker:
    """Sends the requests of `identity` over `connections`.

    It waits by `sleep`, in all at most `wait_s_max` seconds for what the server would take later.
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

    async def ask(
        self,
        method: str,
        target: str,
        said: dict[str, Any] | None,
        prove: Prove,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        """The document that answers a request; what it grants is kept. Raises as `fetch`, and `BadAnswer`."""
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
        """The answer to a request, of status 2xx or 304. `said` becomes its JSON body, `prove` its proof.

        `repeatable` as in `Connections.ask`. Raises `ProblemError`, `RetryLater`, `ClockError`,
        `ConnectionFailed` and `BadAnswer`.
        """
        try:
            body = b"" if said is None else orjson.dumps(said)
        except TypeError as error:
            raise ClientError(f"this cannot be sent as JSON: {error}") from None
        build = partial(self._request, method, target, body, prove)
        # Each cause is mended once: what happens again would happen for ever.
        mended: set[str] = set()
        waited_s = 0.0
        while True:
            answer = await self._connections.ask(build, repeatable=repeatable)
            if answer.status < 300 or answer.status == _NOT_MODIFIED:
                return answer
            refused = problem(answer, self._identity.now_s())
            if isinstance(refused, ForeignAnswer):
                raise ForeignAnswer(refused.status, f"{self._connections.address.url}: {refused}")
            if isinstance(refused, RetryLater):
                pause_s = max(refused.retry_after_s, _PAUSE_S_MIN)
                waited_s += pause_s
                if waited_s > self._wait_s_max:
                    raise refused
                await self._sleep(pause_s)
            elif not await self._mend(refused, mended):
                raise refused

    async def _mend(self, refused: ProblemError, mended: set[str]) -> bool:
        """Whether the request may succeed now, because why it was `refused` is mended."""
        if refused.status != 401 or refused.reason in mended:
            return False
        mended.add(refused.reason)
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
            # A server that has just started takes nothing signed before that, and times are whole seconds.
            now_s = self._identity.signing_s()
            await self._sleep(math.floor(now_s) + 1 - now_s + _AFTER_SECOND_S)
        return True

    def _request(self, method: str, target: str, body: bytes, prove: Prove) -> bytes:
        address = self._connections.address
        headers = [
            ("Host", address.authority),
            ("User-Agent", f"openred-central/{__version__}"),
            ("Accept", "application/json"),
            *prove(address.signed_authority, target.partition("?")[0], body),
        ]
        if body:
            headers.append(("Content-Type", "application/json"))
        if body or method != "GET":
            headers.append(("Content-Length", str(len(body))))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        try:
            return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body
        except UnicodeEncodeError as error:
            raise ClientError(f"the claim has characters that a header cannot have: {error.reason}") from None


def _time_of(refused: ProblemError) -> float | None:
    """The time of the directory that refused, in seconds since the Unix epoch, where it tells that."""
    try:
        moment = datetime.fromisoformat(str(refused.document.get("server_time")))
    except ValueError:
        return None
    # Without an offset from UTC it could be the time of any place.
    return moment.timestamp() if moment.tzinfo else None
