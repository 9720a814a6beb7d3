"""Find what another copy of the directory lacks that a former copy knew to be saved. Pure.

Nothing is missing while the database keeps what it has acknowledged. It may go back to an earlier state, such
as that of a standby that lagged; then a process that loads the directory anew still knows what was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from .nodes import Nodes
from .state.node import hash_id

# Lost changes that are named; further ones are counted.
NAMED_MAX: Final = 1_000


class Loss(StrEnum):
    """A way to lose an acknowledged change of a node.

    `GONE`: the node is unknown. `OLDER`: its record is an earlier one. `BACK`: it had left or died.
    """

    GONE = "gone"
    OLDER = "older"
    BACK = "back"


class Lost(NamedTuple):
    """One node, of which an acknowledged change is lost."""

    node_id: str
    loss: Loss


class Losses:
    """All that a process knows to be lost: `total` in number, the first of them `named`."""

    def __init__(self) -> None:
        self.named: list[Lost] = []
        self.total = 0

    def note(self, former: Nodes, nodes: Nodes) -> int:
        """Note what `nodes` lack of `former`. Return how many that are."""
        count = 0
        for lost in lost_changes(former, nodes):
            count += 1
            if len(self.named) < NAMED_MAX:
                self.named.append(lost)
        self.total += count
        return count


def lost_changes(former: Nodes, nodes: Nodes) -> Iterator[Lost]:
    """Yield each node of which `nodes` lack what was saved from `former`; both number changes alike."""
    had, has = former.registry, nodes.registry
    for shard, (before, after) in enumerate(zip(had.shard_digests, has.shard_digests, strict=True)):
        if before == after:
            continue
        for node_id, slot in had.slots_in_shard(shard):
            if former.changes.is_noted(slot):
                # Nobody was told that it is saved.
                continue
            present, revision = has.slot_of(node_id), had.revision(slot)
            if present is not None:
                if has.revision(present) < revision:
                    yield Lost(node_id, Loss.OLDER)
            elif not _ended_since(nodes, node_id, revision):
                yield Lost(node_id, Loss.GONE)
        for node_id, slot in has.slots_in_shard(shard):
            ended = had.slot_of(node_id) is None and _ended_since(former, node_id, has.revision(slot))
            if ended and not former.changes.is_noted(hash_id(node_id)):
                yield Lost(node_id, Loss.BACK)


def _ended_since(nodes: Nodes, node_id: str, revision: int) -> bool:
    """Return whether a node left or died after the change of the number `revision`."""
    tombstone = nodes.tombstones.of_node(node_id)
    return tombstone is not None and tombstone.revision > revision
