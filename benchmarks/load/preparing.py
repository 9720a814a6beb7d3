"""What comes before a run: nodes are registered, and connections get their sessions."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from time import time

import orjson

from ..signers import ED25519
from .answers import AnswerReader
from .generator import LoadOptions
from .kinds import keys_needed, need_nodes, need_sessions
from .proofs import session_requests, signed_registrations
from .requests import registrations

# Answers arrive in any order, over so many connections at most.
CLIENTS_MAX = 64
SHOWN_CHARACTERS = 300
# Timers of the loop are a millisecond coarse.
AFTER_SECOND_S = 0.01

Told = Callable[[int], None]


class RefusedError(Exception):
    """The server does not do what has to be done before a run. The message says what it answered."""


async def register_nodes(options: LoadOptions, told: Told = lambda registered: None) -> dict[int, int]:
    """Register the nodes that the load speaks of; returns status → how many.

    Nodes that are there already stay as they are. Raises `OSError`.
    """
    target = options.target(random.Random(options.seed))
    statuses: Counter[int] = Counter()

    def heard(status: int, body: bytes) -> None:
        statuses[status] += 1
        told(statuses.total())

    if keys_needed(options.mix):
        # Times in signatures are whole seconds. That in which a server started is before its start.
        now_s = time()
        await asyncio.sleep(math.floor(now_s) + 1 - now_s + AFTER_SECOND_S)
    pending = chain(
        registrations(target, range(options.nodes)) if need_nodes(options.mix) else (),
        *(signed_registrations(target, kind) for kind in sorted(keys_needed(options.mix))),
    )
    await _ask_all(options, pending, heard)
    return dict(statuses)


def registered_number(options: LoadOptions) -> int:
    """How many nodes `register_nodes` registers."""
    return options.nodes * (need_nodes(options.mix) + len(keys_needed(options.mix)))


async def get_sessions(options: LoadOptions) -> dict[int, str]:
    """A session for each connection, by its number; none where the mix needs none.

    Raises `RefusedError` and `OSError`.
    """
    if not need_sessions(options.mix) or options.signers is None:
        return {}
    target = options.target(random.Random(options.seed))
    by_node: dict[str, str] = {}

    def heard(status: int, body: bytes) -> None:
        if status != 200:
            shown = body[:SHOWN_CHARACTERS].decode(errors="replace")
            raise RefusedError(f"the server grants no session, but answers {status}: {shown}")
        document = orjson.loads(body)
        by_node[document["node_id"]] = document["session"]

    await _ask_all(options, session_requests(target, options.connections), heard)
    return {
        connection: by_node[options.signers.node_id(ED25519, target.own_node(connection))]
        for connection in range(options.connections)
    }


async def _ask_all(
    options: LoadOptions, pending: Iterator[bytes], heard: Callable[[int, bytes], None]
) -> None:
    """Send all requests, and hear status and body of every answer."""

    async def client() -> None:
        reader, writer = await asyncio.open_connection(options.host, options.port)
        answers = AnswerReader()
        try:
            for request in pending:
                writer.write(request)
                while not (came := answers.feed(data := await reader.read(65_536))):
                    if not data:
                        raise ConnectionResetError("the server closed the connection")
                heard(came[0], answers.body)
        finally:
            writer.close()

    await asyncio.gather(*(client() for _ in range(min(options.connections, CLIENTS_MAX))))
