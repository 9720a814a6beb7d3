"""The kinds of requests that the load can send, by the names that a mix knows them by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ..signers import ED25519
from . import requests
from .proofs import SESSION_KINDS, SIGNED_KINDS, Sessions
from .requests import Source, Target

PLAIN_KINDS: dict[str, Callable[[Target], Source]] = {
    "heartbeat": requests.heartbeat,
    "own_heartbeat": requests.own_heartbeat,
    "discover": requests.discover,
    "register": requests.register,
    "look_up": requests.look_up,
    "root": requests.root,
    "announce": requests.announce,
}
KINDS = (*PLAIN_KINDS, *SESSION_KINDS, *SIGNED_KINDS)
_OF_NODES = {"heartbeat", "own_heartbeat", "discover", "look_up"}


def need_nodes(kinds: Collection[str]) -> bool:
    """Whether these kinds are of the usual nodes, whose keys nobody holds."""
    return not _OF_NODES.isdisjoint(kinds)


def need_sessions(kinds: Collection[str]) -> bool:
    """Whether these kinds need a session for each connection."""
    return not SESSION_KINDS.keys().isdisjoint(kinds)


def keys_needed(kinds: Collection[str]) -> set[str]:
    """Of which kinds the keys are with which these kinds of requests are proved."""
    signing = {key for kind, (key, _) in SIGNED_KINDS.items() if kind in kinds}
    return signing | ({ED25519} if need_sessions(kinds) else set())


def sources(kinds: Iterable[str], target: Target, sessions: Sessions) -> dict[str, Source]:
    """A source for each kind. `sessions` are those of the connections, where one needs them."""
    made: dict[str, Source] = {}
    for kind in kinds:
        if kind in SESSION_KINDS:
            made[kind] = SESSION_KINDS[kind](target, sessions)
        elif kind in SIGNED_KINDS:
            made[kind] = SIGNED_KINDS[kind][1](target)
        else:
            made[kind] = PLAIN_KINDS[kind](target)
    return made
