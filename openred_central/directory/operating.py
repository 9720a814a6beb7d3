"""What an operator may do with one node: wake it, hold it, release it. To purge one is `Directory.forget`.

A node that is held is not moved on by silence, for as long as it takes; that is kept in its record, and so
outlives the server. A sign of life revives it as always, and its owner may still take it away.
"""

from __future__ import annotations

from ..clock import Now
from ..errors import CallerError
from .directory import Directory
from .life.crowding import UNHEARD_S
from .lifecycle import Event, State
from .state.node import HELD, LEFT


def wake(directory: Directory, node_id: str, now: Now) -> int:
    """Let a node count as heard, on an operator's word. Returns the number of the change.

    Raises `CallerError`: 404 ``node_not_found``, 410 ``node_dead``, 409 ``node_left`` for one that took its
    leave: only the node itself may take that back.
    """
    slot = directory.slot(node_id, now)
    if directory.nodes.registry.flags(slot) & LEFT:
        raise CallerError(
            409,
            "node_left",
            f"The node {node_id!r} left by its own word, and would be found again by being woken.",
            suggestion="Its own heartbeat brings it back.",
        )
    directory.expiry.sign_of_life(slot, Event.SIGN_OF_LIFE, now)
    return directory.nodes.changes.note(slot)


def hold(directory: Directory, node_id: str, now: Now) -> int:
    """Keep a node from being moved on by silence until `release`. Returns the number of the change.

    Raises `CallerError`: 404 ``node_not_found``, 410 ``node_dead``.
    """
    slot = directory.slot(node_id, now)
    record = directory.nodes.registry.record(slot)
    if record.flags & HELD:
        return directory.nodes.changes.note(slot)
    change = directory.nodes.rewrite(record._replace(flags=record.flags | HELD))
    directory.expiry.let_go(slot)
    return change


def release(directory: Directory, node_id: str, now: Now) -> int:
    """End a hold. Returns the number of the change.

    The time for which a node was held is not its silence: one whose tolerance ended meanwhile goes on from
    now, one that was silent already waits out its state anew.

    Raises `CallerError`: 404 ``node_not_found``, 410 ``node_dead``, 409 ``node_not_held``.
    """
    slot = directory.slot(node_id, now)
    record = directory.nodes.registry.record(slot)
    if not record.flags & HELD:
        raise CallerError(
            409,
            "node_not_held",
            f"The node {node_id!r} is not held, so there is nothing to release.",
            suggestion="GET /admin/nodes shows which nodes are held.",
        )
    record = record._replace(flags=record.flags & ~HELD)
    if record.state != State.ACTIVE:
        record = record._replace(since_s=now.attended_s)
    silent_s_max = min(directory.lifecycle.heartbeat_tolerance_s, UNHEARD_S)
    if record.last_seen_s + silent_s_max < now.attended_s:
        # As if it had announced to be away until now, also where nodes make room for others.
        away_from_s = record.away_from_s or record.last_seen_s
        away_until_s = max(record.away_until_s, now.attended_s)
        record = record._replace(away_from_s=away_from_s, away_until_s=away_until_s)
    return directory.nodes.rewrite(record)
