"""The client of a node: registers, beats, finds peers, and proves who it is; to a directory, and to peers.

It needs asyncio and nothing of the server. `Client` is where to begin; whatever goes with it is here, too.
"""

from ..clock import Clock, SystemClock, VirtualClock
from ..security.directory_keys.keyset import KeySet
from ..security.node_keys import InvalidKey
from ..security.signing import PrivateKey
from ..security.tokens.link import Pair
from .address import Address
from .client import Client
from .connections import Connections
from .errors import (
    BadAnswer,
    ClientError,
    ClockError,
    ConnectionFailed,
    ForeignAnswer,
    ProblemError,
    RetryLater,
    Untrusted,
)
from .peering import answer_challenge, check_answer, verify_pair
from .trust import TrustedKeys

__all__ = [
    "Address",
    "BadAnswer",
    "Client",
    "ClientError",
    "Clock",
    "ClockError",
    "ConnectionFailed",
    "Connections",
    "ForeignAnswer",
    "InvalidKey",
    "KeySet",
    "Pair",
    "PrivateKey",
    "ProblemError",
    "RetryLater",
    "SystemClock",
    "TrustedKeys",
    "Untrusted",
    "VirtualClock",
    "answer_challenge",
    "check_answer",
    "verify_pair",
]
