"""What was acknowledged of a record as 64 bits, one by one and by columns. Pure."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import partial
from operator import methodcaller

from .columns import RecordColumns
from .node import Record

DIGEST_MASK = (1 << 64) - 1
_DIGEST_NUMBERS = struct.Struct("<qBddd")


def record_digest(record: Record) -> int:
    """64 bits that stand for what was acknowledged of a record.

    State, last sign of life and history are left out: they follow from the record and attended time, and a
    store may lag behind in them without being wrong.
    """
    numbers = _DIGEST_NUMBERS.pack(
        record.revision, record.flags, record.registered_at, record.away_from_s, record.away_until_s
    )
    # UTF-8 never contains the byte between the parts, so no two records run together alike.
    parts = [record.node_id.encode(), record.services.encode(), record.region.encode(), record.profile]
    if record.generation or record.next_key:
        parts.append(b"%d,%b" % (record.generation, record.next_key.encode()))
    digest = hashlib.blake2b(b"\xff".join(parts) + b"\xff" + numbers, digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def record_digests(columns: RecordColumns) -> Sequence[int]:
    """The `record_digest` of each record, at two thirds of what they cost one by one."""
    numbers = map(
        _DIGEST_NUMBERS.pack,
        *(columns.revision, columns.flags, columns.registered_at, columns.away_from_s, columns.away_until_s),
    )
    profiles = columns.profile
    if any(columns.generation) or any(columns.next_key):
        profiles = [
            b"%b\xff%d,%b" % (profile, generation, next_key) if generation or next_key else profile
            for profile, generation, next_key in zip(
                profiles, columns.generation, columns.next_key, strict=True
            )
        ]
    parts = zip(columns.node_id, columns.services, columns.region, profiles, numbers, strict=True)
    hashes = map(partial(hashlib.blake2b, digest_size=8), map(b"\xff".join, parts))
    packed = b"".join(map(methodcaller("digest"), hashes))
    return struct.unpack(f"<{len(packed) // 8}Q", packed)
