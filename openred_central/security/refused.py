"""Why a token, a pair, a proof of possession or a key set is not accepted."""

from __future__ import annotations

# A pair token of the longest suite has about 5,400 characters, with ids as long as they may be 6,000.
TOKEN_CHARS_MAX = 8_192
# No token lives longer, in seconds.
LIFETIME_S_MAX = 3_600
# How far the clocks of the directory and of a peer may lie apart.
CLOCK_SKEW_S = 30


class Refused(Exception):
    """Something signed that is not what it should be.

    `reason` is the stable name of what is wrong, such as ``expired``; `message` tells a person.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
