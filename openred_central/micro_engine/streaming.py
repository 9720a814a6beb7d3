"""Bodies that come piece by piece, sent as fast as the client reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from .outgoing import Outgoing
from .wire.responses import LAST_CHUNK, chunk


async def pump(chunks: AsyncIterator[bytes], out: Outgoing, *, chunked: bool) -> None:
    """Send all that `chunks` yields to `out`, each piece at once, and close `chunks` whatever happens.

    `chunked` frames the pieces and ends them with the last chunk (RFC 9112 §7.1), which is missing when
    `chunks` raised or the pump was cancelled: the client can tell a cut body from a whole one.

    A client that left is noticed when a piece is written to it: a stream that may pause for long should send
    something now and then, such as a comment line in an event stream.

    Raises what `chunks` raises.
    """
    try:
        async for piece in chunks:
            # An empty chunk would be the last one.
            if piece:
                out.add(chunk(piece) if chunked else piece)
                out.flush()
                await out.writable()
    finally:
        await close(chunks)
    if chunked:
        out.add(LAST_CHUNK)
        out.flush()


async def close(chunks: AsyncIterator[bytes]) -> None:
    """Let `chunks` clean up, where it is a generator or another iterator that can be closed."""
    closing = getattr(chunks, "aclose", None)
    if closing is not None:
        await closing()
