"""Resident memory of an idle server, of a connection, of a node."""

from __future__ import annotations

import subprocess
import sys

import orjson
import uvloop

from .. import machine
from ..load.generator import Generator
from ..load.requests import LoadOptions
from ..load.running import register_nodes
from ..population import document
from . import contestants
from .contestants import CONTESTANTS
from .inprocess import run_alone
from .samples import Bench, Subject
from .servers import Running, ask

IDLE_CASE = "memory of an idle server above `import uvloop`"
CONNECTION_CASE = "memory of an idle connection"
FRESH, REGISTERED = "ours, just started", "ours, after the first registration"
OPENED = "ours, its own keys open"
ALONE, LOADED = "a directory alone", "a server that has loaded them"
CONNECTIONS = 2_000
WARM_UP_NODES = 1_000
MB = 1e6


def node_case(nodes: int) -> str:
    return f"memory of a node among {nodes:,}"


def registered_case(nodes: int) -> str:
    return f"memory of each of {nodes:,} nodes that register over HTTP"


def measure(bench: Bench) -> None:
    """Measure all of them, smallest first."""
    bench.log("memory, idle and of connections")
    for _ in range(min(bench.effort.rounds, 3)):
        bare_bytes = _import_bytes(bench)
        with bench.site.server(contestants.OURS) as server:
            _idle(bench, FRESH, server.settled_bytes() - bare_bytes)
            ask(server.port, "POST", "/register", orjson.dumps(document(0)))
            _idle(bench, REGISTERED, server.settled_bytes() - bare_bytes)
            server.open_keys()
            _idle(bench, OPENED, server.settled_bytes() - bare_bytes)
        for name in (
            contestants.OURS,
            contestants.BARE,
            contestants.GRANIAN,
            contestants.AIOHTTP,
            contestants.FASTAPI,
        ):
            if not CONTESTANTS[name].missing():
                with bench.site.server(name) as server:
                    # Load what the first request loads, so that it does not count for connections.
                    ask(server.port, "POST", "/heartbeat/node-0000000000")
                    if name == contestants.OURS:
                        server.open_keys()
                    _connections(bench, name, server)
    for nodes in filter(None, (bench.effort.usual, bench.effort.large)):
        _nodes(bench, nodes)
    _registered(bench)


def _idle(bench: Bench, name: str, grown_bytes: int) -> None:
    bench.samples.add(Subject(IDLE_CASE, name), mb=grown_bytes / MB)


def _import_bytes(bench: Bench) -> int:
    """Return the resident memory of a Python that has imported uvloop."""
    waiting = "import uvloop, sys; sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"
    with machine.on_cores(bench.site.cores.server):
        process = subprocess.Popen(
            [sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    with process:
        assert process.stdout is not None
        process.stdout.read(1)
        # The end of the block closes its standard input, which ends it.
        return machine.resident_bytes([process.pid])


def _connections(bench: Bench, name: str, server: Running) -> None:
    """Measure the memory of many idle connections."""

    async def grown_bytes() -> float:
        options = LoadOptions("127.0.0.1", server.port, {"heartbeat": 1}, idle_connections=CONNECTIONS)
        before_bytes = server.settled_bytes()
        generator = Generator(options._replace(connections=0), lambda second: None)
        await generator.connect()
        after_bytes = server.settled_bytes()
        generator.close()
        return (after_bytes - before_bytes) / CONNECTIONS

    bench.samples.add(Subject(CONNECTION_CASE, name), bytes_each=uvloop.run(grown_bytes()))


def _nodes(bench: Bench, nodes: int) -> None:
    """Measure the memory of so many nodes: in a directory alone, and in a server that has loaded them."""
    bench.log(node_case(nodes))
    alone = run_alone(bench.site.cores, "memory", nodes)
    bench.samples.add(Subject(node_case(nodes), ALONE), bytes_each=alone["bytes_each"])
    with bench.site.server(contestants.OURS) as empty:
        empty.open_keys()
        empty_bytes = empty.settled_bytes()
    with bench.site.server(contestants.OURS, nodes) as server:
        server.open_keys()
        grown_bytes = server.settled_bytes() - empty_bytes
        bench.samples.add(Subject(node_case(nodes), LOADED), bytes_each=grown_bytes / nodes)


def _registered(bench: Bench) -> None:
    """Measure by how much a server grows for each node that registers over HTTP."""
    nodes = bench.effort.registered
    bench.log(registered_case(nodes))
    with bench.site.server(contestants.OURS) as server:
        options = LoadOptions("127.0.0.1", server.port, {"heartbeat": 1}, nodes=WARM_UP_NODES)
        server.open_keys()
        # First what the first registrations load, so that it does not count for nodes.
        register_nodes(options)
        before_bytes = server.settled_bytes()
        register_nodes(options._replace(nodes=WARM_UP_NODES + nodes))
        grown_bytes = server.settled_bytes() - before_bytes
    subject = Subject(registered_case(nodes), contestants.OURS)
    bench.samples.add(subject, bytes_each=grown_bytes / nodes)
