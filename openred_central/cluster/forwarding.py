"""Hand requests on to the leader as they came, over HTTP/1.1.

A request is never sent twice: if the leader ends a connection without an answer, or leads no more, nobody
knows what became of the request, and its caller is told so. Requests that were not sent yet wait a while for
a place, and for a leader.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ..client.answers import Answer, BadAnswer
from ..errors import CallerError
from ..micro_engine.wire.messages import Request, Response
from .ways import LeaderConnection, Lost, Way

# Requests that are with the leader at once, and those that wait for one of these places, or for a leader.
PLACES: Final = 32
WAITING_MAX: Final = 1_024
LEADERLESS_MAX: Final = 256
WAIT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 1.0
CONNECT_PAUSE_S: Final = 0.25
# Longer than the leader waits for a commit that does not return.
ANSWER_TIMEOUT_S: Final = 15.0
# The leader ends connections that were idle for longer.
IDLE_S_MAX: Final = 50.0
RETRY_AFTER_S: Final = 1
# Callers that are sent away while nobody leads come back spread over the time in which a leader answers them.
RETURNS_PER_S: Final = 1_000
RETRY_AFTER_S_MAX: Final = 60

# Fields of one connection (RFC 9110 §7.6.1), those that this side writes, and those that only a proxy of
# ours may write. Fields that `Connection` names do not go on either.
_OWN: Final = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("proxy-connection", "host", "content-length", "x-request-id"),
        *("x-forwarded-for", "forwarded", "x-real-ip"),
    }
)
# Fields that only instances write.
_CLUSTERS: Final = "openred-cluster"
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


class _Lead:
    """One leader as long as it leads: the way to it, its free places, and its connections."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.free = PLACES
        self.idle: list[LeaderConnection] = []
        self.busy = set[LeaderConnection]()
        # The time-outs of connections that are being made.
        self.connecting = set[asyncio.Timeout]()
        self.is_reached = True
        self.ended = asyncio.Event()

    def end(self) -> None:
        """Lose all connections; nobody knows what became of the requests that were sent."""
        self.ended.set()
        for connection in (*self.idle, *self.busy):
            connection.lose()
        for limit in self.connecting:
            if not limit.expired():
                limit.reschedule(0.0)


class Forwarder:
    """The requests that go the `way` to the leader; None while nobody leads.

    `client_of` finds the client address of a request, empty without one; `new_request_id` makes an id for a
    request without one, under which both logs have it. `outcomes` counts how requests ended.
    """

    def __init__(
        self,
        way: Way | None,
        client_of: Callable[[Request], str],
        new_request_id: Callable[[], str],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._lead = None if way is None else _Lead(way)
        self._client_of = client_of
        self._new_request_id = new_request_id
        self._monotonic_s = monotonic_s
        # Requests that wait for a place. None tells one that it waits in vain.
        self._queue = deque[asyncio.Future[_Lead | None]]()
        self._is_hurried = False
        # Callers that were sent away since the leader was last reached.
        self._sent_away = 0
        self.outcomes: Counter[str] = Counter()

    async def answer(self, request: Request) -> Response:
        """Return the leader's answer to `request`.

        Raise `CallerError` 503: ``no_leader`` if the request was not sent, ``outcome_unknown`` if it was, and
        no answer came.
        """
        ends_s = asyncio.get_running_loop().time() + WAIT_S
        while True:
            lead = await self._take_place(ends_s)
            try:
                connection = await self._connection(lead, ends_s)
                if connection is not None:
                    return await self._ask(lead, connection, request)
            finally:
                lead.free += 1
                self._give_places()

    def retarget(self, way: Way | None) -> None:
        """Send requests another way from now on; None while nobody leads.

        Those that were sent end at once: nobody knows what became of them. Those that wait go the new way.
        """
        former, self._lead = self._lead, None if way is None else _Lead(way)
        if former is not None:
            former.end()
        self._give_places()

    def hurry(self) -> None:
        """Let nothing wait any more, from now on: no other leader will come."""
        self._is_hurried = True
        while self._queue:
            future = self._queue.popleft()
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """End all connections."""
        self.retarget(None)
        self.hurry()

    async def _take_place(self, ends_s: float) -> _Lead:
        """Return the leader with one place taken. Raise 503 ``no_leader`` if there is none until `ends_s`."""
        lead = self._lead
        if lead is not None and lead.free and not self._queue:
            lead.free -= 1
            return lead
        if self._is_hurried:
            raise self._not_sent("the leader is gone")
        waiting_max = WAITING_MAX if self._has_leader else LEADERLESS_MAX
        if len(self._queue) >= waiting_max:
            raise self._not_sent(f"{waiting_max} requests wait for the leader already")
        future: asyncio.Future[_Lead | None] = asyncio.get_running_loop().create_future()
        self._queue.append(future)
        try:
            async with asyncio.timeout_at(ends_s):
                given = await self._given(future)
        except TimeoutError:
            raise self._not_sent(f"there was no leader with a place for it within {WAIT_S:g} s") from None
        if given is None:
            raise self._not_sent("the leader is gone")
        return given

    async def _given(self, future: asyncio.Future[_Lead | None]) -> _Lead | None:
        """Wait for a place, and leave the queue if the wait is broken off."""
        try:
            return await future
        except asyncio.CancelledError:
            if future in self._queue:
                self._queue.remove(future)
            elif not future.cancelled() and (given := future.result()) is not None:
                # The place was given a moment ago.
                given.free += 1
                self._give_places()
            raise

    def _give_places(self) -> None:
        """Give free places of the leader to requests that wait."""
        lead = self._lead
        while lead is not None and lead.free and self._queue:
            future = self._queue.popleft()
            if not future.done():
                lead.free -= 1
                future.set_result(lead)

    async def _connection(self, lead: _Lead, ends_s: float) -> LeaderConnection | None:
        """Return an idle connection, or a new one; None if another leads meanwhile.

        Raise 503 ``no_leader`` if the leader takes none until `ends_s`.
        """
        while not lead.ended.is_set():
            while lead.idle:
                idle = lead.idle.pop()
                if idle.is_open and self._monotonic_s() - idle.idle_since_s <= IDLE_S_MAX:
                    return idle
                idle.close()
            try:
                connection = await self._connect(lead)
            except (OSError, TimeoutError) as error:
                if not lead.ended.is_set():
                    await self._pause(lead, ends_s, error)
                continue
            lead.is_reached, self._sent_away = True, 0
            if not lead.ended.is_set():
                return connection
            connection.close()
        return None

    @staticmethod
    async def _connect(lead: _Lead) -> LeaderConnection:
        """Return a new connection. Raises `OSError` or `TimeoutError`, also once another leads."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S) as limit:
            lead.connecting.add(limit)
            try:
                return await lead.way.connect()
            finally:
                lead.connecting.discard(limit)

    async def _pause(self, lead: _Lead, ends_s: float, error: Exception) -> None:
        """Wait until another attempt to connect makes sense. Raise 503 ``no_leader`` if none is left."""
        lead.is_reached = False
        next_s = asyncio.get_running_loop().time() + CONNECT_PAUSE_S
        if self._is_hurried or next_s > ends_s:
            raise self._not_sent("the leader does not take connections") from error
        with suppress(TimeoutError):
            async with asyncio.timeout_at(next_s):
                await lead.ended.wait()

    async def _ask(self, lead: _Lead, connection: LeaderConnection, request: Request) -> Response:
        """Send `request` over `connection`, and return the answer. Raise 503 ``outcome_unknown``."""
        to_head = request.method == "HEAD"
        lead.busy.add(connection)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await connection.ask(self._encoded(request), to_head=to_head)
        except (TimeoutError, Lost, BadAnswer) as error:
            connection.close()
            self.outcomes[UNKNOWN] += 1
            raise _outcome_unknown() from error
        except BaseException:
            # The client left: the answer that comes must not be taken for the next one.
            connection.close()
            raise
        finally:
            lead.busy.discard(connection)
        if answer.keep_alive and not lead.ended.is_set():
            connection.idle_since_s = self._monotonic_s()
            lead.idle.append(connection)
        else:
            connection.close()
        self.outcomes[ANSWERED] += 1
        return _response(answer, to_head=to_head)

    def _encoded(self, request: Request) -> bytes:
        """Return the bytes of `request` for the leader."""
        target = f"{request.path}?{request.query}" if request.query else request.path
        if request.authority:
            lines = [f"{request.method} {target} HTTP/1.1", f"Host: {request.authority}"]
        else:
            # HTTP/1.0 alone allows that.
            lines = [f"{request.method} {target} HTTP/1.0"]
        named = {name.strip(" \t").lower() for name in (request.headers.get("connection") or "").split(",")}
        lines += [
            f"{name}: {value}"
            for name, value in request.headers.fields
            if name not in _OWN and name not in named and not name.startswith(_CLUSTERS)
        ]
        lines.append(f"X-Request-Id: {request.identify(self._new_request_id)}")
        if client := self._client_of(request):
            lines.append(f"X-Forwarded-For: {client}")
        if request.body:
            lines.append(f"Content-Length: {len(request.body)}")
        return "\r\n".join((*lines, "", "")).encode("latin-1") + request.body

    @property
    def _has_leader(self) -> bool:
        return self._lead is not None and self._lead.is_reached

    def _not_sent(self, why: str) -> CallerError:
        self.outcomes[NOT_SENT] += 1
        retry_after_s = RETRY_AFTER_S
        if not self._has_leader:
            retry_after_s = min(RETRY_AFTER_S + self._sent_away // RETURNS_PER_S, RETRY_AFTER_S_MAX)
            self._sent_away += 1
        return CallerError(
            503,
            "no_leader",
            f"The request needs the leader of this directory, and was not sent: {why}.",
            suggestion="Try again in a moment; reads and plain heartbeats still work.",
            headers=(("Retry-After", str(retry_after_s)),),
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
