"""The client of a node: it registers, sends heartbeats, finds peers, and proves its identity to all of them.

It runs on any asyncio event loop and imports neither uvloop nor the server. `Client` is where to begin, or
`BlockingClient` in a program without an event loop.
"""

from ..clock import Clock, SystemClock
from ..security.directory_keys.keyset import KeySet
from ..security.node_keys import InvalidKey
from ..security.signing import PrivateKey
from ..security.tokens.link import Pair
from .answers import BadAnswer, ClientError
from .blocking import BlockingClient
from .client import Client
from .connections import Address, Connections
from .errors import (
    ClockError,
    ConnectionFailed,
    ForeignAnswer,
    ProblemError,
    RetryLater,
    Untrusted,
)
from .peering import TrustedKeys, answer_challenge, check_answer, verify_pair
from .watching import NodeEvent

__all__ = [
    "Address",
    "BadAnswer",
    "BlockingClient",
    "Client",
    "ClientError",
    "Clock",
    "ClockError",
    "ConnectionFailed",
    "Connections",
    "ForeignAnswer",
    "InvalidKey",
    "KeySet",
    "NodeEvent",
    "Pair",
    "PrivateKey",
    "ProblemError",
    "RetryLater",
    "SystemClock",
    "TrustedKeys",
    "Untrusted",
    "answer_challenge",
    "check_answer",
    "verify_pair",
]
