"""How many file descriptors the process may have open, and how many connections there is room for."""

from __future__ import annotations

import contextlib
import logging
import resource
from dataclasses import replace
from typing import Final

from ..micro_engine.limits import EngineLimits

# The descriptors beside those of connections and probes: 64 of operators, those turned away at both
# listeners, which are kept open for a moment, and the database, snapshots, keys, listeners, the log and the
# loop's own.
BESIDE: Final = 256

log = logging.getLogger("openred.server")


def needed(connections_max: int, probes_max: int) -> int:
    """How many descriptors a server needs that has so many connections, and asks so many nodes at once."""
    return connections_max + probes_max + BESIDE


def room(descriptors_max: int, connections_max: int, probes_max: int) -> int:
    """How many connections there is room for, at least one, where `descriptors_max` may be open."""
    left = descriptors_max - needed(0, probes_max)
    # Where what is to be left for others is nearly all that there is, connections have a quarter of it.
    return max(1, min(connections_max, max(left, descriptors_max // 4)))


def make_room(limits: EngineLimits, probes_max: int) -> EngineLimits:
    """Have the system allow as many descriptors as `limits` need, as far as it lets us.

    Returns `limits`, with fewer connections where there is no room for them; the log says so.
    """
    wanted = needed(limits.connections_max, probes_max)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _finite(soft) < min(wanted, _finite(hard)):
        # A system may refuse this, too: what counts is what it then allows.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, _finite(hard)), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections_max = room(_finite(soft), limits.connections_max, probes_max)
    if connections_max == limits.connections_max:
        return limits
    log.warning(
        "the system allows %d open files, and %d connections need %d: no more than %d connections are "
        "accepted; raise the limit (LimitNOFILE of the unit, ulimit -n) or lower OPENRED_CONNECTIONS_MAX",
        soft,
        limits.connections_max,
        wanted,
        connections_max,
    )
    return replace(
        limits,
        connections_max=connections_max,
        connections_per_address_max=min(limits.connections_per_address_max, connections_max),
    )


def _finite(limit: int) -> int:
    """`limit`, as a number that is larger than any need where there is none."""
    return 2**31 if limit == resource.RLIM_INFINITY else limit
