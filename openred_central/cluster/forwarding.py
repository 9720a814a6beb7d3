"""Hand requests on to the leader as they came, over HTTP/1.1 on its private Unix socket.

A request is never sent twice: if the leader ends a connection without an answer, nobody knows what became of
the request, and its caller is told so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from ..client.answers import Answer, AnswerReader, BadAnswer
from ..errors import CallerError
from ..micro_engine.wire.messages import Request, Response

# Requests that are with the leader at once, and those that wait for one of these places.
PLACES: Final = 32
WAITING_MAX: Final = 1_024
PLACE_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 1.0
# Longer than the leader waits for a commit that does not return.
ANSWER_TIMEOUT_S: Final = 15.0
# The leader ends connections that were idle for longer.
IDLE_S_MAX: Final = 50.0
RETRY_AFTER_S: Final = 1

# Fields of one connection (RFC 9110 §7.6.1), those that this side writes, and those that only a proxy of
# ours may write. The leader and this process are one server, so fields that `Connection` names go on.
_OWN: Final = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("proxy-connection", "host", "content-length", "x-request-id"),
        *("x-forwarded-for", "forwarded", "x-real-ip"),
    }
)
# Our engine writes these itself.
_ENGINES: Final = frozenset(
    {
        *("connection", "keep-alive", "content-length", "content-type", "transfer-encoding"),
        *("date", "server"),
        *("access-control-allow-origin", "x-content-type-options", "x-request-id"),
    }
)
# Names that are not written with one capital letter a word.
_SPELT: Final = {
    name.lower(): name
    for name in ("ETag", "OpenRed-Seq", "RateLimit", "RateLimit-Policy", "WWW-Authenticate")
}
# Ways in which a request that was handed on may end.
ANSWERED: Final = "answered"
NOT_SENT: Final = "not_sent"
UNKNOWN: Final = "unknown"
OUTCOMES: Final = (ANSWERED, NOT_SENT, UNKNOWN)


class _Lost(Exception):
    """The connection ended before an answer was complete."""


class _Connection(asyncio.Protocol):
    """One connection to the leader, for one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.idle_since_s = 0.0
        self._reader = AnswerReader()
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of uvloop have no common base with those of asyncio.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        future = self._answer
        if future is None or future.done():
            self.close()
            return
        self._reader.feed(data)
        try:
            answer = self._reader.read()
        except BadAnswer as error:
            future.set_exception(error)
            self.close()
            return
        if answer is not None:
            future.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_Lost())

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def ask(self, content: bytes, *, to_head: bool) -> Answer:
        """Send a request, HEAD or another, and return the answer. Raise `_Lost` or `BadAnswer`."""
        if self.transport is None or self.transport.is_closing():
            raise _Lost
        self._reader, self._answer = AnswerReader(to_head=to_head), asyncio.get_running_loop().create_future()
        self.transport.write(content)
        return await self._answer

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Forwarder:
    """The way to the leader at the Unix socket `path`.

    `client_of` finds the client address of a request, empty without one; `new_request_id` makes an id for a
    request without one, under which both logs have it. `outcomes` counts how requests ended.
    """

    def __init__(
        self,
        path: str,
        client_of: Callable[[Request], str],
        new_request_id: Callable[[], str],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._path = path
        self._client_of = client_of
        self._new_request_id = new_request_id
        self._monotonic_s = monotonic_s
        self._idle: list[_Connection] = []
        self._places = asyncio.Semaphore(PLACES)
        self._waiting = 0
        self.outcomes: Counter[str] = Counter()

    async def answer(self, request: Request) -> Response:
        """Return the leader's answer to `request`.

        Raise `CallerError` 503: ``no_leader`` if the request was not sent, ``outcome_unknown`` if it was, and
        no answer came.
        """
        await self._take_place()
        try:
            return await self._answer(request)
        finally:
            self._places.release()

    async def _take_place(self) -> None:
        if self._waiting >= WAITING_MAX:
            raise self._not_sent(f"{WAITING_MAX} requests wait for the leader already")
        self._waiting += 1
        try:
            async with asyncio.timeout(PLACE_TIMEOUT_S):
                await self._places.acquire()
        except TimeoutError:
            raise self._not_sent(f"the leader took no request for {PLACE_TIMEOUT_S:g} s") from None
        finally:
            self._waiting -= 1

    async def _answer(self, request: Request) -> Response:
        connection, to_head = await self._connection(), request.method == "HEAD"
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await connection.ask(self._encoded(request), to_head=to_head)
        except (TimeoutError, _Lost, BadAnswer) as error:
            connection.close()
            self.outcomes[UNKNOWN] += 1
            raise _outcome_unknown() from error
        except BaseException:
            # The client left: the answer that comes must not be taken for the next one.
            connection.close()
            raise
        if answer.keep_alive:
            connection.idle_since_s = self._monotonic_s()
            self._idle.append(connection)
        else:
            connection.close()
        self.outcomes[ANSWERED] += 1
        return _response(answer, to_head=to_head)

    async def _connection(self) -> _Connection:
        """Return an idle connection, or a new one. Raise 503 ``no_leader``."""
        while self._idle:
            idle = self._idle.pop()
            if idle.is_open and self._monotonic_s() - idle.idle_since_s <= IDLE_S_MAX:
                return idle
            idle.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_unix_connection(_Connection, self._path)
                return connection
        except (OSError, TimeoutError) as error:
            raise self._not_sent("the leader does not take connections") from error

    def _encoded(self, request: Request) -> bytes:
        """Return the bytes of `request` for the leader."""
        target = f"{request.path}?{request.query}" if request.query else request.path
        if request.authority:
            lines = [f"{request.method} {target} HTTP/1.1", f"Host: {request.authority}"]
        else:
            # HTTP/1.0 alone allows that.
            lines = [f"{request.method} {target} HTTP/1.0"]
        lines += [f"{name}: {value}" for name, value in request.headers.fields if name not in _OWN]
        lines.append(f"X-Request-Id: {request.identify(self._new_request_id)}")
        if client := self._client_of(request):
            lines.append(f"X-Forwarded-For: {client}")
        if request.body:
            lines.append(f"Content-Length: {len(request.body)}")
        return "\r\n".join((*lines, "", "")).encode("latin-1") + request.body

    def close(self) -> None:
        """End all idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _not_sent(self, why: str) -> CallerError:
        self.outcomes[NOT_SENT] += 1
        return CallerError(
            503,
            "no_leader",
            f"The request needs the leader of this directory, and was not sent: {why}.",
            suggestion="Try again in a moment; reads and plain heartbeats still work.",
            headers=(("Retry-After", str(RETRY_AFTER_S)),),
        )


def _response(answer: Answer, *, to_head: bool) -> Response:
    """Return the answer of the leader as that of this process."""
    # The engine answers HEAD with the length of the body alone.
    body = bytes(int(answer.headers.get("content-length", 0))) if to_head else answer.body
    headers = tuple((_spelt(name), value) for name, value in answer.headers.items() if name not in _ENGINES)
    return Response(
        body,
        status=answer.status,
        content_type=answer.headers.get("content-type"),
        headers=headers,
    )


def _spelt(name: str) -> str:
    """Return the name of a field as other answers have it."""
    return _SPELT.get(name) or "-".join(map(str.capitalize, name.split("-")))


def _outcome_unknown() -> CallerError:
    return CallerError(
        503,
        "outcome_unknown",
        "The leader of this directory took the request and gave no answer, so nobody knows whether it took "
        "effect.",
        suggestion="Look at the node with GET /nodes/{node_id}, then try again.",
        headers=(("Retry-After", str(RETRY_AFTER_S)),),
    )
