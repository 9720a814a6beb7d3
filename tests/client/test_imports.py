"""The client runs where the server cannot: on any event loop, without uvloop and without Unix."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, sys
# On Unix asyncio itself imports fcntl.
sys.modules |= {"uvloop": None, "fcntl": None}
import orjson
from openred_central.client import Client, PrivateKey, TrustedKeys, Untrusted, verify_pair

async def main(port):
    async with Client(f"http://127.0.0.1:{port}", PrivateKey.generate_ed25519()) as node:
        print((await node.heartbeat())["heartbeat_advice_s"])

asyncio.run(main(sys.argv[1]))
vectors = orjson.loads(open(sys.argv[2], "rb").read())
keyset, pair = vectors["keyset"], vectors["pair"]
keys = TrustedKeys(keyset["root_kid"]).take(orjson.dumps(keyset["document"]), keyset["now"])
print(verify_pair(pair["token_a"], pair["token_b"], keys, pair["now"]).a.node_id)
try:
    verify_pair(pair["token_a"], pair["token_b_of_another_pair"], keys, pair["now"])
except Untrusted as error:
    print(error.reason)
server = {"api", "cli", "directory", "server", "settings", "storage", "tasks", "listening"}
print({name.split(".")[1] for name in sys.modules if name.startswith("openred_central.")} & server)
"""
VECTORS = Path(__file__).parents[2] / "openred_central" / "vectors.json"


async def test_client_needs_neither_uvloop_nor_unix_nor_the_server() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"heartbeat_advice_s":77}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(port), str(VECTORS)), stdout=subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(program.communicate(), 60)
    assert output.decode().splitlines() == ["77", "alice", "unlinked", "set()"]
