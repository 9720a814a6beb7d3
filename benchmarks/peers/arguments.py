"""What every peer is told: where to listen, and with how many nodes it begins."""

from __future__ import annotations

import argparse
from typing import NamedTuple


class PeerOptions(NamedTuple):
    """`port` on loopback; `nodes` of the common population are registered from the beginning."""

    port: int
    nodes: int


def read_options() -> PeerOptions:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--nodes", type=int, default=1_000)
    given = parser.parse_args()
    return PeerOptions(given.port, given.nodes)
