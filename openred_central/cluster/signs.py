"""Signs of life on their way to the leader, and up to when and with which knowledge they were heard. Pure."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ..directory.state.signs import SignColumns
from ..storage import frames

_HEAD: Final = struct.Struct("<dQ?")


class Signs(NamedTuple):
    """Signs of life that a worker heard; it knew all changes numbered up to `as_of`.

    `through_s`: with this message, all signs of life up to that attended time are delivered if `is_last`.
    """

    through_s: float
    as_of: int
    is_last: bool
    heard: SignColumns


def pack_signs(signs: Signs) -> bytes:
    """Return signs of life as bytes."""
    return _HEAD.pack(signs.through_s, signs.as_of, signs.is_last) + frames.pack_signs(signs.heard)


def unpack_signs(content: bytes) -> Signs:
    """Return the signs of life that `pack_signs` made bytes of. Raise `ValueError` for other bytes."""
    try:
        through_s, as_of, is_last = _HEAD.unpack_from(content)
    except struct.error as error:
        raise ValueError(f"signs of life of {len(content)} bytes: {error}") from error
    return Signs(through_s, as_of, is_last, frames.unpack_signs(content[_HEAD.size :]))
