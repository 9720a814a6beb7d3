"""The floor: a uvloop protocol that reads nothing and answers each piece of data with the same bytes.

With --closing it closes the connection after one answer. The answer is as long as that to a heartbeat. The
cost of this server is that of the kernel and uvloop.
"""

from __future__ import annotations

import asyncio
from typing import cast

import uvloop

from .plain import PlainDirectory, read_options


class Bare(asyncio.Protocol):
    """One connection."""

    answer = b""
    closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self.answer)
        if self.closing:
            self._transport.close()


async def serve(port: int, *, closing: bool) -> None:
    Bare.closing = closing
    _, body = PlainDirectory(1).heartbeat("node-0000000000")
    Bare.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    listener = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port, backlog=4_096)
    await listener.serve_forever()


if __name__ == "__main__":
    options = read_options()
    uvloop.run(serve(options.port, closing=options.closing))
