"""Requests from blocked networks: they are refused before anything else is done for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import wraps

from ...directory.blocking import refused
from ...directory.state.blocks import Blocks
from ...micro_engine.wire.messages import Request, StreamingResponse
from .limiting import Answer, Handler, Limits


def unblocked(handler: Handler, blocks: Blocks, limits: Limits) -> Handler:
    """Return `handler` for callers whose address is in no blocked network; others get 403 ``blocked``.

    A stream ends with the next piece once the network of its caller is blocked.
    """
    networks = blocks.networks

    @wraps(handler)
    async def guarded(request: Request, *parameters: str) -> Answer:
        if networks.texts:
            block = blocks.of_address(limits.origin(request).address)
            if block is not None:
                raise refused(block)
        answer = await handler(request, *parameters)
        if isinstance(answer, StreamingResponse):
            answer.chunks = _Chunks(answer.chunks, blocks, limits.origin(request).address)
        return answer

    return guarded


class _Chunks:
    """The `chunks` of a stream, until the network of `address` is blocked."""

    def __init__(self, chunks: AsyncIterator[bytes], blocks: Blocks, address: str) -> None:
        self._chunks = chunks
        self._blocks = blocks
        self._address = address

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        if self._blocks.of_address(self._address) is not None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Let the stream go."""
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()
