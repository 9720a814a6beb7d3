"""Which requests a follower answers, and which it hands on to the leader as they came.

A follower answers requests that change nothing and prove nothing but a session. Requests that are signed,
bear a claim, or may change a record go to the leader.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import Any, Final, Protocol

from ..directory.lifecycle import State
from ..errors import CallerError
from ..micro_engine.router import READING_METHODS
from ..micro_engine.wire.messages import Request, Response
from .caller.limiting import Answer, Handler
from .caller.proving import PROOF_FIELDS, SIGNATURE_FIELDS
from .endpoint import Endpoint, Where
from .service import Api

# The number of a commit: in the answer to a change, and in requests that have to find that change.
SEQ: Final = "OpenRed-Seq"
SEQ_FIELD: Final = SEQ.lower()
# A request waits so long for the commit that it names, and an answer that was handed on for its own commit.
REACH_S: Final = 1.0
OWN_REACH_S: Final = 0.25
# The answer to a sign of life waits so long for the commit of what it changed.
COMMIT_S: Final = 0.25
# Requests that wait for a commit at one time.
WAITING_MAX: Final = 64
# No client is so far ahead of a follower.
AHEAD_MAX: Final = 10_000
_SEQ: Final = re.compile(r"([0-9a-f]{1,32})-([0-9]{1,15})")


class Leader(Protocol):
    """The leader, as the endpoints of a follower see it."""

    @property
    def run(self) -> str:
        """Return the name of its run."""

    @property
    def seq(self) -> int:
        """Return the number of its last commit that is here."""

    @property
    def waiting(self) -> int:
        """Return how many requests wait for a commit."""

    async def reached(self, seq: int, timeout_s: float) -> bool:
        """Wait until a commit is here. Return whether it is after `timeout_s`."""

    async def answer(self, request: Request) -> Response:
        """Return the leader's answer to `request`. Raises `CallerError` 503."""


def seq_text(run: str, seq: int) -> str:
    """Return the value of `SEQ` for a commit of the leader's run named `run`, in hexadecimal."""
    return f"{run}-{seq}"


def handing_on(endpoint: Endpoint, api: Api, handler: Handler, leader: Leader) -> Handler:
    """Return what serves `endpoint` at a follower: `handler`, or the `leader`."""

    @wraps(handler)
    async def serve(request: Request, *parameters: str) -> Answer:
        named = _named_seq(request, leader)
        if named > leader.seq:
            await _reach(named, leader)
        if answers_here(endpoint, api, request, *parameters):
            return await handler(request, *parameters)
        answer = await leader.answer(request)
        made = _SEQ.fullmatch(dict(answer.headers).get(SEQ, ""))
        if made is not None:
            # The caller finds its change here with its next request.
            await leader.reached(int(made[2]), OWN_REACH_S)
        return answer

    return serve


def numbering(endpoint: Endpoint, api: Api, handler: Handler, run: str, seq: Callable[[], int]) -> Handler:
    """Return `handler` with the number of the last commit in its answers, unless it only reads."""
    if endpoint.method in READING_METHODS:
        return handler
    saving = api.directory.saving

    @wraps(handler)
    async def serve(*arguments: Any) -> Answer:
        before = saving.last_change
        answer = await handler(*arguments)
        if endpoint.where is Where.SIGN_OF_LIFE and saving.last_change != before:
            # Others see by the commit what a sign of life has changed; it needs the disk for nothing else.
            with suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_S):
                    await api.saved(saving.last_change)
        return replace(answer, headers=(*answer.headers, (SEQ, seq_text(run, seq()))))

    return serve


def answers_here(endpoint: Endpoint, api: Api, request: Request, *parameters: str) -> bool:
    """Return whether a follower answers a request for `endpoint`."""
    if endpoint.where is Where.LEADER:
        return False
    if endpoint.where is Where.SIGN_OF_LIFE:
        return _is_plain_sign_of_life(api, request, *parameters)
    # Nobody looks at a proof that the endpoint does not take; an answer without end could not be handed on.
    return not (endpoint.proofs and request.headers.has_any(PROOF_FIELDS))


def _is_plain_sign_of_life(api: Api, request: Request, node_id: str) -> bool:
    """Return whether a heartbeat changes no record, whatever becomes of it."""
    registry, headers = api.directory.nodes.registry, request.headers
    slot = registry.slot_of(node_id)
    if slot is None or request.body or registry.states[slot] != State.ACTIVE:
        return False
    if not headers.has_any(PROOF_FIELDS):
        return not (api.prover.strict or api.prover.is_bound(slot))
    if headers.has_any(SIGNATURE_FIELDS):
        return False
    return api.prover.repeated(request, node_id, api.now()) is not None


def _named_seq(request: Request, leader: Leader) -> int:
    """Return the number of the commit that `request` has to find; 0 for none, or one of another run.

    Raise `CallerError` 400 ``bad_request`` for one that no client can have.
    """
    value = request.headers.get(SEQ_FIELD)
    if value is None:
        return 0
    named = _SEQ.fullmatch(value)
    if named is None or named[1] != leader.run:
        return 0
    seq = int(named[2])
    if seq > leader.seq + AHEAD_MAX:
        raise CallerError(
            400,
            "bad_request",
            f"{SEQ} names the commit {seq}, and the last one here is {leader.seq}.",
            suggestion=f"Send the {SEQ} of an answer of this directory, or leave it out.",
        )
    return seq


async def _reach(seq: int, leader: Leader) -> None:
    """Wait for a commit. Raise `CallerError` 503 ``behind`` if it does not come in time."""
    if leader.waiting < WAITING_MAX and await leader.reached(seq, REACH_S):
        return
    raise CallerError(
        503,
        "behind",
        f"The request has to find the commit {seq}, and the last one here is {leader.seq}.",
        suggestion=f"Try again in a moment, or without {SEQ}.",
        headers=(("Retry-After", "1"),),
    )
