"""Hand requests on to the leader as they came.

A request takes effect once at most: if the connection to the leader ends without an answer, or another one
leads, nobody knows what became of the request, and its caller is told so. Requests that were not sent yet, or
that the leader did not take, wait a while for a place, and for a leader.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ..errors import CallerError
from ..micro_engine.wire.messages import Request, Response
from .ways import LeaderConnection, Lost, Way

# Requests that are with the leader at once, and those that wait for one of these places, or for a leader.
PLACES: Final = 256
WAITING_MAX: Final = 1_024
LEADERLESS_MAX: Final = 256
WAIT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 1.0
CONNECT_PAUSE_S: Final = 0.25
# Longer than the leader waits for a commit that does not return.
ANSWER_TIMEOUT_S: Final = 15.0
# A leader that is asked and says nothing for so long gets no more requests, unless it shows that it lives:
# they may still find another one.
ANSWERLESS_S_MAX: Final = 1.0
# The leader ends a connection that was idle for longer.
IDLE_S_MAX: Final = 50.0
RETRY_AFTER_S: Final = 1
# Callers that are sent away while nobody leads come back spread over the time in which a leader answers them.
RETURNS_PER_S: Final = 1_000
RETRY_AFTER_S_MAX: Final = 60
# Ways in which a request that was handed on may end.
ANSWERED: Final = "answered"
NOT_SENT: Final = "not_sent"
UNKNOWN: Final = "unknown"
OUTCOMES: Final = (ANSWERED, NOT_SENT, UNKNOWN)


class _Lead:
    """One leader as long as it leads: the way to it, its free places, and the connection to it."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.free = PLACES
        self.connection: LeaderConnection | None = None
        # Those that wait for late answers.
        self.retired = set[LeaderConnection]()
        # The making of a connection, for all that wait for it, and its time-out.
        self.attempt: asyncio.Task[Exception | None] | None = None
        self.limit: asyncio.Timeout | None = None
        self.is_reached = True
        self.ended = asyncio.Event()

    def end(self) -> None:
        """Lose all connections; nobody knows what became of the requests that were sent."""
        self.ended.set()
        for connection in filter(None, (self.connection, *self.retired)):
            connection.lose()
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(0.0)

    def leave(self, connection: LeaderConnection) -> None:
        """Send nothing more over a connection."""
        if connection is self.connection:
            self.connection = None
            connection.retire()
            self.retired = {each for each in (*self.retired, connection) if each.is_busy}

    async def connect(self) -> Exception | None:
        """Make a connection. Return the error if there is none, also once another leads."""
        if self.ended.is_set():
            self.attempt = None
            return ConnectionAbortedError("another one leads")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S) as self.limit:
                connection = await self.way.connect()
        except (OSError, TimeoutError) as error:
            return error
        finally:
            self.limit = self.attempt = None
        if self.ended.is_set():
            connection.close()
        else:
            self.connection, self.is_reached = connection, True
        return None


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
    ) -> None:
        self._lead = None if way is None else _Lead(way)
        self._client_of = client_of
        self._new_request_id = new_request_id
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
                    answer = await self._ask(lead, connection, request)
                    if answer is not None:
                        return answer
                    await self._pause(lead, ends_s, None)
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
        """Return the connection, or a new one; None if another leads meanwhile.

        Raise 503 ``no_leader`` if the leader takes none until `ends_s`.
        """
        while not lead.ended.is_set():
            connection = lead.connection
            if connection is not None and connection.is_open:
                is_silent = connection.is_busy and connection.silent_s > ANSWERLESS_S_MAX
                if is_silent or connection.is_full:
                    connection.probe()
                    await self._pause(lead, ends_s, None)
                    continue
                if connection.is_busy or connection.silent_s <= IDLE_S_MAX:
                    return connection
            if connection is not None:
                lead.leave(connection)
            if lead.attempt is None:
                lead.attempt = asyncio.create_task(lead.connect())
            # A request that is broken off leaves the attempt to others.
            error = await asyncio.shield(lead.attempt)
            if error is None:
                self._sent_away = 0
            elif not lead.ended.is_set():
                lead.is_reached = False
                await self._pause(lead, ends_s, error)
        return None

    async def _pause(self, lead: _Lead, ends_s: float, error: Exception | None) -> None:
        """Wait until another attempt makes sense. Raise 503 ``no_leader`` if none is left."""
        next_s = asyncio.get_running_loop().time() + CONNECT_PAUSE_S
        if self._is_hurried or next_s > ends_s:
            raise self._not_sent("the leader takes none at present") from error
        with suppress(TimeoutError):
            async with asyncio.timeout_at(next_s):
                await lead.ended.wait()

    async def _ask(self, lead: _Lead, connection: LeaderConnection, request: Request) -> Response | None:
        """Return the leader's answer, None if it did not take the request. Raise 503 ``outcome_unknown``."""
        request_id, client = request.identify(self._new_request_id), self._client_of(request)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await connection.ask(request, request_id, client)
        except (TimeoutError, Lost) as error:
            lead.leave(connection)
            self.outcomes[UNKNOWN] += 1
            raise _outcome_unknown() from error
        if answer is None:
            lead.leave(connection)
            return None
        self.outcomes[ANSWERED] += 1
        return answer

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


def _outcome_unknown() -> CallerError:
    return CallerError(
        503,
        "outcome_unknown",
        "The leader of this directory took the request and gave no answer, so nobody knows whether it took "
        "effect.",
        suggestion="Look at the node with GET /nodes/{node_id}, then try again.",
        headers=(("Retry-After", str(RETRY_AFTER_S)),),
    )
