"""The write side of one connection: what is ready to be sent, and whether the client reads it."""

from __future__ import annotations

import asyncio

from .stats import Stats


class Outgoing:
    """Gathers responses, writes them at once, and knows how far the client has read.

    `paused` says that more is unsent than the transport's limit; `bytes_ready` counts what was given to
    `add` and not yet flushed, `bytes_written` all that ever was flushed.
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
        """What the transport still holds because the client does not take it."""
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
        """Write `data` at once. Nothing may be ready: it would come later."""
        self.bytes_written += len(data)
        self._stats.bytes_out += len(data)
        self._transport.write(data)

    def resume(self) -> None:
        """The transport takes more again."""
        self.paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    async def writable(self) -> None:
        """Wait until the transport takes more; at once where it does."""
        if self.paused:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def stalled_s(self, now_s: float) -> float:
        """For how many seconds something has been unsent without the client taking a byte of it.

        To be called about once a second, with the monotonic time.
        """
        unsent = self.bytes_unsent
        sent = self.bytes_written - unsent
        if not unsent or sent > self._sent_bytes:
            self._sent_bytes = sent
            self._progress_s = now_s
        return now_s - self._progress_s
