"""Requests from blocked networks: they are refused before anything else is done for them."""

from __future__ import annotations

from functools import wraps

from ...directory.blocking import refused
from ...directory.state.blocks import Blocks
from ...micro_engine.wire.messages import Request
from .limiting import Answer, Handler, Limits


def unblocked(handler: Handler, blocks: Blocks, limits: Limits) -> Handler:
    """Return `handler` for callers whose address is in no blocked network; others get 403 ``blocked``."""
    networks = blocks.networks

    @wraps(handler)
    async def guarded(request: Request, *parameters: str) -> Answer:
        if networks.texts:
            block = blocks.of_address(limits.origin(request).address)
            if block is not None:
                raise refused(block)
        return await handler(request, *parameters)

    return guarded
