"""The client of a node: registers, beats, finds peers, and proves who it is; to a directory, and to peers.

It needs asyncio and nothing of the server. `Client` is where to begin.
"""

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
    "ClockError",
    "ConnectionFailed",
    "Connections",
    "ForeignAnswer",
    "ProblemError",
    "RetryLater",
    "TrustedKeys",
    "Untrusted",
    "answer_challenge",
    "check_answer",
    "verify_pair",
]
