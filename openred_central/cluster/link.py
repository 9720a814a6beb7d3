"""The link between a leader and a follower: messages of a kind and bytes, in order, over one stream.

A message is its length and kind, little-endian, and then its content. The link has one version from its
begin to its end, which says how all on it is written (`storage/versions.py`): workers have that of their
owner, instances the highest that both speak. Anything that does not fit ends the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from enum import IntEnum
from typing import Any, Final

import orjson

from ..errors import InternalBug
from ..storage.versions import LINK_VERSION, LINK_VERSIONS

_HEAD: Final = struct.Struct("<IB")
MESSAGE_BYTES_MAX: Final = 256 * 1024 * 1024
# A reader that lags behind by more than this is cut off: it begins anew.
QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
# A worker that said nothing for so long hangs, and is replaced.
SILENT_S_MAX: Final = 10.0
# The names of a link over TLS in ALPN (RFC 7301), with the version of each, the highest first.
LINK_PROTOCOLS: Final = {f"openred-link/{version}": version for version in reversed(LINK_VERSIONS)}


class Kind(IntEnum):
    """The kind of a message; JSON unless it says otherwise.

    To a follower: HELLO has what it needs to begin; parts of a LOAD (bytes) bring the whole directory, LOADED
    ends them; FRAME (bytes) is one commit, SIGNS (bytes) are signs of life that another one heard; TICK
    comes twice a second, and EVENTS with what is new in the log of events; RENEW: read the certificate again;
    STOP: drain and end; ASK has a number, which comes back once all before it is known there.

    To the leader: JOIN, the first word of an instance, says who it is; READY, once it serves, with the
    attended time since when; SIGNS (bytes), the signs of life that it heard; FIGURES, at each TICK; RESYNC:
    it cannot follow, and needs another LOAD; DRAINED, at its end: how many connections it cut; SEEN has
    the number of an ASK.
    """

    HELLO = 1
    LOAD = 2
    LOADED = 3
    FRAME = 4
    TICK = 5
    EVENTS = 6
    RENEW = 7
    STOP = 8
    ASK = 9
    JOIN = 16
    READY = 17
    SIGNS = 18
    FIGURES = 19
    RESYNC = 20
    DRAINED = 21
    SEEN = 22


class LinkBroken(Exception):
    """The link ended, or must end; the message is one line for the log."""


class Link:
    """One end of a link of `version`. `send` never waits; `receive` returns the next message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self._reader = reader
        self._writer = writer
        self.version = version

    @classmethod
    async def over(cls, end: socket.socket) -> Link:
        """Return the link over one end of a connected pair of stream sockets, to the same program."""
        return cls(*await asyncio.open_unix_connection(sock=end), LINK_VERSION)

    @classmethod
    async def to(cls, host: str, port: int, context: ssl.SSLContext, timeout_s: float) -> Link:
        """Return the link to the instance at `host` and `port`, over TLS with `context`.

        The other end may refuse this one only after that: then `receive` raises. Raise `LinkBroken` if no
        instance is there that accepts links, or not within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                # Certificates prove an instance, whatever the name of its host.
                reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
        except (OSError, TimeoutError) as error:
            why = str(error) or f"it did not answer within {timeout_s:g} s"
            raise LinkBroken(f"there is no link to {host}, port {port}: {why}") from error
        protocol = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        if protocol not in LINK_PROTOCOLS:
            writer.transport.abort()
            raise LinkBroken(
                f"there is no link to {host}, port {port}: it speaks none of {', '.join(LINK_PROTOCOLS)}; "
                "upgrade instances by one version at a time"
            )
        return cls(reader, writer, LINK_PROTOCOLS[protocol])

    def send(self, kind: Kind, content: bytes = b"") -> None:
        """Send a message. Raise `LinkBroken` if the other end has ended or lags too far behind."""
        transport = self._writer.transport
        if transport.is_closing():
            raise LinkBroken("the other end has ended")
        if len(content) > MESSAGE_BYTES_MAX:
            raise InternalBug(f"a message of {len(content)} bytes; {MESSAGE_BYTES_MAX} are allowed")
        if transport.get_write_buffer_size() > QUEUE_BYTES_MAX:
            transport.abort()
            raise LinkBroken(f"the other end has not read {QUEUE_BYTES_MAX} bytes")
        self._writer.writelines((_HEAD.pack(len(content), kind), content))

    def tell(self, kind: Kind, document: Any) -> None:
        """Send a message in JSON, as `send` does."""
        self.send(kind, orjson.dumps(document))

    async def drain(self) -> None:
        """Wait until the other end has read nearly everything. Raise `LinkBroken`."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise LinkBroken(f"the other end has ended: {error}") from error

    async def receive(self, bytes_max: int = MESSAGE_BYTES_MAX) -> tuple[Kind, bytes]:
        """Return the next message, of at most `bytes_max` bytes.

        Raise `LinkBroken` at the end of the link, or for what is no message.
        """
        try:
            length, kind = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            if length > bytes_max:
                raise LinkBroken(f"a message of {length} bytes; {bytes_max} are allowed")
            return Kind(kind), await self._reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise LinkBroken("the other end has ended") from error
        except ValueError as error:
            raise LinkBroken(f"a message of an unknown kind: {error}") from error

    async def close(self) -> None:
        """Send what waits, and end the link."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """End the link at once."""
        self._writer.transport.abort()


def read_json(kind: Kind, content: bytes) -> Any:
    """Return the JSON of a message. Raise `LinkBroken` for anything else."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise LinkBroken(f"{kind.name} is not JSON: {error}") from error
