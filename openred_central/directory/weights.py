"""How many bytes of memory a record takes, about: what others choose has to be bounded.

The columns, the same few bytes for every node, are bounded by the number of nodes and not counted here.
"""

from __future__ import annotations

# A service set holds its names joined and one by one; each name stands besides in a set, in the table of
# names that are kept once, and in the service index.
SET_BYTES_PER_CHARACTER = 2
SET_BYTES_PER_NAME = 300


def text_bytes(node_id: str, profile: bytes, history: str, next_key: str) -> int:
    """The bytes of these fields of a `Record`, of which no two nodes share any."""
    return len(node_id) + len(profile) + len(history) + len(next_key)


def set_bytes(services: str, region: str) -> int:
    """The bytes of one set of services in one region, however many nodes share it."""
    names = services.count(",") + bool(services)
    return SET_BYTES_PER_CHARACTER * (len(services) + len(region)) + SET_BYTES_PER_NAME * names
