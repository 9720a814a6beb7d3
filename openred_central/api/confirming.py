"""The word of the database that a leader waits for before it answers with a proof.

A process may be stopped, or cut from the database, and not know that another one leads. Answers that prove
something, or that report a change, therefore leave only after the database has confirmed the lead, by a
statement that was sent after the request came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from typing import Final

from ..errors import CallerError
from ..micro_engine.router import READING_METHODS
from ..micro_engine.wire.messages import Request
from .caller.limiting import Answer, Handler
from .caller.proving import PROOF_FIELDS
from .endpoint import Endpoint
from .handing_on import answers_here
from .service import Api

RETRY_AFTER_S: Final = 1


def confirming(
    endpoint: Endpoint,
    api: Api,
    handler: Handler,
    confirmed: Callable[[float], Awaitable[bool]],
    elapsed_s: Callable[[], float],
) -> Handler:
    """Return `handler` of a leader with answers that were confirmed, where a follower would hand on.

    `confirmed` waits until the lead is sure for a request that came at elapsed seconds, and returns whether
    it is.
    """

    @wraps(handler)
    async def serve(request: Request, *parameters: str) -> Answer:
        if _proves_nothing(endpoint, request) or answers_here(endpoint, api, request, *parameters):
            return await handler(request, *parameters)
        came_s = elapsed_s()
        answer = await handler(request, *parameters)
        # The answer may rest on changes of others that are still on their way to the database.
        await api.saved(api.directory.saving.last_change)
        if not await confirmed(came_s):
            raise outcome_unknown()
        return answer

    return serve


def strict(api: Api) -> Api:
    """Return `api` for a directory that another process may lead next.

    A change that is not stored in time may be lost with the lead, so it is reported as unknown, and never as
    accepted.
    """

    async def saved(change: int) -> bool:
        if not await api.saved(change):
            raise outcome_unknown()
        return True

    async def save_revocations() -> bool:
        if not await api.save_revocations():
            raise outcome_unknown()
        return True

    return replace(api, saved=saved, save_revocations=save_revocations)


def outcome_unknown() -> CallerError:
    """Return the error for a request that may have taken effect."""
    return CallerError(
        503,
        "outcome_unknown",
        "The database did not confirm in time that this instance leads the directory, so nobody knows "
        "whether the request took effect.",
        suggestion="Look at the node with GET /nodes/{node_id}, then try again.",
        headers=(("Retry-After", str(RETRY_AFTER_S)),),
    )


def _proves_nothing(endpoint: Endpoint, request: Request) -> bool:
    return endpoint.method in READING_METHODS and not request.headers.has_any(PROOF_FIELDS)
