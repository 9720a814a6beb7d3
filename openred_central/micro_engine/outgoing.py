"""The write side of one connection: what is ready to be sent, and whether the client reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from .shared import Stats
from .wire.responses import LAST_CHUNK, chunk


class Outgoing:
    """Gathers responses, writes them at once, and knows how far the client has read.

    `paused` says that the transport holds more than its limit; `bytes_ready` counts what was added and not
    yet flushed, `bytes_written` all that ever was written.
    """

    __slots__ = (
        "_drained",
        "_progress_s",
        "_responses",
        "_sent_bytes",
        "_stats",
        "_transport",
        "bytes_ready",
        "bytes_written",
        "paused",
    )

    def __init__(self, transport: asyncio.Transport, stats: Stats, now_s: float) -> None:
        self._transport = transport
        self._stats = stats
        self._responses: list[bytes] = []
        self._drained: asyncio.Future[None] | None = None
        self._progress_s = now_s
        self._sent_bytes = 0
        self.bytes_ready = 0
        self.bytes_written = 0
        self.paused = False

    @property
    def bytes_unsent(self) -> int:
        """Return how many bytes the transport holds because the client does not read them."""
        return self._transport.get_write_buffer_size()

    def add(self, data: bytes) -> None:
        """Have `data` sent with the next flush."""
        self._responses.append(data)
        self.bytes_ready += len(data)

    def flush(self) -> None:
        """Write all that is ready, in one call."""
        responses = self._responses
        if not responses:
            return
        data = responses[0] if len(responses) == 1 else b"".join(responses)
        responses.clear()
        self.bytes_ready = 0
        self.write(data)

    def write(self, data: bytes) -> None:
        """Write `data` at once. Nothing may be ready: it would be sent later."""
        self.bytes_written += len(data)
        self._stats.bytes_out += len(data)
        self._transport.write(data)

    async def stream(self, chunks: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Write all that `chunks` yields, each piece at once, and close `chunks` whatever happens.

        `chunked` frames the pieces and ends them with the last chunk (RFC 9112 §7.1). It is missing if
        `chunks` raised or this was cancelled, so that the client can distinguish a cut body from a whole one.

        A client that left is noticed when a piece is written to it: a stream that may pause for long should
        send something now and then, such as a comment line in an event stream.

        Raises what `chunks` raises.
        """
        try:
            async for piece in chunks:
                # An empty chunk would be the last one.
                if piece:
                    self.write(chunk(piece) if chunked else piece)
                    await self.writable()
        finally:
            await close(chunks)
        if chunked:
            self.write(LAST_CHUNK)

    async def writable(self) -> None:
        """Wait until the transport takes more."""
        if self.paused:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def resume(self) -> None:
        """Note that the transport takes more again."""
        self.paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def stalled_s(self, now_s: float) -> float:
        """Return for how many seconds the client has read nothing of what is unsent.

        Must be called about once a second, with the monotonic time.
        """
        unsent = self.bytes_unsent
        sent = self.bytes_written - unsent
        if not unsent or sent > self._sent_bytes:
            self._sent_bytes = sent
            self._progress_s = now_s
        return now_s - self._progress_s


async def close(chunks: AsyncIterator[bytes]) -> None:
    """Let `chunks` clean up, if it is a generator or another iterator that can be closed."""
    closing = getattr(chunks, "aclose", None)
    if closing is not None:
        await closing()
