"""A network between two programs that can fail: a TCP proxy of this machine, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Literal

from tests.support.serving import lasting_port

Direction = Literal["to_server", "to_client"]
DIRECTIONS: tuple[Direction, ...] = ("to_server", "to_client")
_PIECE_BYTES = 65_536
# Further pieces wait where they come from, as on a real network.
_PIECES_MAX = 64
_CALL_S_MAX = 10.0


class Proxy:
    """Connections to `port` of this machine come to `server`, until something is told to fail.

    `delay_s` holds for each way from now on; connections to come go to what `server` names then.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.delay_s = 0.0
        self.port = lasting_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {self.port}", daemon=True)
        self._thread.start()
        self._passes: dict[str, asyncio.Event] = {}
        self._connects = asyncio.Event()
        self._listener: asyncio.Server | None = None
        # The next one of each way that lets nothing through.
        self._held: list[bytes | OSError] = []
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._call(self._open())

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def holds(self, content: bytes) -> bool:
        """Tell whether something with this content is held back, and comes next where it is."""
        return any(isinstance(piece, bytes) and content in piece for piece in list(self._held))

    def swallow(self, *directions: Direction) -> None:
        """Let nothing more through in these directions, neither bytes nor an end; connections stay."""
        for direction in directions:
            self._loop.call_soon_threadsafe(self._passes[direction].clear)
        self._call(asyncio.sleep(0))

    def half_open(self) -> None:
        """Let nothing through in either direction, and connections to come reach nobody; all stay open."""
        self._loop.call_soon_threadsafe(self._connects.clear)
        self.swallow(*DIRECTIONS)

    def cut(self) -> None:
        """Reset all connections, and refuse others."""
        self._call(self._cut())

    def restore(self) -> None:
        """Let everything through again: also what was held back, on connections that are still there."""
        self._call(self._open())

    def close(self) -> None:
        """End the proxy with all its connections."""
        if self._loop.is_closed():
            return
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S_MAX)
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_S_MAX)

    async def _open(self) -> None:
        for gate in (self._connects, *(self._passes.setdefault(way, asyncio.Event()) for way in DIRECTIONS)):
            gate.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, *self.address)

    async def _cut(self) -> None:
        if self._listener is not None:
            # Those it has accepted are no longer its own in newer versions of Python, and are reset below.
            self._listener.close()
            self._listener = None
        tasks = list(self._connections)
        for task in tasks:
            for writer in self._connections[task]:
                _reset(writer)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self) -> None:
        await self._cut()
        # Connections that were just being accepted begin, and are reset.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._listener is None:
            # It was accepted just before a cut.
            return _reset(writer)
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections[task] = [writer]
        try:
            await self._connects.wait()
            server_reader, server_writer = await asyncio.open_connection(*self.server)
            writers.append(server_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry("to_server", reader, server_writer))
                group.create_task(self._carry("to_client", server_reader, writer))
        except (OSError, ExceptionGroup):
            for each in writers:
                _reset(each)
        except asyncio.CancelledError:
            # By `cut`, which has reset both.
            pass
        finally:
            del self._connections[task]
            for each in writers:
                each.close()

    async def _carry(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one direction of one connection to its end: late, and only while the way is open."""
        pieces: asyncio.Queue[tuple[float, bytes | OSError]] = asyncio.Queue(_PIECES_MAX)
        reading = asyncio.create_task(self._read(reader, pieces))
        try:
            while True:
                due_s, piece = await pieces.get()
                if (late_s := due_s - self._loop.time()) > 0:
                    await asyncio.sleep(late_s)
                self._held.append(piece)
                try:
                    await self._passes[direction].wait()
                finally:
                    self._held.remove(piece)
                if isinstance(piece, OSError):
                    raise piece
                if not piece:
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                writer.write(piece)
                await writer.drain()
        finally:
            reading.cancel()

    async def _read(
        self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes | OSError]]
    ) -> None:
        piece: bytes | OSError = b" "
        while isinstance(piece, bytes) and piece:
            try:
                piece = await reader.read(_PIECE_BYTES)
            except OSError as error:
                piece = error
            await pieces.put((self._loop.time() + self.delay_s, piece))


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side sees a reset, whatever was still under way."""
    at_once = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()
