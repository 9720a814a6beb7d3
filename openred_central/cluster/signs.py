"""Signs of life on the link: pages, and up to when and with which knowledge they were heard. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from ..directory.state.pages import PageRun, pack, unpack

_HEAD: Final = struct.Struct("<dQ?")
_PAGE: Final = struct.Struct("<II")


class Signs(NamedTuple):
    """Signs of life that a worker heard; it knew all changes numbered up to `as_of`.

    `through_s`: with this message, all signs of life up to that attended time are delivered if `is_last`.
    """

    through_s: float
    as_of: int
    is_last: bool
    pages: list[PageRun]


def pack_signs(through_s: float, as_of: int, runs: Iterable[PageRun], *, is_last: bool) -> bytes:
    """Return signs of life as bytes."""
    parts = [_HEAD.pack(through_s, as_of, is_last)]
    for run in runs:
        for number, page in zip(run.numbers, pack(run), strict=True):
            parts += (_PAGE.pack(number, len(page)), page)
    return b"".join(parts)


def unpack_signs(content: bytes) -> Signs:
    """Return the signs of life that `pack_signs` made bytes of. Raise `ValueError` for other bytes."""
    try:
        through_s, as_of, is_last = _HEAD.unpack_from(content)
        at, pages, view = _HEAD.size, list[PageRun](), memoryview(content)
        while at < len(content):
            number, length = _PAGE.unpack_from(content, at)
            at += _PAGE.size
            if at + length > len(content):
                raise ValueError(f"a page of {length} bytes, where {len(content) - at} are left")
            pages.append(unpack(number, view[at : at + length]))
            at += length
    except struct.error as error:
        raise ValueError(f"signs of life of {len(content)} bytes: {error}") from error
    return Signs(through_s, as_of, is_last, pages)
