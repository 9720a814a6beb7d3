"""The floor: a uvloop protocol that looks at nothing and answers each piece of data with the same bytes.

The answer is as long as that to a heartbeat. What a server needs beyond this, it needs for HTTP, for its work
and for its safety; what this needs is the kernel's and uvloop's.
"""

from __future__ import annotations

import asyncio
from typing import cast

import uvloop

from .arguments import read_options
from .plain import PlainDirectory


class Bare(asyncio.Protocol):
    """One connection."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self.answer)


async def serve(port: int) -> None:
    _, body = PlainDirectory(1).heartbeat("node-0000000000")
    Bare.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    listener = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port, backlog=4_096)
    await listener.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(read_options().port))
